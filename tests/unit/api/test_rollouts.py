from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx2
import pytest

from orchestrator.rollout.state import Failure, MigrationState, Request, RolloutState
from tests.unit.api.fake import START, FakeOrchestrator, registry, target

ASKED = {"track": "app", "to": "head"}


async def test_starting_answers_201_with_the_rollout(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/api/v1/rollouts", json=ASKED | {"select": "tier=free", "strategy": "canary"})
    assert answer.status_code == 201
    assert answer.headers["location"] == "/api/v1/rollouts/r001"
    counts = dict.fromkeys(MigrationState, 0) | {"pending": 2}
    assert answer.json() == {
        "id": "r001",
        "track": "app",
        "to": "head",
        "state": "running",
        "reason": None,
        "strategy": "canary",
        "select": "tier=free",
        "direction": "upgrade",
        "goal": ["b2"],
        "goals": {"app": ["b2"]},
        "plan_digest": None,
        "created_at": "2026-11-21T02:00:01.000Z",
        "started_at": "2026-11-21T02:00:01.250Z",
        "finished_at": None,
        "created_by": "http",
        "waiting": None,
        "waves": [
            {
                "name": "everyone",
                "total": 2,
                "counts": counts,
                "state": "pending",
                "started_at": None,
                "ended_at": None,
                "passed_at": None,
                "soak_seconds": 0.0,
                "approval": False,
                "approved_at": None,
                "approved_by": None,
                "checks": [],
            }
        ],
        "counts": counts,
        "total": 2,
        "coverage": {"planned": 2, "accounted": 2, "holds": True},
        "eta_seconds": 12.5,
        "failures": [],
        "executions": {},
        "backfills": [],
        "irreversible": {},
        "schedule": None,
        "override": None,
        "not_reversible": None,
        "trace_id": None,
    }


async def test_a_dry_run_previews_and_changes_nothing(client: httpx2.AsyncClient, fake: FakeOrchestrator) -> None:
    answer = await client.post("/api/v1/rollouts", json=ASKED | {"dry_run": True})
    assert answer.status_code == 200
    assert answer.json() == {
        "dry_run": True,
        "track": "app",
        "to": "head",
        "direction": "upgrade",
        "total": 2,
        "groups": [
            {
                "track": "app",
                "heads": ["a1"],
                "state": "behind",
                "steps": ["b2"],
                "count": 2,
                "tenants": ["acme", "globex"],
                "problem": None,
                "irreversible": {},
            }
        ],
    }
    assert fake.held == {}


async def test_a_digest_is_part_of_what_is_asked_for(client: httpx2.AsyncClient) -> None:
    digest, headers = "a" * 40, {"Idempotency-Key": "release-7"}
    first = await client.post("/api/v1/rollouts", json=ASKED | {"plan_digest": digest}, headers=headers)
    assert (first.status_code, first.json()["plan_digest"]) == (201, digest)
    again = await client.post("/api/v1/rollouts", json=ASKED | {"plan_digest": digest}, headers=headers)
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    for other in (ASKED | {"plan_digest": "b" * 40}, ASKED):
        refused = await client.post("/api/v1/rollouts", json=other, headers=headers)
        assert (refused.status_code, refused.json()["type"]) == (422, "urn:orchestrator:problem:idempotency-key-reused")


async def test_the_same_key_answers_with_the_same_rollout(client: httpx2.AsyncClient, fake: FakeOrchestrator) -> None:
    headers = {"Idempotency-Key": "release-7"}
    first = await client.post("/api/v1/rollouts", json=ASKED, headers=headers)
    second = await client.post("/api/v1/rollouts", json=ASKED, headers=headers)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()
    assert len(fake.held) == 1


async def test_the_same_key_for_something_else_is_refused(client: httpx2.AsyncClient) -> None:
    headers = {"Idempotency-Key": "release-7"}
    await client.post("/api/v1/rollouts", json=ASKED, headers=headers)
    answer = await client.post("/api/v1/rollouts", json=ASKED | {"direction": "downgrade"}, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["type"] == "urn:orchestrator:problem:idempotency-key-reused"
    assert answer.json()["rollout"] == "r001"


async def test_a_second_rollout_over_held_targets_names_the_first(client: httpx2.AsyncClient) -> None:
    await client.post("/api/v1/rollouts", json=ASKED)
    answer = await client.post("/api/v1/rollouts", json=ASKED)
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "request_id": answer.headers["x-request-id"],
        "type": "urn:orchestrator:problem:targets-held",
        "title": "Another active rollout holds some of the targets.",
        "status": 409,
        "detail": "rollout r001 holds 2 of the targets",
        "remedy": "wait for r001, or abort it",
        "rollout": "r001",
        "targets": ["acme/app", "globex/app"],
    }


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"track": "app"}, "body.to"),
        (ASKED | {"to": ""}, "body.to"),
        (ASKED | {"to": 7}, "body.to"),
        (ASKED | {"to": True}, "body.to"),
        (ASKED | {"to": None}, "body.to"),
        (ASKED | {"to": "a\x00b"}, "body.to"),
        (ASKED | {"to": "x" * 201}, "body.to"),
        (ASKED | {"selct": "tier=free"}, "body.selct"),
        (ASKED | {"dry_run": 1}, "body.dry_run"),
        (ASKED | {"dry_run": "true"}, "body.dry_run"),
        (ASKED | {"direction": "sideways"}, "body.direction"),
        (ASKED | {"direction": True}, "body.direction"),
        (ASKED | {"plan_digest": "sha256:1"}, "body.plan_digest"),
        ([ASKED], "body"),
        (None, "body"),
    ],
)
async def test_a_request_that_is_not_exact_is_refused(
    body: Any, field: str, client: httpx2.AsyncClient, fake: FakeOrchestrator
) -> None:
    answer = await client.post("/api/v1/rollouts", json=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert fake.held == {}


async def test_text_that_is_no_text_is_refused(client: httpx2.AsyncClient) -> None:
    for body in ('{"track": "app", "to": "\\ud800"}', '{"track": "app", "to": "head", "\\ud800": 1}'):
        answer = await client.post("/api/v1/rollouts", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422, answer.text


@pytest.mark.parametrize("key", ["", " ", "x" * 201, "a b"])
async def test_an_idempotency_key_is_one_word(key: str, client: httpx2.AsyncClient) -> None:
    answer = await client.post("/api/v1/rollouts", json=ASKED, headers={"Idempotency-Key": key})
    assert answer.status_code == 422


async def test_listing_pages_through_everything_newest_first(
    client: httpx2.AsyncClient, fake: FakeOrchestrator
) -> None:
    for _ in range(5):
        fake.add(Request("app", "head"), targets=[])
    pages = [page async for page in paged(client, "/api/v1/rollouts", limit=2)]
    assert [[it["id"] for it in page] for page in pages] == [["r005", "r004"], ["r003", "r002"], ["r001"]]


async def test_listing_by_state(client: httpx2.AsyncClient, fake: FakeOrchestrator) -> None:
    for _ in range(3):
        fake.add(Request("app", "head"), targets=[])
    fake.change("r002", RolloutState.PAUSED)
    fake.change("r003", RolloutState.ABORTED)
    answer = await client.get("/api/v1/rollouts", params={"state": ["paused", "aborted"]})
    assert [it["id"] for it in answer.json()["items"]] == ["r003", "r002"]


async def test_a_rollout_tells_its_failures_by_cause(client: httpx2.AsyncClient, fake: FakeOrchestrator) -> None:
    fake.add(Request("app", "head"))
    failure = Failure("failed", "postgresql://u:hunter2@db: exists", code="42P07", revision="b2", statement="CREATE")
    for position in (0, 1):
        fake.put("r001", position, state=MigrationState.FAILED, failure=failure)
    told = (await client.get("/api/v1/rollouts/r001")).json()
    assert told["counts"]["failed"] == 2
    assert told["failures"] == [
        {
            "signature": failure.signature,
            "count": 2,
            "example": {
                "kind": "failed",
                "code": "42P07",
                "revision": "b2",
                "message": "postgresql://u:***@db: exists",
                "remedy": None,
                "signature": failure.signature,
            },
            "tenants": ["acme", "globex"],
        }
    ]


async def test_a_migration_tells_what_happened_to_its_target(
    client: httpx2.AsyncClient, fake: FakeOrchestrator
) -> None:
    fake.add(Request("app", "head"))
    fake.put(
        "r001",
        0,
        state=MigrationState.SUCCEEDED,
        attempts=2,
        from_heads=(),
        to_heads=("b2",),
        steps=2,
        started_at=START,
        finished_at=START + timedelta(seconds=1.5),
    )
    fake.put("r001", 1, state=MigrationState.LOCKED, failure=Failure("locked", "held by pid 7", remedy="wait"))
    first, second = (await client.get("/api/v1/rollouts/r001/migrations")).json()["items"]
    assert first == {
        "tenant": "acme",
        "track": "app",
        "shard": "pg-1",
        "wave": "everyone",
        "state": "succeeded",
        "attempts": 2,
        "from": [],
        "to": ["b2"],
        "steps": 2,
        "execution": None,
        "error": None,
        "started_at": "2026-11-21T02:00:00.000Z",
        "finished_at": "2026-11-21T02:00:01.500Z",
        "duration_seconds": 1.5,
    }
    assert (second["from"], second["to"], second["duration_seconds"]) == (None, None, None)
    assert second["error"] == {
        "kind": "locked",
        "code": None,
        "revision": None,
        "message": "held by pid 7",
        "remedy": "wait",
        "signature": "locked",
    }


async def test_migrations_are_paged_and_filtered(client: httpx2.AsyncClient, fake: FakeOrchestrator) -> None:
    fake.registry = registry(*(target(f"t{n}") for n in range(7)))
    fake.add(Request("app", "head"))
    for position in (1, 3, 5):
        fake.put("r001", position, state=MigrationState.FAILED)
    pages = [page async for page in paged(client, "/api/v1/rollouts/r001/migrations", limit=3)]
    assert [[it["tenant"] for it in page] for page in pages] == [["t0", "t1", "t2"], ["t3", "t4", "t5"], ["t6"]]
    failed = [page async for page in paged(client, "/api/v1/rollouts/r001/migrations", limit=2, state="failed")]
    assert [[it["tenant"] for it in page] for page in failed] == [["t1", "t3"], ["t5"]]


async def test_no_rollout_is_not_a_rollout_without_migrations(
    client: httpx2.AsyncClient, fake: FakeOrchestrator
) -> None:
    fake.add(Request("app", "head"), targets=[])
    assert (await client.get("/api/v1/rollouts/r001/migrations")).json() == {"items": [], "next_cursor": None}
    assert (await client.get("/api/v1/rollouts/nope/migrations")).status_code == 404


async def test_steering(client: httpx2.AsyncClient, fake: FakeOrchestrator) -> None:
    fake.add(Request("app", "head"))
    for verb, state in [("pause", "paused"), ("resume", "running"), ("abort", "aborted")]:
        answer = await client.post(f"/api/v1/rollouts/r001/{verb}")
        assert answer.status_code == 200
        assert answer.json()["state"] == state
        assert answer.json()["reason"].endswith("by http")
    answer = await client.post("/api/v1/rollouts/r001/pause")
    assert (answer.status_code, answer.json()["detail"]) == (409, "rollout r001 is aborted")


async def test_retrying(client: httpx2.AsyncClient, fake: FakeOrchestrator) -> None:
    fake.add(Request("app", "head"))
    fake.put("r001", 0, state=MigrationState.FAILED)
    fake.change("r001", RolloutState.FAILED)
    told = (await client.post("/api/v1/rollouts/r001/retry")).json()
    assert (told["state"], told["counts"]["pending"]) == ("running", 2)


async def test_a_gate_is_approved_by_name(client: httpx2.AsyncClient, fake: FakeOrchestrator) -> None:
    fake.add(Request("app", "head"))
    fake.change("r001", RolloutState.AWAITING_APPROVAL)
    asked = client.post("/api/v1/rollouts/r001/approve", json={"wave": "tenth"}, headers={"X-Requested-By": "anna"})
    assert (await asked).json()["reason"] == "wave tenth approved by anna"
    assert (await client.post("/api/v1/rollouts/r001/approve")).status_code == 409


async def test_an_abort_may_be_forced(client: httpx2.AsyncClient, fake: FakeOrchestrator) -> None:
    fake.add(Request("app", "head"))
    told = (await client.post("/api/v1/rollouts/r001/abort", json={"force": True})).json()
    assert told["reason"] == "aborted by force by http"


async def test_what_was_changed_is_taken_back(client: httpx2.AsyncClient, fake: FakeOrchestrator) -> None:
    fake.add(Request("app", "head"))
    assert (await client.post("/api/v1/rollouts/r001/rollback")).json()["state"] == "rolled_back"


async def test_a_tenant_is_left_out_with_a_reason(client: httpx2.AsyncClient, fake: FakeOrchestrator) -> None:
    fake.add(Request("app", "head"))
    tenant = fake.work["r001"][0].tenant
    place = "/api/v1/rollouts/r001/skip"
    told = (await client.post(place, json={"tenant": tenant, "reason": "they move out"})).json()
    assert (told["counts"]["skipped"], told["reason"]) == (1, "they move out, by http")
    assert (await client.post(place, json={"tenant": tenant})).status_code == 422


async def test_the_limit_is_changed_while_it_runs(client: httpx2.AsyncClient, fake: FakeOrchestrator) -> None:
    fake.add(Request("app", "head"))
    place = "/api/v1/rollouts/r001/limit"
    assert (await client.post(place, json={"max_concurrent": 3})).json()["reason"] == "3 at once, by http"
    for wrong in (0, "3", None):
        assert (await client.post(place, json={"max_concurrent": wrong})).status_code == 422


async def paged(client: httpx2.AsyncClient, path: str, **params: Any) -> Any:
    cursor: str | None = None
    while True:
        answer = await client.get(path, params=params | ({"cursor": cursor} if cursor else {}))
        assert answer.status_code == 200, answer.text
        yield answer.json()["items"]
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            return
