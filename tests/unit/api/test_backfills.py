"""Backfills over HTTP."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx2
import pytest

from orchestrator.api import backfills
from orchestrator.backfill.model import Progress
from orchestrator.backfill.records import Key, Record, standing
from orchestrator.backfill.steering import Adjustment, Scope
from tests.unit.api.fake import FakeOrchestrator
from tests.unit.api.fake_backfills import LAG, START, underway

PLACE = "/api/v1/backfills"
WHY = {"reason": "month-end"}


async def test_a_backfill_is_shown_with_all_that_is_known(client: httpx2.AsyncClient, fake: FakeOrchestrator) -> None:
    fake.backfills.records = [standing(underway(holds=(LAG,)))]
    page = (await client.get(PLACE)).json()
    assert page["next_cursor"] is None
    [one] = page["items"]
    assert one | {"holds": []} == {
        "rollout": "r001",
        "tenant": "acme",
        "track": "app",
        "shard": "pg-1",
        "revision": "b2",
        "direction": "upgrade",
        "ordinal": 1,
        "kind": "set",
        "table": "tickets",
        "key": ["id"],
        "state": "held",
        "reason": None,
        "holds": [],
        "rows_seen": 250,
        "rows_changed": 200,
        "rows_estimated": 1000,
        "ratio": 0.25,
        "rows_per_second": 95.5,
        "eta_seconds": 7.85,
        "batch_size": 800,
        "sweep": 0,
        "last_key": "[250]",
        "dead_rows": 7,
        "vacuuming": None,
        "started_at": "2026-11-21T02:00:00.000Z",
        "updated_at": "2026-11-21T02:00:00.000Z",
        "finished_at": None,
    }
    [hold] = one["holds"]
    assert (hold["reason"], hold["since"]) == ("replication_lag", "2026-11-21T02:00:00.000Z")
    assert "hunter2" not in hold["text"]


async def test_listings_are_filtered_and_paged(client: httpx2.AsyncClient, fake: FakeOrchestrator) -> None:
    stopped = Record(underway("beta"), "stopped", "drained", START)
    fake.backfills.records = [standing(underway(f"t{n}")) for n in range(5)] + [stopped]
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await client.get(PLACE, params={"limit": 2, **cursor})).json()
        seen += [one["tenant"] for one in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert seen == ["beta", "t0", "t1", "t2", "t3", "t4"]
    [one] = (await client.get(PLACE, params={"state": "stopped"})).json()["items"]
    assert (one["tenant"], one["reason"], one["rows_seen"]) == ("beta", "drained", 250)
    asked = {"tenant": "t3", "shard": "pg-1", "track": "app", "revision": "b2", "rollout": "r001"}
    assert [one["tenant"] for one in (await client.get(PLACE, params=asked)).json()["items"]] == ["t3"]
    assert (await client.get(PLACE, params={**asked, "revision": "b3"})).json()["items"] == []


@pytest.mark.parametrize(
    "query",
    [
        {"state": "lost"},
        {"cursor": "x"},
        {"cursor": "WyJiYWNrZmlsbHMiLCAiW10iXQ"},  # ["backfills", "[]"]
        {"cursor": backfills.encode(Key("r", "a\0", "app", "b2", "upgrade", 1))},
        {"cursor": backfills.encode(Key("r", "a", "app", "b2", "upgrade", 2**40))},
        {"nope": "1"},
    ],
)
async def test_what_cannot_be_asked_is_refused(client: httpx2.AsyncClient, query: dict[str, str]) -> None:
    answer = await client.get(PLACE, params=query)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"].startswith(f"query.{next(iter(query))}")


async def test_the_fleet_is_summed_up_by_revision(client: httpx2.AsyncClient, fake: FakeOrchestrator) -> None:
    done = replace(underway("c"), progress=Progress(True, 500, 400, 500), rows_per_second=None, eta_seconds=None)
    fake.backfills.records = [
        standing(underway("a")),
        standing(underway("b", holds=(LAG,), rows_per_second=None, eta_seconds=None)),
        Record(done, "finished", None, START),
    ]
    await client.post(f"{PLACE}/pause", json={"shard": "pg-1", **WHY})
    told = (await client.get(f"{PLACE}/summary")).json()
    [one] = told["revisions"]
    assert one["states"] == {"running": 1, "held": 1, "stopped": 0, "finished": 1}
    assert (one["rows_seen"], one["rows_changed"], one["rows_estimated"], one["ratio"]) == (1000, 800, 2500, 0.4)
    assert (one["rows_per_second"], one["holds"]) == (95.5, {"replication_lag": 1})
    assert one["eta_seconds"] == pytest.approx(1500 / 95.5)
    [order] = told["orders"]
    scope = {"rollout": None, "shard": "pg-1", "tenant": None, "revision": None}
    assert (order["action"], order["scope"], order["reason"], order["adjustment"]) == (
        "pause",
        scope,
        "month-end",
        None,
    )


@pytest.mark.parametrize("action", ["pause", "resume", "abort"])
async def test_an_order_says_how_many_it_concerns_now(
    client: httpx2.AsyncClient, fake: FakeOrchestrator, action: str
) -> None:
    body = {"tenant": "acme", "revision": "b2", **WHY}
    if action == "resume":
        await client.post(f"{PLACE}/pause", json=body)
    answer = await client.post(f"{PLACE}/{action}", json=body, headers={"X-Requested-By": "anna"})
    assert (answer.status_code, answer.json()["count"], answer.json()["action"]) == (200, 1, action)
    order = fake.backfills.orders[-1]
    assert (order.scope, order.action, order.reason) == (Scope(tenant="acme", revision="b2"), action, "month-end")
    assert order.by.endswith("anna")


async def test_a_resume_says_what_stays_paused_and_by_which_order(client: httpx2.AsyncClient) -> None:
    for scope in ({"shard": "pg-1"}, {"tenant": "acme"}):
        await client.post(f"{PLACE}/pause", json={**scope, **WHY}, headers={"X-Requested-By": "anna"})
    told = (await client.post(f"{PLACE}/resume", json={"tenant": "acme", **WHY})).json()
    assert (told["count"], told["holds"]) == (0, {"paused": 1})
    assert [one["scope"]["tenant"] for one in told["taken_back"]] == ["acme"]
    assert [(one["scope"]["shard"], one["reason"]) for one in told["paused_by"]] == [("pg-1", "month-end")]
    assert "anna" in told["paused_by"][0]["by"]
    told = (await client.post(f"{PLACE}/resume", json={"all": True, **WHY})).json()
    assert (told["count"], told["holds"], told["paused_by"], len(told["taken_back"])) == (1, {}, [], 1)


async def test_an_adjustment_is_taken_as_it_is_said(client: httpx2.AsyncClient, fake: FakeOrchestrator) -> None:
    said = {"rows_per_second": 0, "duty": 0.5, "batch_size": 500.0, "thresholds": {"active_sessions": 12}}
    answer = await client.post(f"{PLACE}/adjust", json={"all": True, **WHY, **said})
    assert answer.status_code == 200, answer.text
    assert answer.json()["adjustment"] == said
    assert (await client.post(f"{PLACE}/adjust", json={"shard": "pg-1", **WHY, "reset": True})).status_code == 200
    first, second = fake.backfills.orders
    assert (first.scope, first.adjustment) == (Scope(), Adjustment(0, 0.5, 500, {"active_sessions": 12}))
    assert (second.scope, second.adjustment) == (Scope(shard="pg-1"), Adjustment())


@pytest.mark.parametrize(
    ("action", "body", "field"),
    [
        ("pause", {**WHY}, "body.all"),
        ("pause", {"all": False, **WHY}, "body.all"),
        ("abort", {"all": True, "shard": "pg-1", **WHY}, "body.all"),
        ("pause", {"shard": "pg-1"}, "body.reason"),
        ("pause", {"shard": "", **WHY}, "body.shard"),
        ("pause", {"shard": "pg-1", "duty": 0.5, **WHY}, "body.duty"),
        ("resume", {"tenants": "acme", **WHY}, "body.tenants"),
        ("adjust", {"shard": "pg-1", **WHY}, "body.reset"),
        ("adjust", {"shard": "pg-1", "reset": True, "duty": 0.5, **WHY}, "body.reset"),
        ("adjust", {"duty": 0.5, **WHY}, "body.all"),
        ("adjust", {"shard": "pg-1", "duty": 0, **WHY}, "body.duty"),
        ("adjust", {"shard": "pg-1", "duty": 1.5, **WHY}, "body.duty"),
        ("adjust", {"shard": "pg-1", "batch_size": 0, **WHY}, "body.batch_size"),
        ("adjust", {"shard": "pg-1", "batch_size": 1.5, **WHY}, "body.batch_size"),
        ("adjust", {"shard": "pg-1", "rows_per_second": -1, **WHY}, "body.rows_per_second"),
        ("adjust", {"shard": "pg-1", "thresholds": {"lag": "3"}, **WHY}, "body.thresholds.lag"),
    ],
)
async def test_a_wrong_order_is_refused_with_the_field_and_nothing_is_done(
    client: httpx2.AsyncClient, fake: FakeOrchestrator, action: str, body: dict[str, Any], field: str
) -> None:
    answer = await client.post(f"{PLACE}/{action}", json=body)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert fake.backfills.orders == []


async def test_a_shard_that_there_is_not_is_named(client: httpx2.AsyncClient) -> None:
    answer = await client.post(f"{PLACE}/pause", json={"shard": "pg-9", **WHY})
    assert answer.status_code == 422
    assert "pg-9" in answer.json()["detail"]
    assert "pg-1" in answer.json()["remedy"]
