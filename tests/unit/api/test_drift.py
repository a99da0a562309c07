"""Drift over HTTP."""

from __future__ import annotations

import httpx2

from tests.unit.api.fake import FakeOrchestrator

PLACE = "/api/v1/drift"


async def test_a_drifted_target_is_shown_with_what_differs(client: httpx2.AsyncClient) -> None:
    page = (await client.get(PLACE, params={"standing": "drifted"})).json()
    assert page["next_cursor"] is None
    [one] = page["items"]
    assert one == {
        "tenant": "acme",
        "track": "app",
        "shard": "pg-1",
        "standing": "drifted",
        "heads": ["b2"],
        "server": "postgresql 16",
        "reference": "globex",
        "differing": 2,
        "difference": ["- index | a", "+ index | b"],
        "message": None,
        "drifted_since": "2026-11-21T02:00:00.000Z",
        "looked_at": "2026-11-21T02:00:00.000Z",
    }


async def test_pages_follow_each_other_and_hold_no_secret(client: httpx2.AsyncClient) -> None:
    found, cursor = [], None
    while True:
        page = (await client.get(PLACE, params={"limit": 1} | ({"cursor": cursor} if cursor else {}))).json()
        found += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert [one["tenant"] for one in found] == ["acme", "globex", "initech"]
    assert "hunter2" not in str(found)
    assert (await client.get(PLACE, params={"cursor": "bm90aGluZw"})).status_code == 422
    assert (await client.get(PLACE, params={"standing": "odd"})).status_code == 422


async def test_a_look_is_asked_for(client: httpx2.AsyncClient, fake: FakeOrchestrator) -> None:
    assert (await client.post(f"{PLACE}/look", json={"track": "app"})).json() == {"tracks": ["app"]}
    assert (await client.post(f"{PLACE}/look", json={})).json() == {"tracks": ["app"]}
    assert [track for _, track in fake.drifting.asked] == ["app", None]
    refused = await client.post(f"{PLACE}/look", json={"track": "nope"})
    assert (refused.status_code, refused.headers["content-type"]) == (422, "application/problem+json")
