"""A connection pooler before a shard is found out and refused, on every way in, and leaves no trace."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import asyncpg
import pytest
from sqlalchemy.engine import make_url

from orchestrator.databases import poolers
from orchestrator.databases.base import Limits
from orchestrator.databases.discovery import Lookups
from orchestrator.databases.embedded import Server
from orchestrator.errors import TargetUnreachableError
from orchestrator.registry.model import Discovery, Shard, Track
from tests import engine, environments, pgbouncer
from tests.servers import MakeDatabases

TABLES = ["alpha", "beta"]


@pytest.fixture(autouse=True)
def _nothing_is_known_yet() -> Iterator[None]:
    poolers._direct.clear()
    yield
    poolers._direct.clear()


@pytest.fixture
def track(tmp_path: Path) -> Track:
    config = environments.make_project(tmp_path / "project")
    environments.add_tables(tmp_path / "project", TABLES)
    return environments.track_of(config)


def _shard(pooler: pgbouncer.Pooler, **fields: object) -> Shard:
    return Shard("pg", make_url(pooler.url("x")).set(database=None), **fields)  # type: ignore[arg-type]


async def _locks(pg: Server) -> list[tuple[object, ...]]:
    return await engine.fetch(pg, "postgres", "SELECT pid FROM pg_locks WHERE locktype = 'advisory'")


@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_a_pooler_before_the_shard_is_refused_and_the_remedy_is_named(
    pg: Server, make_databases: MakeDatabases, track: Track, mode: Literal["transaction", "session"]
) -> None:
    databases = await make_databases(3)
    async with pgbouncer.before(pg, mode) as pooler:
        registry = engine.registry_of([track], [_shard(pooler)], engine.targets_of(databases))
        async with engine.running(registry) as running:
            view = await running.rollout()
            assert view.counts == {"unreachable": 3}
            failed = (await running.migrations(view))["t000"]
            assert failed.failure is not None
            assert failed.failure.kind == "pooler"
            assert "connection pooler" in failed.failure.message
            assert "`direct_url`" in (failed.failure.remedy or "")
            assert failed.attempts <= 1, "time does not take a pooler away"
            target = registry.targets[0]
            with pytest.raises(TargetUnreachableError, match="connection pooler"):
                await running.parts.surveyor._migrator.read_heads(registry, target)
        assert not await _locks(pg), "a lock that was taken on a pooler's session would stay"
        for database in databases:
            assert await engine.fetch(pg, database, "SELECT relname FROM pg_class WHERE relname = 'alpha'") == []
            async with _client(pooler, database) as client:
                assert await client.fetchval("SHOW lock_timeout") == "0", "the next client must not get our settings"


@asynccontextmanager
async def _client(pooler: pgbouncer.Pooler, database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(pooler.url(database), statement_cache_size=0)
    try:
        yield connection
    finally:
        await connection.close()


async def test_the_question_that_takes_the_lock_sees_a_pooler_too_and_takes_none(
    pg: Server, make_databases: MakeDatabases, track: Track
) -> None:
    """One may be put before a server that was found to be direct a moment ago."""
    (database,) = await make_databases(1)
    async with pgbouncer.before(pg) as pooler:
        shard = _shard(pooler)
        poolers._direct[shard.url.host, shard.url.port, None] = float("inf")
        registry = engine.registry_of([track], [shard], engine.targets_of([database]))
        async with engine.running(registry) as running:
            view = await running.rollout()
            assert view.counts == {"unreachable": 1}
            assert view.failures[0].signature == "pooler"
        assert not await _locks(pg)


async def test_a_pooler_that_refuses_our_settings_is_told_in_the_same_words(
    pg: Server, make_databases: MakeDatabases, track: Track
) -> None:
    (database,) = await make_databases(1)
    async with pgbouncer.before(pg, ignored="extra_float_digits") as pooler:
        registry = engine.registry_of([track], [_shard(pooler)], engine.targets_of([database]))
        async with engine.running(registry) as running:
            view = await running.rollout()
            assert view.counts == {"unreachable": 1}
            failure = (await running.migrations(view))["t000"].failure
            assert failure is not None
            assert failure.kind == "pooler"
            assert "connection pooler" in failure.message
            assert "`direct_url`" in (failure.remedy or "")


@pytest.mark.parametrize("execution", ["online", "replay"])
async def test_a_direct_url_leads_past_the_pooler(
    pg: Server, make_databases: MakeDatabases, track: Track, execution: Literal["online", "replay"]
) -> None:
    databases = await make_databases(3)
    async with pgbouncer.before(pg) as pooler:
        direct = engine.shard_of(pg).url
        shard = _shard(pooler, direct_url=direct)
        track = replace(track, execution=execution)
        registry = engine.registry_of([track], [shard], engine.targets_of(databases))
        async with engine.running(registry) as running:
            view = await running.rollout()
            assert view.counts == {"succeeded": 3}, view.failures
            done = (await running.migrations(view))["t000"]
            assert shard.direct_url is not None
            assert f":{shard.direct_url.port}/" in done.place
            found = await Lookups(Limits()).ask(registry, Discovery("all", "databases", "x", shard="pg"))
            assert {row["database"] for row in found} >= set(databases)


async def test_a_retry_takes_the_direct_url_that_was_added_because_of_the_refusal(
    pg: Server, make_databases: MakeDatabases, track: Track
) -> None:
    databases = await make_databases(2)
    async with pgbouncer.before(pg) as pooler:
        registry = engine.registry_of([track], [_shard(pooler)], engine.targets_of(databases))
        async with engine.running(registry) as running:
            view = await running.rollout()
            assert view.counts == {"unreachable": 2}
            mended = {"pg": _shard(pooler, direct_url=engine.shard_of(pg).url)}
            running.source.current = replace(registry, digest="mended", shards=mended)
            await running.service.retry(view.rollout.id, by="test")
            await running.service.finished(view.rollout.id)
            after = await running.service.rollout(view.rollout.id)
            assert after.counts == {"succeeded": 2}, after.failures
            # What was touched by now is where it was touched, and another way may lead elsewhere.
            running.source.current = registry
            await running.service.rollback(view.rollout.id, by="test")
            await running.service.finished(view.rollout.id)
            assert {group.example.kind for group in (await running.service.rollout(view.rollout.id)).failures} == {
                "moved"
            }


async def test_a_source_of_tenants_may_be_asked_through_a_pooler(pg: Server, make_databases: MakeDatabases) -> None:
    (database,) = await make_databases(1)
    async with pgbouncer.before(pg) as pooler:
        registry = engine.registry_of([], [_shard(pooler)], [])
        for question, text in (("databases", "x"), ("query", "SELECT current_database()::text AS database")):
            asked = Discovery("all", question, text, shard="pg", database=database)  # type: ignore[arg-type]
            found = await Lookups(Limits()).ask(registry, asked)
            assert {row["database"] for row in found} >= {database}


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_env_py_that_goes_through_a_pooler_of_its_own_is_refused_and_its_settings_stay_with_us(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path, driver: str
) -> None:
    """The application's settings name the pooler: it leads to the right database, so nothing else would tell."""
    (database,) = await make_databases(1)
    async with pgbouncer.before(pg, size=1) as pooler:
        template: environments.Template = "async" if driver == "asyncpg" else "generic"
        config = environments.make_project(tmp_path / "pooled", template)
        environments.add_tables(tmp_path / "pooled", TABLES)
        env = tmp_path / "pooled" / "alembic" / "env.py"
        url = pooler.url(database).replace("postgresql", f"postgresql+{driver}", 1)
        fixed = f"config = context.config\nconfig.set_main_option('sqlalchemy.url', {url!r})\n"
        env.write_text(env.read_text().replace("config = context.config\n", fixed))
        track = environments.track_of(config)
        registry = engine.registry_of([track], [engine.shard_of(pg)], engine.targets_of([database]))
        async with engine.running(registry) as running:
            view = await running.rollout()
            assert view.counts == {"failed": 1}
            failure = (await running.migrations(view))["t000"].failure
            assert failure is not None
            assert failure.kind == "pooler"
            assert "env.py opened a connection" in failure.message
            assert "`sqlalchemy.url`" in (failure.remedy or "")
        async with _client(pooler, database) as client:
            assert await client.fetchval("SHOW lock_timeout") == "0"
        assert await engine.fetch(pg, database, "SELECT relname FROM pg_class WHERE relname = 'alpha'") == []
