"""Deliveries over HTTP; and shards, which are as small."""

from __future__ import annotations

import httpx2
import pytest

from tests.unit.api.fake import FakeOrchestrator

PLACE = "/api/v1/notifications"


async def test_deliveries_are_listed_newest_first_and_paged(client: httpx2.AsyncClient, fake: FakeOrchestrator) -> None:
    for state in ("delivered", "dead", "dead"):
        fake.notifications.add(state)
    page = (await client.get(PLACE, params={"limit": 2})).json()
    assert [one["id"] for one in page["items"]] == ["n3", "n2"]
    rest = (await client.get(PLACE, params={"limit": 2, "cursor": page["next_cursor"]})).json()
    assert ([one["id"] for one in rest["items"]], rest["next_cursor"]) == (["n1"], None)
    dead = (await client.get(PLACE, params={"state": "dead", "channel": "ops"})).json()["items"]
    assert [(one["state"], one["error"]) for one in dead] == [("dead", "answered with status 500")] * 2
    assert dead[0]["event"]["text"] == "it has paused"


@pytest.mark.parametrize("query", [{"state": "lost"}, {"cursor": "x"}, {"nope": "1"}, {"limit": "0"}])
async def test_what_cannot_be_asked_is_refused(client: httpx2.AsyncClient, query: dict[str, str]) -> None:
    assert (await client.get(PLACE, params=query)).status_code == 422


async def test_a_dead_letter_is_sent_again(client: httpx2.AsyncClient, fake: FakeOrchestrator) -> None:
    fake.notifications.add("dead")
    assert (await client.post(f"{PLACE}/n1/retry")).json()["state"] == "pending"
    assert (await client.post(f"{PLACE}/n9/retry")).status_code == 404


async def test_shards_tell_how_much_they_bear_and_no_secret(client: httpx2.AsyncClient) -> None:
    answer = (await client.get("/api/v1/shards")).json()
    [shard] = answer["items"]
    assert answer["next_cursor"] is None
    assert (shard["name"], shard["max_concurrent"], shard["limit"], shard["running"]) == ("pg-1", 8, 3, 2)
    assert shard["throttled"].startswith("others use 90 of 100 connections")
    assert "hunter2" not in shard["throttled"]
