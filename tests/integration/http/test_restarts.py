"""What a client may count on when the daemon is restarted, and when it asks the same thing more than once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
import yaml

from tests import live
from tests.engine import until
from tests.live import Live

ASKED = {"track": "app", "to": "*", "strategy": "slow"}


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/store.db"


@asynccontextmanager
async def running(config: Path, store: str) -> AsyncIterator[tuple[Live, httpx2.AsyncClient]]:
    async with live.running(config, store_url=store, survey_seconds=3600) as one, one.client() as client:
        yield one, client


@dataclass
class Told:
    """What a stream told, in order; `closed` is why it ended."""

    events: list[tuple[int, str]] = field(default_factory=list)
    closed: dict[str, Any] = field(default_factory=dict)

    async def follow(self, url: str, rollout: str, after: int = 0) -> None:
        headers = {"Last-Event-ID": str(after)} if after else {}
        async with (
            httpx2.AsyncClient(base_url=url, timeout=60) as client,
            client.sse(f"/api/v1/rollouts/{rollout}/events", headers=headers) as source,
        ):
            async for sent in source:
                if sent.event == "closed":
                    self.closed = json.loads(sent.data)
                else:
                    self.events.append((int(sent.id), sent.event))


async def started(client: httpx2.AsyncClient, key: str | None = None, **more: Any) -> dict[str, Any]:
    headers = {"Idempotency-Key": key} if key else {}
    answer = await client.post("/api/v1/rollouts", json={**ASKED, **more}, headers=headers)
    assert answer.status_code in (200, 201), answer.text
    rollout: dict[str, Any] = answer.json()
    return rollout


def without(config: Path, track: str) -> None:
    """Take a track's tenants out of the registry file."""
    registry = yaml.safe_load(config.read_text())
    registry["tenants"] = [tenant for tenant in registry["tenants"] if tenant["track"] != track]
    config.write_text(yaml.safe_dump(registry))


async def reaches(client: httpx2.AsyncClient, rollout: str, state: str) -> None:
    async def there() -> bool:
        return bool((await client.get(f"/api/v1/rollouts/{rollout}")).json()["state"] == state)

    await until(there)


async def test_a_stream_is_let_go_and_resumed_after_a_restart(config: Path, store: str) -> None:
    before, after, whole = Told(), Told(), Told()
    async with anyio.create_task_group() as tasks, running(config, store) as (one, client):
        rollout = (await started(client))["id"]
        await reaches(client, rollout, "awaiting_approval")
        tasks.start_soon(before.follow, one.url, rollout)
        await until(lambda: bool(before.events) and before.events[-1][1] == "RolloutStateChanged")
    assert before.closed == {"reason": "stopping", "state": "awaiting_approval"}
    last = before.events[-1][0]
    async with running(config, store) as (one, client):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(after.follow, one.url, rollout, last)
            assert (await client.post(f"/api/v1/rollouts/{rollout}/approve")).status_code == 200
        assert after.closed == {"reason": "finished", "state": "succeeded"}
        await whole.follow(one.url, rollout)
        assert [number for number, _ in whole.events] == list(range(1, len(whole.events) + 1))
        assert before.events + after.events == whole.events, "nothing twice, and nothing left out"
        for unknown in (len(whole.events) + 1, 2**31 - 2):
            answer = await client.get(
                f"/api/v1/rollouts/{rollout}/events", headers={"Last-Event-ID": str(unknown)}, timeout=5
            )
            assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "header.last-event-id")
        for known in (1, len(whole.events)):
            again = Told()
            await again.follow(one.url, rollout, known)
            assert again.events == whole.events[known:]


async def test_a_key_stands_for_its_rollout_across_restarts_and_registries(config: Path, store: str) -> None:
    async with running(config, store) as (_, client):
        first = await started(client, "release-7")
        assert (await started(client, "release-7"))["id"] == first["id"]
    without(config, "app")
    async with running(config, store) as (_, client):
        assert (await started(client, "release-7"))["id"] == first["id"]
        other = await client.post(
            "/api/v1/rollouts", json={**ASKED, "track": "lite"}, headers={"Idempotency-Key": "release-7"}
        )
        assert (other.status_code, other.json()["rollout"]) == (422, first["id"])
        assert (await started(client, "release-8", track="lite", strategy="default"))["id"] != first["id"]


async def test_what_was_refused_may_be_asked_again_with_its_key(config: Path, store: str) -> None:
    async with running(config, store) as (_, client):
        held = await started(client)
        headers = {"Idempotency-Key": "release-7"}
        answer = await client.post("/api/v1/rollouts", json=ASKED, headers=headers)
        assert (answer.status_code, answer.json()["rollout"]) == (409, held["id"])
        dry = await client.post("/api/v1/rollouts", json={**ASKED, "dry_run": True}, headers=headers)
        assert dry.status_code == 200
        await client.post(f"/api/v1/rollouts/{held['id']}/abort")
        await reaches(client, held["id"], "aborted")
        assert (await started(client, "release-7"))["id"] != held["id"]


async def test_many_at_once_with_one_key_make_one_rollout(config: Path, store: str) -> None:
    answers: list[httpx2.Response] = []

    async def ask(client: httpx2.AsyncClient, to: str) -> None:
        headers = {"Idempotency-Key": "release-7"}
        answers.append(await client.post("/api/v1/rollouts", json={**ASKED, "to": to}, headers=headers))

    async with running(config, store) as (_, client):
        async with anyio.create_task_group() as tasks:
            for to in ["head"] * 6 + ["alpha"] * 2:
                tasks.start_soon(ask, client, to)
        listed = (await client.get("/api/v1/rollouts")).json()["items"]
    assert len(listed) == 1
    statuses = Counter(answer.status_code for answer in answers)
    alike = 6 if listed[0]["to"] == "head" else 2
    assert statuses == {201: 1, 200: alike - 1, 422: 8 - alike}
    assert {answer.json().get("id") or answer.json()["rollout"] for answer in answers} == {listed[0]["id"]}


async def test_lists_are_filtered(config: Path, store: str) -> None:
    async with running(config, store) as (_, client):
        first = (await started(client, strategy="default"))["id"]
        await reaches(client, first, "succeeded")
        headers = {"X-Requested-By": "anna"}
        await client.post("/api/v1/rollouts", json={"track": "lite", "to": "head"}, headers=headers)

        async def ids(**query: str) -> list[str]:
            return [it["id"] for it in (await client.get("/api/v1/rollouts", params=query)).json()["items"]]

        assert await ids(track="app") == [first] == await ids(created_by="http", strategy="default")
        assert len(await ids(created_by="anna")) == 1
        assert await ids(track="app", created_by="anna") == []

        async def tenants(**query: str) -> list[str]:
            page = await client.get(f"/api/v1/rollouts/{first}/migrations", params=query)
            return [it["tenant"] for it in page.json()["items"]]

        assert sorted(await tenants()) == ["t0", "t1", "t2"] == sorted(await tenants(shard="pg", track="app"))
        assert await tenants(tenant="t1") == ["t1"]
        assert await tenants(tenant="t1", state="failed") == [] == await tenants(wave="nope")
        assert (await client.get(f"/api/v1/rollouts/{first}/migrations", params={"shrd": "pg"})).status_code == 422
