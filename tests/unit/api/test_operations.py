from __future__ import annotations

import anyio
import httpx2

from orchestrator.api.ports import Leadership
from orchestrator.registry.discovery import Source
from orchestrator.registry.model import Discovery
from orchestrator.rollout.state import MigrationState, RolloutState
from tests.unit.api.fake import START, FakeOrchestrator


async def test_health_looks_at_nothing(client: httpx2.AsyncClient, fake: FakeOrchestrator) -> None:
    fake.failing, fake.unready = RuntimeError(), {"store": "is gone"}
    answer = await client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_readiness_names_what_is_missing(client: httpx2.AsyncClient, fake: FakeOrchestrator) -> None:
    assert (await client.get("/readyz")).json() == {"status": "ready"}
    fake.unready = {"store": "cannot be reached"}
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["reasons"] == {"store": "cannot be reached"}


async def test_a_daemon_that_stops_is_not_ready(client: httpx2.AsyncClient, stopping: anyio.Event) -> None:
    stopping.set()
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()["reasons"]) == (503, {"daemon": "is stopping"})


async def test_metrics_pass_through(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/metrics")
    assert (answer.content, answer.headers["content-type"]) == (b"up 1\n", "text/plain; version=0.0.4")


async def test_reload_tells_what_it_read(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/api/v1/registry/reload")
    assert answer.status_code == 200
    assert answer.json() == {"changed": True, "targets": 2, "appeared": 0, "vanished": 0, "stale": []}


async def test_sources_of_tenants_tell_how_they_are_and_no_secret(
    client: httpx2.AsyncClient, fake: FakeOrchestrator
) -> None:
    entry = Discovery("saas", "url", "https://h/?key=hunter2", token="hunter2", refresh_seconds=30.0)
    reason = "no answer from postgresql://u:hunter2@h/saas"
    fake.known_sources = [Source(entry, (), START, START, reason, targets=3, ignored=("row 1: it names no shard",))]
    answer = await client.get("/api/v1/registry")
    assert answer.status_code == 200
    assert answer.json() == {
        "targets": 2,
        "sources": [
            {
                "name": "saas",
                "question": "url",
                "shard": None,
                "targets": 3,
                "stale": True,
                "stale_since": "2026-11-21T02:00:00.000Z",
                "reason": "no answer from postgresql://u:***@h/saas",
                "refreshed_at": "2026-11-21T02:00:00.000Z",
                "refresh_seconds": 30.0,
                "ignored": 1,
                "ignored_examples": ["row 1: it names no shard"],
            }
        ],
    }


async def test_the_contract_is_described(client: httpx2.AsyncClient) -> None:
    schema = (await client.get("/openapi.json")).json()
    offered = {(method.upper(), path) for path, methods in schema["paths"].items() for method in methods}
    assert offered == {
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/metrics"),
        ("GET", "/api/v1/tenants"),
        ("GET", "/api/v1/tenants/{tenant}"),
        ("POST", "/api/v1/plans"),
        ("POST", "/api/v1/rollouts"),
        ("GET", "/api/v1/rollouts"),
        ("GET", "/api/v1/rollouts/{rollout_id}"),
        ("GET", "/api/v1/rollouts/{rollout_id}/migrations"),
        ("GET", "/api/v1/rollouts/{rollout_id}/events"),
        ("POST", "/api/v1/rollouts/{rollout_id}/pause"),
        ("POST", "/api/v1/rollouts/{rollout_id}/resume"),
        ("POST", "/api/v1/rollouts/{rollout_id}/approve"),
        ("POST", "/api/v1/rollouts/{rollout_id}/abort"),
        ("POST", "/api/v1/rollouts/{rollout_id}/rollback"),
        ("POST", "/api/v1/rollouts/{rollout_id}/skip"),
        ("POST", "/api/v1/rollouts/{rollout_id}/limit"),
        ("POST", "/api/v1/rollouts/{rollout_id}/retry"),
        ("POST", "/api/v1/rollouts/{rollout_id}/override"),
        ("GET", "/api/v1/backfills"),
        ("GET", "/api/v1/drift"),
        ("POST", "/api/v1/drift/look"),
        ("GET", "/api/v1/backfills/summary"),
        ("POST", "/api/v1/backfills/pause"),
        ("POST", "/api/v1/backfills/resume"),
        ("POST", "/api/v1/backfills/abort"),
        ("POST", "/api/v1/backfills/adjust"),
        ("GET", "/api/v1/schedules"),
        ("GET", "/api/v1/schedules/{name}"),
        ("POST", "/api/v1/schedules/{name}/enable"),
        ("POST", "/api/v1/schedules/{name}/disable"),
        ("POST", "/api/v1/schedules/{name}/run"),
        ("GET", "/api/v1/freeze"),
        ("POST", "/api/v1/freeze"),
        ("DELETE", "/api/v1/freeze"),
        ("GET", "/api/v1/registry"),
        ("GET", "/api/v1/shards"),
        ("GET", "/api/v1/notifications"),
        ("POST", "/api/v1/notifications/{notification_id}/retry"),
        ("POST", "/api/v1/registry/reload"),
        ("GET", "/api/v1/tokens"),
        ("POST", "/api/v1/tokens"),
        ("POST", "/api/v1/tokens/{token_id}/revoke"),
        ("GET", "/api/v1/audit"),
    }
    components = schema["components"]["schemas"]
    assert {"from", "to", "error"} <= components["Migration"]["properties"].keys()
    assert "schema" in components["Target"]["properties"]
    assert components["RolloutState"]["enum"] == list(RolloutState)
    assert components["MigrationState"]["enum"] == list(MigrationState)
    assert components["StartRollout"]["additionalProperties"] is False
    for name, one in components.items():  # all lists are pages
        if "items" in one.get("properties", {}):
            assert "next_cursor" in one["required"], name


async def test_a_standby_is_ready_and_tells_who_leads(client: httpx2.AsyncClient, fake: FakeOrchestrator) -> None:
    fake.standing = Leadership(False, "process 7 on db1")
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()) == (
        200,
        {"status": "ready", "role": "standby", "leader": "process 7 on db1"},
    )
    fake.standing = Leadership(True, None)
    assert (await client.get("/readyz")).json() == {"status": "ready", "role": "leader"}
