"""Schedules, the freeze and overridden windows over HTTP."""

from __future__ import annotations

import httpx2

from orchestrator.rollout.state import Request
from tests.unit.api.fake import FakeOrchestrator

ANNA = {"X-Requested-By": "anna"}


async def test_schedules_are_listed_with_their_next_runs(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/api/v1/schedules", params={"upcoming": 2})
    (one,) = answer.json()["items"]
    assert answer.json()["next_cursor"] is None
    assert (one["name"], one["cron"], one["timezone"]) == ("nightly", "0 2 * * *", "Europe/Berlin")
    assert one["next_runs"] == ["2026-11-22T01:00:00.000Z", "2026-11-23T01:00:00.000Z"]


async def test_a_disabled_schedule_has_no_next_run_and_says_who_it_was(client: httpx2.AsyncClient) -> None:
    answer = (await client.post("/api/v1/schedules/nightly/disable", headers=ANNA)).json()
    assert (answer["enabled"], answer["next_runs"], answer["switched_by"]) == (False, [], "anna")
    answer = (await client.post("/api/v1/schedules/nightly/enable", headers=ANNA)).json()
    assert answer["enabled"]
    assert len(answer["next_runs"]) == 5


async def test_a_run_now_says_what_it_came_to(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/api/v1/schedules/nightly/run", headers=ANNA)
    assert answer.status_code == 200
    assert (answer.json()["outcome"], answer.json()["rollout"], answer.json()["by"]) == ("started", "r001", "anna")
    shown = (await client.get("/api/v1/schedules/nightly", params={"upcoming": 0})).json()
    assert [run["outcome"] for run in shown["runs"]] == ["started"]


async def test_a_schedule_that_is_not_there_is_404(client: httpx2.AsyncClient) -> None:
    for method, path in (("GET", ""), ("POST", "/run"), ("POST", "/enable"), ("POST", "/disable")):
        answer = await client.request(method, f"/api/v1/schedules/nightl{path}")
        assert answer.status_code == 404
        assert answer.json()["remedy"] == "did you mean 'nightly'?"


async def test_a_freeze_is_set_shown_and_lifted(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/api/v1/freeze")).json()["frozen"] is False
    answer = await client.post("/api/v1/freeze", json={"reason": "incident 7"}, headers=ANNA)
    assert (answer.status_code, answer.json()["by"], answer.json()["reason"]) == (200, "anna", "incident 7")
    assert answer.json()["since"] == "2026-11-21T02:00:00.000Z"
    for _ in range(2):  # the second finds nothing to lift
        answer = await client.delete("/api/v1/freeze")
        assert (answer.status_code, answer.json()["frozen"]) == (200, False)


async def test_a_freeze_needs_a_reason(client: httpx2.AsyncClient) -> None:
    for body in ({}, {"reason": ""}, {"reason": "x", "until": "noon"}):
        assert (await client.post("/api/v1/freeze", json=body)).status_code == 422


async def test_windows_are_overridden_with_a_reason(client: httpx2.AsyncClient, fake: FakeOrchestrator) -> None:
    rollout = fake.add(Request("app", "head")).id
    assert (await client.post(f"/api/v1/rollouts/{rollout}/override", json={})).status_code == 422
    answer = await client.post(f"/api/v1/rollouts/{rollout}/override", json={"reason": "CVE"}, headers=ANNA)
    assert answer.json()["override"] == {"by": "anna", "reason": "CVE", "at": "2026-11-21T02:00:00.000Z"}
