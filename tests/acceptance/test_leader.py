"""Two daemons on one PostgreSQL store: one leads, the other stands by, and takes over when the first is gone."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest

from orchestrator.databases.embedded import Server
from tests import command, engine, environments, humans
from tests.daemon import ENDED, Daemon, write_registry
from tests.engine import until
from tests.servers import MakeDatabases

REVISIONS = ["alpha", "beta", "gamma"]
LEASE = 4.0
SOAK = os.environ.get("SOAK")


@dataclass
class Fleet:
    """Tenants' databases, a store, and daemons on it."""

    server: Server
    databases: list[str]
    store: str
    config: Path
    environ: dict[str, str]

    def daemon(self) -> Daemon:
        return Daemon(self.config, self.server.url(self.store), self.environ)

    async def applied(self) -> list[list[tuple[Any, ...]]]:
        """By database: how often each revision was applied."""
        question = "SELECT revision, count(*) FROM applied GROUP BY 1 ORDER BY 1"
        return [await engine.fetch(self.server, name, question) for name in self.databases]

    async def epoch(self) -> int:
        [(epoch,)] = await engine.fetch(self.server, self.store, "SELECT epoch FROM leadership")
        return int(epoch)

    async def last_events(self) -> list[tuple[Any, ...]]:
        return await engine.fetch(self.server, self.store, "SELECT id, last_sequence FROM rollouts ORDER BY 1")


Make = Callable[..., Awaitable[Fleet]]


@pytest.fixture
async def make_fleet(pg: Server, make_databases: MakeDatabases, tmp_path: Path) -> Make:
    async def make(targets: int, sleeps: str = "time.sleep(0.4)", **settings: str) -> Fleet:
        project = tmp_path / "project"
        environments.make_project(project)
        environments.add_tables(project, REVISIONS, before_each=sleeps)
        environments.use_transaction_per_migration(project)
        databases = await make_databases(targets)
        [store] = await make_databases(1, "store")
        tracks = {"app": {"config": "project/alembic.ini"}}
        config, environ = write_registry(tmp_path, pg, databases, tracks, max_concurrent=4)
        environ |= {"ORCHESTRATOR_LEASE_SECONDS": str(LEASE), **settings}
        return Fleet(pg, databases, store, config, environ)

    return make


@asynccontextmanager
async def pair(fleet: Fleet) -> AsyncIterator[tuple[Daemon, Daemon]]:
    """A leader and a standby."""
    async with fleet.daemon() as leader, fleet.daemon() as standby:
        assert await leader.tells("leader_elected")
        assert await standby.tells("standby")
        yield leader, standby


async def leads(daemon: Daemon) -> bool:
    return "orchestrator_leader 1.0" in (await daemon.call("GET", "/metrics")).text


async def takes_over(daemon: Daemon, seconds: float) -> None:
    try:
        await until(lambda: leads(daemon), seconds)
    except TimeoutError as exc:
        raise AssertionError(f"it does not lead after {seconds} s: {daemon.log[-20:]}") from exc


async def in_the_middle(daemon: Daemon, rollout: str) -> None:
    """Wait until some targets are done and others are at it."""

    async def there() -> bool:
        counts = (await daemon.rollout(rollout))["counts"]
        return bool(counts["running"] >= 2 and counts["succeeded"] >= 2)

    await until(there)


def whole(after: dict[str, Any], fleet: Fleet) -> bool:
    done = after["counts"]["succeeded"] + after["counts"]["up_to_date"]
    return bool(after["state"] == "succeeded" and done == after["total"] == len(fleet.databases))


async def test_of_two_daemons_started_at_once_one_leads(make_fleet: Make) -> None:
    fleet = await make_fleet(1)
    one, other = fleet.daemon(), fleet.daemon()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.start)
        tasks.start_soon(other.start)
    try:
        assert sorted([await leads(one), await leads(other)]) == [False, True]
        leader, standby = (one, other) if await leads(one) else (other, one)
        for daemon in (leader, standby):
            assert (await daemon.call("GET", "/healthz")).json() == {"status": "ok"}
        ready = await standby.call("GET", "/readyz")
        assert (ready.status_code, ready.json()["role"]) == (200, "standby")

        async def named() -> bool:  # at first only its session is known
            return f"process {leader.pid} " in (await standby.call("GET", "/readyz")).json()["leader"]

        await until(named)
        assert (await leader.call("GET", "/readyz")).json() == {"status": "ready", "role": "leader"}
    finally:
        await one.stop()
        await other.stop()


async def test_a_rollout_is_started_and_steered_through_the_standby(make_fleet: Make) -> None:
    fleet = await make_fleet(12)
    async with pair(fleet) as (leader, standby):
        preview = await standby.post_rollout(dry_run=True)
        assert preview.status_code == 200
        started = await standby.post_rollout()
        assert started.status_code == 201
        rollout = started.json()["id"]
        await in_the_middle(standby, rollout)
        paused = await standby.call("POST", f"/api/v1/rollouts/{rollout}/pause")
        assert (paused.status_code, paused.json()["state"]) == (200, "paused")
        assert paused.json()["counts"]["pending"] > 0
        resumed = await standby.call("POST", f"/api/v1/rollouts/{rollout}/resume")
        assert (resumed.status_code, resumed.json()["state"]) == (200, "running")
        streamed = (await standby.call("GET", f"/api/v1/rollouts/{rollout}/events")).text
        assert '"reason":"finished"' in streamed.replace(" ", "")
        after = await standby.ended(rollout)
        assert whole(after, fleet), after
        again = await standby.call("POST", f"/api/v1/rollouts/{rollout}/pause")
        assert again.status_code == 409
        direct = await leader.call("POST", f"/api/v1/rollouts/{rollout}/pause")
        assert {**again.json(), "request_id": None} == {**direct.json(), "request_id": None}
        missing = await standby.call("POST", "/api/v1/rollouts/nothing/abort")
        assert (missing.status_code, missing.json()["remedy"]) == (404, "`orchestrator rollout list` shows them")
        tenants = (await standby.call("GET", "/api/v1/tenants")).json()["items"]
        assert len(tenants) == 12
    assert await fleet.applied() == [[(revision, 1) for revision in REVISIONS]] * 12


async def test_a_leader_killed_in_the_middle_is_followed_by_the_standby(make_fleet: Make) -> None:
    fleet = await make_fleet(12, ORCHESTRATOR_LEASE_SECONDS="600")
    async with pair(fleet) as (leader, standby):
        rollout = (await leader.post_rollout()).json()["id"]
        await in_the_middle(leader, rollout)
        leader.kill()
        # Asked while nobody leads, it is the first that the next leader does.
        paused = await standby.call("POST", f"/api/v1/rollouts/{rollout}/pause")
        assert (paused.status_code, paused.json()["state"]) == (200, "paused")
        await takes_over(standby, 60)
        assert (await standby.call("POST", f"/api/v1/rollouts/{rollout}/resume")).status_code == 200
        state = await standby.rollout(rollout)
        assert sum(state["counts"].values()) == state["total"] == 12
        after = await standby.ended(rollout)
        assert whole(after, fleet), after
        await leader.start()
        assert await leader.tells("standby"), "who comes back stands by"
    assert await fleet.applied() == [[(revision, 1) for revision in REVISIONS]] * 12


async def test_a_frozen_leader_that_wakes_up_after_a_takeover_writes_nothing_more_and_ends(make_fleet: Make) -> None:
    fleet = await make_fleet(12)
    async with pair(fleet) as (leader, standby):
        rollout = (await leader.post_rollout()).json()["id"]
        await in_the_middle(leader, rollout)
        epoch = await fleet.epoch()
        leader.freeze()
        await takes_over(standby, LEASE + 60)
        assert await fleet.epoch() == epoch + 1
        after = await standby.ended(rollout)
        assert whole(after, fleet), after
        events = await fleet.last_events()
        leader.thaw()
        assert await leader.exit_code() == 5
        assert leader.said("leader_lost")
        assert await fleet.last_events() == events
        await leader.start()
        assert await leader.tells("standby")
    assert await fleet.applied() == [[(revision, 1) for revision in REVISIONS]] * 12


@pytest.mark.soak
@pytest.mark.timeout(3600 if SOAK else 300)
async def test_leaders_killed_and_frozen_again_and_again_apply_each_revision_once(make_fleet: Make) -> None:
    rounds = 12 if SOAK else 4
    fleet = await make_fleet(16 * rounds, "time.sleep(random.uniform(0, 0.5))")
    drawn = random.Random(7)
    async with pair(fleet) as (leader, standby):
        rollout = (await standby.post_rollout()).json()["id"]

        async def tell(daemon: Daemon, command: str) -> None:
            answer = await daemon.call("POST", f"/api/v1/rollouts/{rollout}/{command}")
            assert answer.status_code == 200, answer.text

        for number in range(rounds):
            await anyio.sleep(drawn.uniform(0.4, 2.0))
            state = await standby.rollout(rollout)
            assert sum(state["counts"].values()) == state["total"]
            assert state["state"] not in ENDED, "the rollout ended too early: make it longer"
            if number % 2:
                leader.freeze()
                await takes_over(standby, LEASE + 60)
                await tell(standby, "pause")  # so that it lasts until the other one is back
                leader.thaw()
                assert await leader.exit_code() == 5
            else:
                leader.kill()
                await tell(standby, "pause")
            await leader.start()
            leader, standby = standby, leader
            assert await leads(leader)
            await tell(standby, "resume")
        after = await leader.ended(rollout)
        assert whole(after, fleet), after
    assert await fleet.applied() == [[(revision, 1) for revision in REVISIONS]] * len(fleet.databases)


async def test_a_leader_that_stops_hands_over_at_once_with_the_rollout_in_the_middle(make_fleet: Make) -> None:
    fleet = await make_fleet(12, ORCHESTRATOR_LEASE_SECONDS="600")
    async with pair(fleet) as (leader, standby):
        rollout = (await standby.post_rollout()).json()["id"]
        await in_the_middle(standby, rollout)
        assert await leader.stop() == 0
        await takes_over(standby, 60)
        assert whole(await standby.ended(rollout), fleet)

        async def known() -> bool:
            """Those, too, that the other has brought to their goal since this one has looked."""
            listed = await standby.call("GET", "/api/v1/tenants?limit=100")
            states = [target["state"] for tenant in listed.json()["items"] for target in tenant["targets"]]
            return states == ["up_to_date"] * 12

        await until(known)
    assert await fleet.applied() == [[(revision, 1) for revision in REVISIONS]] * 12


async def test_a_single_daemon_that_was_killed_leads_again_at_once_and_a_terminal_is_refused_meanwhile(
    make_fleet: Make, tmp_path: Path
) -> None:
    fleet = await make_fleet(1, ORCHESTRATOR_LEASE_SECONDS="600")
    async with fleet.daemon() as daemon:
        daemon.kill()
        await daemon.start()
        assert await daemon.tells("leader_elected")
        assert not daemon.said("standby")
        environ = {**fleet.environ, "ORCHESTRATOR_STORE_URL": fleet.server.url(fleet.store)}
        refused = await command.run("migrate", "--config", str(fleet.config), cwd=tmp_path, env=environ)
        assert refused.code == 5
        assert f"process {daemon.pid} " in refused.err
        assert "orchestrator rollout start" in refused.err


async def test_a_command_that_nobody_takes_is_withdrawn_and_the_answer_says_so(
    make_fleet: Make, tmp_path: Path
) -> None:
    """A terminal's rollout has the lead, and a terminal takes no commands."""
    fleet = await make_fleet(2, sleeps="time.sleep(12)", ORCHESTRATOR_LEASE_SECONDS="3")
    environ = {**fleet.environ, "ORCHESTRATOR_STORE_URL": fleet.server.url(fleet.store)}
    async with command.started("migrate", "--config", str(fleet.config), cwd=tmp_path, env=environ):

        async def begun() -> bool:
            try:
                return bool(await fleet.last_events())
            except asyncpg.UndefinedTableError:
                return False

        await until(begun)
        async with fleet.daemon() as standby:
            assert await standby.tells("standby")
            [(rollout, _)] = await fleet.last_events()
            answer = await standby.call("POST", f"/api/v1/rollouts/{rollout}/pause")
            assert answer.status_code == 503
            assert "withdrawn, and nothing was done" in answer.json()["detail"]
            assert (await standby.rollout(rollout))["state"] == "running"


async def test_two_daemons_and_people_at_the_same_tenants_apply_each_revision_once(
    make_fleet: Make, tmp_path: Path
) -> None:
    fleet = await make_fleet(6)
    async with pair(fleet) as (leader, standby):
        people = [humans.upgrading(tmp_path / "project", fleet.server, name) for name in fleet.databases[:4]]
        started = await standby.post_rollout()
        assert started.status_code == 201
        refused = await leader.post_rollout()
        assert (refused.status_code, refused.json()["rollout"]) == (409, started.json()["id"])
        for human in people:
            await human.ended()
        after = await leader.ended(started.json()["id"])
        done = {state: n for state, n in after["counts"].items() if n}
        assert done.keys() <= {"succeeded", "up_to_date", "locked"}, after["failures"]
        if "locked" in done:
            assert (await standby.call("POST", f"/api/v1/rollouts/{after['id']}/retry")).status_code == 200
            assert whole(await leader.ended(after["id"]), fleet)
    assert await fleet.applied() == [[(name, 1) for name in REVISIONS]] * len(fleet.databases)
