"""Applications keep the connections they need: rollouts on servers that have few of them left."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest
from sqlalchemy.engine import make_url

from orchestrator.databases.embedded import EmbeddedServer
from orchestrator.events import MigrationFinished, MigrationRetried, ShardLimitChanged, ShardThrottled
from orchestrator.execute import rooms
from orchestrator.registry.model import Registry, Shard, Target, Track
from orchestrator.rollout.state import Request, RolloutState
from tests import engine, environments
from tests.engine import until
from tests.servers import MakeDatabases

MOST, SUPERUSERS, RESERVE = 30, 3, 5
ROLE = "migrator"


@dataclass(frozen=True)
class SmallServer:
    """Thirty connections, three of them for superusers; `shard` comes as a role that is none."""

    server: EmbeddedServer
    password: str

    def url(self, database: str) -> str:
        return self.server.url(database)

    def shard(self, **fields: Any) -> Shard:
        url = make_url(self.url("postgres")).set(database=None, username=ROLE, password=self.password)
        return Shard("pg", url, **fields)

    async def own(self, databases: list[str]) -> None:
        await engine.execute(
            self.server, "postgres", *(f'ALTER DATABASE "{name}" OWNER TO {ROLE}' for name in databases)
        )


@pytest.fixture(scope="module")
async def small() -> AsyncIterator[SmallServer]:
    settings = {"superuser_reserved_connections": str(SUPERUSERS)}
    async with EmbeddedServer(name="small", max_connections=MOST, settings=settings) as server:
        password = secrets.token_hex(8)
        await engine.execute(server, "postgres", f"CREATE ROLE {ROLE} LOGIN PASSWORD '{password}'")
        yield SmallServer(server, password)


@pytest.fixture(autouse=True)
def _ask_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "ASK_EVERY_SECONDS", 0.2)


@pytest.fixture
def track(tmp_path: Path) -> Track:
    """A revision that takes its time."""
    config = environments.make_project(tmp_path / "project")
    environments.add_tables(tmp_path / "project", ["alpha"], before_each='op.execute("SELECT pg_sleep(0.3)")')
    return environments.track_of(config)


@dataclass
class Seen:
    """The most there were at one moment: sessions of clients but for the question itself, and guards, by database."""

    sessions: int = 0
    guards: int = 0
    by_database: dict[str, int] = field(default_factory=dict)

    def forget(self) -> None:
        self.sessions = self.guards = 0
        self.by_database = {}


@asynccontextmanager
async def _seen(small: SmallServer) -> AsyncIterator[Seen]:
    """Looks all the while, over one session."""
    seen = Seen()
    connection = await asyncpg.connect(small.url("postgres"))
    question = """SELECT datname, count(*) FILTER (WHERE application_name NOT LIKE 'orchestrator count %') AS sessions,
        count(*) FILTER (WHERE application_name LIKE 'orchestrator guard %') AS guards
        FROM pg_stat_activity WHERE backend_type = 'client backend' GROUP BY datname"""

    async def look() -> None:
        while True:
            rows = await connection.fetch(question)
            seen.sessions = max(seen.sessions, sum(row["sessions"] for row in rows))
            seen.guards = max(seen.guards, sum(row["guards"] for row in rows))
            for row in rows:
                name = str(row["datname"])
                seen.by_database[name] = max(seen.by_database.get(name, 0), row["guards"])
            await anyio.sleep(0.01)

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look)
            yield seen
            tasks.cancel_scope.cancel()
    finally:
        connection.terminate()


@asynccontextmanager
async def _application(small: SmallServer, connections: int) -> AsyncIterator[Callable[[], Any]]:
    """Holds so many connections until it is told to let go."""
    async with AsyncExitStack() as held:
        for _ in range(connections):
            connection = await asyncpg.connect(small.url("postgres"))
            held.push_async_callback(connection.close)
        yield held.aclose


async def _registry(
    small: SmallServer, make_databases: MakeDatabases, track: Track, count: int, **shard: Any
) -> Registry:
    databases = await make_databases(count, server=small)
    await small.own(databases)
    return engine.registry_of([track], [small.shard(**shard)], engine.targets_of(databases))


async def test_a_rollout_leaves_applications_their_connections_and_speeds_up_when_they_let_go(
    small: SmallServer, make_databases: MakeDatabases, track: Track
) -> None:
    registry = await _registry(small, make_databases, track, 30, max_concurrent=8)
    async with (
        engine.running(registry) as running,
        _seen(small) as seen,
        _application(small, 12) as let_go,
    ):
        view, _ = await running.service.start_rollout(engine.head())
        await running.reaches(view.rollout.id, RolloutState.RUNNING, running=4)
        await until(lambda: len(running.of(MigrationFinished)) >= 8)
        assert 0 < seen.guards <= 4, "13 of 27 are taken, 5 reserved: 4 migrations of 2 sessions each"
        assert seen.sessions <= MOST - SUPERUSERS - RESERVE
        (throttled,) = running.of(ShardThrottled)
        assert (throttled.shard, throttled.limit, throttled.allowed) == ("pg", 4, 8)
        assert throttled.reason == "others use 13 of the server's 27 connections, and 5 are left to applications"
        assert _limit(running) == 4
        await let_go()
        await running.reaches(view.rollout.id, RolloutState.RUNNING, running=8)
        await running.service.finished(view.rollout.id)
        after = await running.service.rollout(view.rollout.id)
        assert after.counts == {"succeeded": 30}
        assert 4 < seen.guards <= 8
        assert seen.sessions <= MOST - SUPERUSERS - RESERVE
        assert running.of(MigrationRetried) == [], "nobody was refused"
        assert running.of(ShardLimitChanged)[-1].reason is None
        assert _limit(running) == 8


async def test_a_server_without_a_connection_to_spare_is_waited_for(
    small: SmallServer, make_databases: MakeDatabases, track: Track
) -> None:
    registry = await _registry(small, make_databases, track, 6, max_concurrent=8)
    async with engine.running(registry) as running, _application(small, MOST - SUPERUSERS) as let_go:
        view, _ = await running.service.start_rollout(engine.head())
        await until(lambda: any(event.limit == 0 for event in running.of(ShardThrottled)))
        assert _limit(running) == 0
        await running.reaches(view.rollout.id, RolloutState.RUNNING, pending=5)
        await let_go()
        with anyio.fail_after(60):
            await running.service.finished(view.rollout.id)
        assert (await running.service.rollout(view.rollout.id)).counts == {"succeeded": 6}
        assert running.of(ShardThrottled)[-1].reason
        retried = {event.tenant: event.attempt for event in running.of(MigrationRetried)}
        assert all(attempt <= 1 for attempt in retried.values()), "one found out, and nobody asks in vain after it"


@pytest.mark.parametrize("command", ["abort", "pause", "drain"])
async def test_who_waits_for_a_connection_can_be_told_to_stop(
    small: SmallServer, make_databases: MakeDatabases, track: Track, command: str
) -> None:
    registry = await _registry(small, make_databases, track, 4, max_concurrent=8)
    async with _application(small, MOST - SUPERUSERS) as let_go:
        with anyio.fail_after(60):
            async with engine.running(registry) as running:
                view, _ = await running.service.start_rollout(engine.head())
                await until(lambda: any(event.limit == 0 for event in running.of(ShardThrottled)))
                await running.reaches(view.rollout.id, RolloutState.RUNNING, pending=3)
                if command == "abort":
                    await running.service.abort(view.rollout.id, by="test")
                    await running.service.finished(view.rollout.id)
                    assert (await running.service.rollout(view.rollout.id)).counts == {"cancelled": 4}
                if command == "pause":
                    await running.service.pause(view.rollout.id, by="test")
                    await let_go()
                    await running.service.resume(view.rollout.id, by="test")
                    await running.service.finished(view.rollout.id)
                    assert (await running.service.rollout(view.rollout.id)).counts == {"succeeded": 4}


async def test_a_server_that_never_has_room_is_given_up_with_the_reason(
    small: SmallServer, make_databases: MakeDatabases, track: Track, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "PATIENCE_SECONDS", 1.0)
    registry = await _registry(small, make_databases, track, 20, max_concurrent=8)
    async with engine.running(registry) as running, _application(small, MOST - SUPERUSERS) as let_go:
        view = await running.rollout()
        assert view.counts == {"unreachable": 20}
        reasons = {m.failure.kind for m in (await running.migrations(view)).values() if m.failure}
        assert reasons == {"too_many_connections"}
        await let_go()
        await running.service.retry(view.rollout.id, by="test")
        await running.service.finished(view.rollout.id)
        assert (await running.service.rollout(view.rollout.id)).counts == {"succeeded": 20}


async def test_the_limits_of_the_role_and_of_a_database_count_too(
    small: SmallServer, make_databases: MakeDatabases, track: Track
) -> None:
    registry = await _registry(small, make_databases, track, 8, max_concurrent=8)
    (shared,) = await make_databases(1, server=small)
    await small.own([shared])
    schemas = [f"s{number}" for number in range(6)]
    made = [f"CREATE SCHEMA {name} AUTHORIZATION {ROLE}" for name in schemas]
    await engine.execute(small.server, shared, *made)
    in_schemas = [Target(name, "app", "pg", shared, schema=name) for name in schemas]
    try:
        await engine.execute(small.server, "postgres", f"ALTER ROLE {ROLE} CONNECTION LIMIT 9")
        async with engine.running(registry) as running, _seen(small) as seen:
            view = await running.rollout()
            assert view.counts == {"succeeded": 8}
            assert 1 < seen.guards <= 4
            assert "the account may have 9" in running.of(ShardThrottled)[0].reason
            assert running.of(MigrationRetried) == []
        await engine.execute(small.server, "postgres", f"ALTER ROLE {ROLE} CONNECTION LIMIT -1")
        await engine.execute(small.server, "postgres", f'ALTER DATABASE "{shared}" CONNECTION LIMIT 10')
        both = engine.registry_of([track], [small.shard()], in_schemas)
        async with engine.running(both) as running, _seen(small) as seen:
            view = await running.rollout()
            assert view.counts == {"succeeded": 6}
            assert seen.by_database[shared] == 2, "10, of which 5 are left to applications"
            assert running.of(MigrationRetried) == []
    finally:
        await engine.execute(small.server, "postgres", f"ALTER ROLE {ROLE} CONNECTION LIMIT -1")


async def test_a_shared_database_has_its_own_limit_and_holds_up_no_other(
    small: SmallServer, make_databases: MakeDatabases, track: Track
) -> None:
    alone = await make_databases(4, server=small)
    (shared,) = await make_databases(1, server=small)
    await small.own([*alone, shared])
    schemas = [f"s{number}" for number in range(8)]
    await engine.execute(small.server, shared, *(f"CREATE SCHEMA {name} AUTHORIZATION {ROLE}" for name in schemas))
    targets = [Target(name, "app", "pg", shared, schema=name) for name in schemas]
    shard = small.shard(max_concurrent=6, max_per_database=2)
    registry = engine.registry_of([track], [shard], targets + engine.targets_of(alone))
    async with engine.running(registry) as running, _seen(small) as seen:
        view = await running.rollout()
        assert view.counts == {"succeeded": 12}
        assert seen.by_database[shared] == 2
        assert 2 < seen.guards <= 6, "those that come after it start beside it"


async def test_a_rollouts_limit_changes_while_it_runs(
    small: SmallServer, make_databases: MakeDatabases, track: Track
) -> None:
    registry = await _registry(small, make_databases, track, 24, max_concurrent=8)
    async with engine.running(registry) as running, _seen(small) as seen:
        prepare, prepared = running.parts.dispatcher.prepare, []

        async def noted(rollout: Any) -> Any:
            prepared.append(await prepare(rollout))
            return prepared[0]

        running.parts.dispatcher.prepare = noted  # type: ignore[method-assign]
        view, _ = await running.service.start_rollout(Request("app", "head", max_concurrent=1))
        await until(lambda: len(running.of(MigrationFinished)) >= 2)
        assert seen.guards == 1
        prepared[0].limit(5)
        await running.reaches(view.rollout.id, RolloutState.RUNNING, running=5)
        prepared[0].limit(2)
        await running.reaches(view.rollout.id, RolloutState.RUNNING, running=2)
        seen.forget()
        done = len(running.events)
        await until(lambda: len(running.events) > done + 6)
        assert seen.guards <= 3, "one that ends and the one that follows it may both be seen"
        prepared[0].limit(None)
        await running.reaches(view.rollout.id, RolloutState.RUNNING, running=8)
        await running.service.finished(view.rollout.id)
        assert (await running.service.rollout(view.rollout.id)).counts == {"succeeded": 24}


def _limit(running: engine.Engine) -> float | None:
    metrics = running.parts.metrics.registry
    return metrics.get_sample_value("orchestrator_shard_concurrency_limit", {"shard": "pg"})
