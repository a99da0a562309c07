"""Whose act it is: proved by a token, whatever is said besides, and through a standby as well."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from orchestrator.access import file
from orchestrator.access.roles import Role
from orchestrator.databases.embedded import Server
from orchestrator.rollout.state import RolloutState
from orchestrator.service.leading import Lead, standing
from tests.integration.access.conftest import World, world
from tests.integration.access.fleets import ASKED, gated
from tests.servers import MakeDatabases


async def start(daemon: World, who: str | None = None, **headers: str) -> str:
    token = daemon.made[who].text if who else None
    async with daemon.client(token, headers=headers) as client:
        answer = await client.post("/api/v1/rollouts", json=ASKED)
    assert answer.status_code == 201, answer.text
    rollout: str = answer.json()["id"]
    await daemon.engine.reaches(rollout, RolloutState.AWAITING_APPROVAL)
    return rollout


async def ask(daemon: World, who: str, rollout: str, command: str, **headers: str) -> httpx2.Response:
    async with daemon.of(who, headers=headers) as client:
        return await client.post(f"/api/v1/rollouts/{rollout}/{command}")


def told(entry: dict[str, Any]) -> tuple[Any, ...]:
    return entry["action"], entry["by"], entry["outcome"]


async def test_who_acts_is_who_has_the_token_and_four_eyes_compare_those(tmp_path: Path) -> None:
    async with world(gated(tmp_path)) as daemon:
        await daemon.make("ann", Role.APPROVER)
        await daemon.make("bob", Role.APPROVER)
        rollout = await start(daemon, "ann", **{"X-Requested-By": "bob"})
        async with daemon.of("bob") as client:
            assert (await client.get(f"/api/v1/rollouts/{rollout}")).json()["created_by"] == "user:ann"
        refused = await ask(daemon, "ann", rollout, "approve", **{"X-Requested-By": "bob"})
        assert refused.status_code == 409
        assert "another pair of eyes" in refused.json()["detail"]
        assert (await ask(daemon, "bob", rollout, "approve")).status_code == 200
        await daemon.engine.service.finished(rollout)
        seen = (await daemon.engine.service.rollout(rollout)).rollout
        assert (seen.state, seen.approved_by) == (RolloutState.SUCCEEDED, "user:bob")
        first, second, third = await daemon.audited()
        assert told(first) == ("start_rollout", "user:ann", "done")
        assert (first["rollout"], first["remark"], first["proved"], first["role"]) == (rollout, "bob", True, "approver")
        assert first["details"].items() >= {"track": "app", "strategy": "gated"}.items()
        assert first["history_digests"][""]
        assert told(second) == ("approve_rollout", "user:ann", "refused")
        assert told(third) == ("approve_rollout", "user:bob", "done")
        assert third["history_digests"] == first["history_digests"]
        assert (await daemon.engine.parts.store.audit.verified()).breaks == []


async def test_two_tokens_of_one_name_are_one_person(tmp_path: Path) -> None:
    async with world(gated(tmp_path)) as daemon:
        await daemon.make("old", Role.APPROVER, name="ann")
        await daemon.make("new", Role.APPROVER, name="ann")
        rollout = await start(daemon, "old")
        assert (await ask(daemon, "new", rollout, "approve")).status_code == 409


async def test_what_somebody_unproved_has_started_no_token_approves(tmp_path: Path) -> None:
    async with world(gated(tmp_path)) as daemon:
        rollout = await start(daemon, None, **{"X-Requested-By": "bob"})
        await daemon.make("bob", Role.APPROVER)
        await daemon.make("ann", Role.APPROVER)
        for who in ("bob", "ann"):
            refused = await ask(daemon, who, rollout, "approve")
            assert (refused.status_code, "not asked for a proof" in refused.json()["detail"]) == (409, True)


async def test_nobody_can_name_themselves_as_if_they_were_proved(tmp_path: Path) -> None:
    async with world(gated(tmp_path)) as daemon:
        rollout = await start(daemon, None, **{"X-Requested-By": "user:ann"})
        seen = (await daemon.engine.service.rollout(rollout)).rollout
        assert seen.request.created_by == "unproved:user:ann"
        [entry] = await daemon.audited()
        assert (entry["by"], entry["proved"]) == ("unproved:user:ann", False)


async def test_an_address_is_that_of_the_client_behind_proxies_that_are_known(tmp_path: Path) -> None:
    for proxies, address in (("203.0.113.0/24", "198.51.100.7"), ("", "203.0.113.9")):
        async with world(gated(tmp_path / (proxies[:3] or "none")), proxies=proxies) as daemon:
            await daemon.make("ann", Role.OPERATOR)
            await start(daemon, "ann", **{"X-Forwarded-For": "6.6.6.6, 198.51.100.7"})
            assert [entry["address"] for entry in await daemon.audited()] == [address]


@asynccontextmanager
async def pair(folder: Path, store: str, **leader: Any) -> AsyncIterator[tuple[World, World]]:
    """A leader, and a standby on the same store, as two daemons are."""
    registry = gated(folder)
    async with (
        world(registry, store_url=store, **leader) as one,
        world(registry, store_url=store) as other,
        standing(one.engine.parts) as first,
        anyio.create_task_group() as tasks,
    ):
        assert first is not None
        lead = Lead(first, one.engine.service, one.engine.parts, one.door)
        await lead.begin()
        await tasks.start(lead.run)
        async with standing(other.engine.parts) as second:
            assert second is not None
            await Lead(second, other.engine.service, other.engine.parts, other.door).begin()
            assert not other.engine.service.steering.leads
            yield one, other
        tasks.cancel_scope.cancel()


@pytest.fixture
async def store(pg: Server, make_databases: MakeDatabases) -> str:
    [name] = await make_databases(1, "store")
    return pg.url(name)


async def test_a_proved_identity_travels_to_the_leader(store: str, tmp_path: Path) -> None:
    async with pair(tmp_path, store) as (leader, standby):
        for who in ("ann", "bob"):
            await leader.make(who, Role.APPROVER)
        standby.made = leader.made
        rollout = await start(standby, "ann")
        refused = await ask(standby, "ann", rollout, "approve", **{"X-Requested-By": "bob"})
        assert (refused.status_code, "another pair of eyes" in refused.text) == (409, True)
        paused = await ask(standby, "bob", rollout, "pause")
        assert (paused.status_code, paused.json()["reason"]) == (200, "paused by user:bob")
        assert (await ask(standby, "bob", rollout, "pause")).status_code == 200
        assert (await ask(standby, "ann", rollout, "resume")).status_code == 200
        await leader.engine.reaches(rollout, RolloutState.AWAITING_APPROVAL)
        assert (await ask(standby, "bob", rollout, "approve", **{"X-Requested-By": "robert"})).status_code == 200
        await leader.engine.service.finished(rollout)
        assert (await standby.engine.service.rollout(rollout)).rollout.approved_by == "user:bob"
        entries = await leader.audited()
        assert [told(entry) for entry in entries] == [
            ("start_rollout", "user:ann", "done"),
            ("approve_rollout", "user:ann", "refused"),
            ("pause_rollout", "user:bob", "done"),
            ("pause_rollout", "user:bob", "done"),
            ("resume_rollout", "user:ann", "done"),
            ("approve_rollout", "user:bob", "done"),
        ]
        assert {(entry["rollout"], entry["address"]) for entry in entries} == {(rollout, "203.0.113.9")}
        assert entries[-1]["remark"] == "robert"
        assert (await leader.engine.parts.store.audit.verified()).breaks == []


@pytest.fixture
def tokens_file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.yaml"
    path.write_text("tokens: []")
    return path


async def test_a_leader_with_a_tokens_file_closes_the_door_of_a_standby_without_one(
    store: str, tmp_path: Path, tokens_file: Path
) -> None:
    async with pair(tmp_path, store, file=tokens_file) as (leader, standby), standby.client() as client:
        for method, path in (
            ("GET", "/api/v1/tenants"),
            ("POST", "/api/v1/rollouts"),
            ("PUT", "/api/v1/freeze"),
            ("POST", "/api/v1/schedules/nightly/disable"),
        ):
            assert (await client.request(method, path, json=ASKED)).status_code == 401, path
        assert await standby.engine.service.rollouts() == []
        anew = type(standby.door)(standby.engine.parts.store.tokens)  # as after a restart, and when it leads itself
        await anew.lead()
        assert await anew.closed()
        await leader.make("ann", Role.VIEWER)
        standby.made = leader.made
        async with standby.of("ann") as ann:  # a token of the store counts for all
            assert (await ann.get("/api/v1/tenants")).status_code == 200


async def test_a_standby_that_lets_in_anybody_is_no_way_around_the_leaders_door(
    store: str, tmp_path: Path, tokens_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pair(tmp_path, store, file=tokens_file) as (leader, standby):

        async def opened() -> bool:  # as of a release that does not ask the store
            return False

        monkeypatch.setattr(standby.door, "closed", opened)
        rollout = await start(standby, None)
        async with standby.client(headers={"X-Requested-By": "user:ann"}) as client:
            refused = await client.post(f"/api/v1/rollouts/{rollout}/abort")
        assert (refused.status_code, "asks everybody for a token" in refused.text) == (403, True)
        assert (await leader.engine.service.rollout(rollout)).rollout.state is RolloutState.AWAITING_APPROVAL
        assert [told(entry)[2] for entry in await leader.audited()] == ["done", "refused"]
        assert file.read(tokens_file) == []
