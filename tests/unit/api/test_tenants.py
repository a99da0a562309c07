from __future__ import annotations

import httpx2
import pytest

from orchestrator.registry.model import TargetKey
from orchestrator.rollout.state import FleetState
from tests.unit.api.fake import FakeOrchestrator, registry, target


@pytest.fixture
def fake() -> FakeOrchestrator:
    it = FakeOrchestrator(
        registry(
            target("acme", tier="free"),
            target("acme", "analytics", tier="free"),
            target("globex", shard="pg-2", tier="paid"),
            target("initech", tier="free"),
        )
    )
    it.seen[TargetKey("acme", "app")] = (FleetState.BEHIND, ("a1",))
    it.seen[TargetKey("globex", "app")] = (FleetState.UP_TO_DATE, ("b2",))
    return it


async def test_a_tenant_tells_its_targets_and_no_secret(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/api/v1/tenants/acme")
    assert answer.status_code == 200
    assert answer.json()["tenant"] == "acme"
    analytics, app = answer.json()["targets"]
    assert app == {
        "track": "app",
        "shard": "pg-1",
        "database": "db_acme",
        "schema": None,
        "source": "file",
        "labels": {"tier": "free"},
        "state": "behind",
        "heads": ["a1"],
        "read_at": "2026-11-21T02:00:00.000Z",
        "message": None,
    }
    assert (analytics["track"], analytics["state"], analytics["read_at"]) == ("analytics", "unknown", None)
    assert "hunter2" not in answer.text
    assert "migrator" not in answer.text


async def test_an_unknown_tenant_is_not_found(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/api/v1/tenants/nobody")
    assert (answer.status_code, answer.json()["detail"]) == (404, "there is no tenant 'nobody'")


async def test_a_tenant_may_be_named_like_a_path(client: httpx2.AsyncClient, fake: FakeOrchestrator) -> None:
    fake.registry = registry(target("eu/acme"))
    assert (await client.get("/api/v1/tenants/eu%2Facme")).json()["tenant"] == "eu/acme"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", {"acme": ["analytics", "app"], "globex": ["app"], "initech": ["app"]}),
        ("select=tier%3Dfree", {"acme": ["analytics", "app"], "initech": ["app"]}),
        ("select=track%3Danalytics", {"acme": ["analytics"]}),
        ("state=behind", {"acme": ["app"]}),
        ("state=behind&state=up_to_date", {"acme": ["app"], "globex": ["app"]}),
        ("state=unknown&select=tier%3Dfree", {"acme": ["analytics"], "initech": ["app"]}),
        ("select=tier%3Dnone", {}),
    ],
)
async def test_listing_finds_the_targets_that_match(
    query: str, found: dict[str, list[str]], client: httpx2.AsyncClient
) -> None:
    items = (await client.get(f"/api/v1/tenants?{query}")).json()["items"]
    assert {it["tenant"]: [where["track"] for where in it["targets"]] for it in items} == found


async def test_tenants_are_paged_by_name_with_all_their_targets(client: httpx2.AsyncClient) -> None:
    first = (await client.get("/api/v1/tenants?limit=1")).json()
    second = (await client.get("/api/v1/tenants", params={"limit": 1, "cursor": first["next_cursor"]})).json()
    third = (await client.get("/api/v1/tenants", params={"limit": 1, "cursor": second["next_cursor"]})).json()
    assert [it["tenant"] for page in (first, second, third) for it in page["items"]] == ["acme", "globex", "initech"]
    assert len(first["items"][0]["targets"]) == 2
    assert third["next_cursor"] is None


async def test_a_selector_that_cannot_be_read_is_a_problem(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/api/v1/tenants", params={"select": "tier in ("})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:orchestrator:problem:selector")


async def test_a_cursor_of_another_listing_is_a_problem(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/api/v1/tenants", params={"cursor": "WyJyb2xsb3V0cyIsICJyMSJd"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "query.cursor")
