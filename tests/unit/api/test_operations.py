from __future__ import annotations

import anyio
import httpx2

from orchestrator.rollout.state import MigrationState, RolloutState
from tests.unit.api.fake import FakeOrchestrator


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
    assert (answer.status_code, answer.json()) == (200, {"changed": True, "targets": 2})


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
        ("POST", "/api/v1/rollouts/{rollout_id}/abort"),
        ("POST", "/api/v1/rollouts/{rollout_id}/retry"),
        ("POST", "/api/v1/registry/reload"),
    }
    components = schema["components"]["schemas"]
    assert {"from", "to", "error"} <= components["Migration"]["properties"].keys()
    assert "schema" in components["Target"]["properties"]
    assert components["RolloutState"]["enum"] == list(RolloutState)
    assert components["MigrationState"]["enum"] == list(MigrationState)
    assert components["StartRollout"]["additionalProperties"] is False
    for operations in schema["paths"].values():
        for operation in operations.values():
            assert list(operation["responses"]["default"]["content"]) == ["application/problem+json"]
            assert "422" not in operation["responses"]
