"""Who waits behind a migration that waits itself does so for at most `lock_timeout`; what it works is its own."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent

import anyio
import asyncpg
import pytest

from orchestrator.databases import giving_way
from orchestrator.databases.embedded import Server
from orchestrator.events import MigrationRetried
from orchestrator.registry.model import Registry
from orchestrator.rollout.state import RolloutState
from tests import engine, environments
from tests.engine import until
from tests.servers import MakeDatabases

LOCK_TIMEOUT = 2.0
# On a busy machine; without our giving way each of these would wait for three times `LOCK_TIMEOUT` and more.
MOST = 2 * LOCK_TIMEOUT


async def _fleet(pg: Server, database: str, folder: Path, body: str, tables: Sequence[str]) -> Registry:
    config = environments.make_project(folder / "project")
    environments.add_revision(folder / "project", "alpha", None, dedent(body))
    await engine.provision(pg, database)
    made = [f"CREATE TABLE {name} (v int)" for name in tables]
    filled = [f"INSERT INTO {name} VALUES (0)" for name in tables]
    await engine.execute(pg, database, *made, *filled)
    track = environments.track_of(config)
    return engine.registry_of([track], [engine.shard_of(pg)], engine.targets_of([database]))


@asynccontextmanager
async def _session(pg: Server, database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(pg.url(database))
    try:
        yield connection
    finally:
        await connection.close(timeout=5)


async def _is_there(pg: Server, database: str, condition: str) -> bool:
    query = f"SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND {condition}"
    return bool(await engine.fetch(pg, database, query))


async def test_behind_another_session_of_the_same_env_py(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    """The first keeps `t0`, the second waits for one table after the other."""
    [database] = await make_databases(1)
    others = [f"t{number}" for number in range(1, 5)]
    body = f"""
        op.execute("ALTER TABLE t0 ADD COLUMN n int")
        with op.get_bind().engine.connect() as other:
            for name in {others!r}:
                other.execute(sa.text(f"ALTER TABLE {{name}} ADD COLUMN n int"))
            other.commit()
    """
    registry = await _fleet(pg, database, tmp_path, body, ["t0", *others])
    async with (
        engine.running(registry, lock_timeout_seconds=LOCK_TIMEOUT) as running,
        _session(pg, database) as application,
    ):
        holders = [await _reading(pg, database, name) for name in others]
        view, _ = await running.service.start_rollout(engine.head())
        await until(lambda: _is_there(pg, database, "wait_event_type = 'Lock' AND query LIKE 'ALTER TABLE t1%'"))
        began = time.monotonic()
        async with anyio.create_task_group() as tasks:

            async def let_go() -> None:
                while holders:
                    await anyio.sleep(0.8 * LOCK_TIMEOUT)
                    await holders.pop(0).close(timeout=5)

            tasks.start_soon(let_go)
            await application.fetch("SELECT * FROM t0")
            waited = time.monotonic() - began
            tasks.cancel_scope.cancel()
        for connection in holders:
            await connection.close(timeout=5)
        await running.reaches(view.rollout.id, RolloutState.SUCCEEDED, succeeded=1)
        assert waited < MOST
        assert "gave way to backend" in running.of(MigrationRetried)[0].message


async def _reading(pg: Server, database: str, table: str) -> asyncpg.Connection:
    """A transaction that has read the table: ACCESS SHARE until its session ends."""
    connection = await asyncpg.connect(pg.url(database))
    await connection.execute("BEGIN")
    await connection.fetch(f"SELECT * FROM {table}")
    return connection


@pytest.mark.parametrize(
    "behind", ["UPDATE a SET v = v", "CREATE INDEX CONCURRENTLY made ON a (v)"], ids=["row", "index"]
)
async def test_what_it_works_is_no_waiting(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path, behind: str
) -> None:
    """Somebody has waited for `a` all the while; the row of `b` is free again in time."""
    [database] = await make_databases(1)
    body = """
        op.execute("UPDATE a SET v = v + 1")
        op.execute("SELECT pg_sleep(4)")
        op.execute("UPDATE b SET v = v + 1")
    """
    registry = await _fleet(pg, database, tmp_path, body, ["a", "b"])
    async with (
        engine.running(registry, lock_timeout_seconds=2 * LOCK_TIMEOUT) as running,
        _session(pg, database) as application,
        _session(pg, database) as other,
        anyio.create_task_group() as tasks,
    ):
        view, _ = await running.service.start_rollout(engine.head())
        await until(lambda: _is_there(pg, database, "wait_event = 'PgSleep'"))
        tasks.start_soon(application.execute, behind)
        transaction = other.transaction()
        await transaction.start()
        await other.execute("UPDATE b SET v = v")
        await until(lambda: _is_there(pg, database, "wait_event_type = 'Lock' AND query LIKE 'UPDATE b SET v = v +%'"))
        await anyio.sleep(LOCK_TIMEOUT / 2)
        await transaction.rollback()
        await running.reaches(view.rollout.id, RolloutState.SUCCEEDED, succeeded=1)
        assert running.of(MigrationRetried) == []


async def test_a_store_that_is_slow_to_take_a_note_keeps_no_application_waiting(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    """The note of what is about to be committed is written while env.py holds its locks."""
    [database] = await make_databases(1)
    body = """
        op.execute("ALTER TABLE a ADD COLUMN n int")
        op.execute("SELECT pg_sleep(1)")
        with op.get_context().autocommit_block():
            op.execute("CREATE INDEX CONCURRENTLY made ON a (n)")
    """
    registry = await _fleet(pg, database, tmp_path, body, ["a"])
    store = tmp_path / "store.db"
    async with (
        engine.running(registry, store_url=f"sqlite:///{store}", lock_timeout_seconds=1.0) as running,
        _session(pg, database) as application,
    ):
        view, _ = await running.service.start_rollout(engine.head())
        await until(lambda: _is_there(pg, database, "wait_event = 'PgSleep'"))
        busy = sqlite3.connect(store, isolation_level=None, timeout=30)
        busy.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with anyio.fail_after(60):
            await application.fetch("SELECT * FROM a")
        waited = time.monotonic() - began
        busy.close()
        await running.reaches(view.rollout.id, RolloutState.SUCCEEDED, succeeded=1)
        assert waited < 5.0, "the store was busy until the application had its answer"
        assert "the store took longer than 1 s" in running.of(MigrationRetried)[0].message


async def test_a_server_that_does_not_tell_since_when_somebody_waits_is_not_asked(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As PostgreSQL 13, which refuses the question: a migration that waits there goes on waiting."""
    monkeypatch.setattr(giving_way, "SINCE_VERSION", 999)
    monkeypatch.setattr(giving_way, "_OURS", "SELECT not_there FROM pg_catalog.pg_locks WHERE $1 = $2")
    [database] = await make_databases(1)
    registry = await _fleet(pg, database, tmp_path, 'op.execute("ALTER TABLE a ADD COLUMN n int")', ["a"])
    async with engine.running(registry, lock_timeout_seconds=10 * LOCK_TIMEOUT) as running:
        held = await _reading(pg, database, "a")
        view, _ = await running.service.start_rollout(engine.head())
        condition = "wait_event_type = 'Lock' AND clock_timestamp() - query_start > interval '3 s'"
        await until(lambda: _is_there(pg, database, condition))
        await held.close(timeout=5)
        await running.reaches(view.rollout.id, RolloutState.SUCCEEDED, succeeded=1)
        assert running.of(MigrationRetried) == []
