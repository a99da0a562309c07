"""A session that keeps a table locked delays its own tenant and no other, and no application waits behind us."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio
import asyncpg
import pytest

from orchestrator.databases.embedded import Server
from orchestrator.events import MigrationFinished, MigrationRetried
from orchestrator.registry.model import Execution, Registry
from orchestrator.rollout.state import RolloutState
from tests import engine, environments
from tests.engine import until
from tests.servers import MakeDatabases

TENANTS = 12
LOCK_TIMEOUT = 1.0
# What a query may wait beyond `lock_timeout` on a busy machine; without one it would wait as long as the holder stays.
SLACK = 6.0
STAYS = 12.0
TWO_LOCKS = 4.0
WAYS = pytest.mark.parametrize("execution", ["online", "auto"])


@dataclass
class Application:
    """Queries the table all the time, and notes how long each query took."""

    waits: list[float] = field(default_factory=list)

    async def run(self, connection: asyncpg.Connection) -> None:
        while True:
            began = time.monotonic()
            await connection.fetch("SELECT count(*) FROM orders")
            self.waits.append(time.monotonic() - began)
            await anyio.sleep(0.005)


@asynccontextmanager
async def _application(pg: Server, database: str) -> AsyncIterator[Application]:
    connection = await asyncpg.connect(pg.url(database), server_settings={"application_name": "the application"})
    application = Application()
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(application.run, connection)
            yield application
            tasks.cancel_scope.cancel()
    finally:
        await connection.close(timeout=5)


@asynccontextmanager
async def _reader(
    pg: Server, database: str, table: str = "orders"
) -> AsyncIterator[asyncpg.connection.transaction.Transaction]:
    """A transaction that has read the table and goes on: ACCESS SHARE until it ends."""
    connection = await asyncpg.connect(pg.url(database), server_settings={"application_name": "report of anna"})
    try:
        transaction = connection.transaction()
        await transaction.start()
        await connection.fetch(f"SELECT * FROM {table}")
        yield transaction
    finally:
        await connection.close(timeout=5)


async def _fleet(tmp_path: Path, pg: Server, databases: Sequence[str], execution: Execution) -> Registry:
    config = environments.make_project(tmp_path / "project")
    environments.add_revision(
        tmp_path / "project", "alpha", None, 'op.add_column("orders", sa.Column("x", sa.Integer))'
    )
    for database in databases:
        await engine.provision(pg, database)
        await engine.execute(pg, database, "CREATE TABLE orders (id int)", "INSERT INTO orders VALUES (1)")
    track = replace(environments.track_of(config), execution=execution)
    return engine.registry_of([track], [engine.shard_of(pg, max_concurrent=4)], engine.targets_of(databases))


def _finished(running: engine.Engine) -> dict[str, str]:
    return {it.tenant: it.outcome for it in running.of(MigrationFinished)}


@WAYS
async def test_a_reader_that_lets_go_in_time_delays_its_own_tenant_and_no_query_for_longer_than_lock_timeout(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path, execution: Execution
) -> None:
    databases = await make_databases(TENANTS)
    registry = await _fleet(tmp_path, pg, databases, execution)
    held = databases[5]
    limits = {"lock_timeout_seconds": LOCK_TIMEOUT, "lock_retry_seconds": 60.0}
    async with (
        engine.running(registry, **limits) as running,
        _reader(pg, held) as transaction,
        _application(pg, held) as application,
    ):
        began = time.monotonic()
        view, _ = await running.service.start_rollout(engine.head())
        await until(lambda: len(_finished(running)) == TENANTS - 1)
        assert "t005" not in _finished(running)
        assert set(_finished(running).values()) == {"succeeded"}, "all others are done while the reader stays"

        async def tried_long_enough() -> bool:
            return time.monotonic() - began >= STAYS and len(running.of(MigrationRetried)) >= 3

        await until(tried_long_enough)
        await transaction.rollback()
        await until(lambda: len(_finished(running)) == TENANTS)
        await running.reaches(view.rollout.id, RolloutState.SUCCEEDED, succeeded=TENANTS)
        assert {it.tenant for it in running.of(MigrationRetried)} == {"t005"}
        assert {it.reason for it in running.of(MigrationRetried)} == {"contention"}
        pauses = [it.wait_seconds for it in running.of(MigrationRetried)]
        assert pauses[0] < pauses[1] < pauses[2], "the pauses grow"
        assert max(application.waits) < LOCK_TIMEOUT + SLACK, max(application.waits)
        assert max(application.waits) > LOCK_TIMEOUT / 2, "it did stand in the queue behind the ALTER TABLE"
        assert len(application.waits) > 100


@WAYS
async def test_a_reader_that_stays_beyond_the_deadline_is_named(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path, execution: Execution
) -> None:
    databases = await make_databases(TENANTS)
    registry = await _fleet(tmp_path, pg, databases, execution)
    limits = {"lock_timeout_seconds": 1.2, "lock_retry_seconds": 5.0}
    async with engine.running(registry, **limits) as running, _reader(pg, databases[5]):
        async with _application(pg, databases[5]) as application:
            view = await running.rollout()
        assert view.counts == {"succeeded": TENANTS - 1, "locked": 1}, view.failures
        failed = (await running.migrations(view))["t005"]
        assert failed.failure is not None
        assert failed.failure.code == "55P03"
        assert "(report of anna, idle in transaction" in failed.failure.message
        assert "end that session" in (failed.failure.remedy or "") or "end the session" in (failed.failure.remedy or "")
        assert 2 <= failed.attempts <= 6
        assert max(application.waits) < 1.2 + SLACK
    assert await engine.fetch(pg, databases[5], "SELECT version_num FROM alembic_version") == []


@pytest.mark.parametrize("execution", ["online", "replay"])
async def test_a_transaction_that_waits_for_a_second_lock_keeps_nobody_waiting_for_longer_than_for_one(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path, execution: Execution
) -> None:
    """`orders` is let go in time and `zones` is not: with a limit for each statement alone, whoever queues for
    `orders` behind the first ALTER TABLE would wait for both."""
    databases = await make_databases(3)
    registry = await _fleet(tmp_path, pg, databases, execution)
    environments.add_revision(
        tmp_path / "project",
        "alpha",
        None,
        'op.add_column("orders", sa.Column("x", sa.Integer))\nop.add_column("zones", sa.Column("x", sa.Integer))',
    )
    for database in databases:
        await engine.execute(pg, database, "CREATE TABLE zones (id int)")
    limits = {"lock_timeout_seconds": TWO_LOCKS, "lock_retry_seconds": 60.0}
    async with (
        engine.running(registry, **limits) as running,
        _reader(pg, databases[1]) as transaction,
        _reader(pg, databases[1], "zones") as other,
        _application(pg, databases[1]) as application,
    ):
        view, _ = await running.service.start_rollout(engine.head())
        await until(lambda: _queues(pg, databases[1]))
        await anyio.sleep(TWO_LOCKS * 0.6)
        await transaction.rollback()
        await until(lambda: len(running.of(MigrationRetried)) == 1)
        (retried,) = running.of(MigrationRetried)
        assert retried.tenant == "t001"
        assert retried.reason == "contention"
        assert "gave way to backend" in retried.message
        assert "(the application, active" in retried.message
        assert "held by backend" in retried.message
        assert "(report of anna, idle in transaction" in retried.message
        await other.rollback()
        await running.reaches(view.rollout.id, RolloutState.SUCCEEDED, succeeded=3)
        assert max(application.waits) > TWO_LOCKS * 0.6, "it stood in the queue"
        assert max(application.waits) < TWO_LOCKS * 1.5, max(application.waits)
        assert len(running.of(MigrationRetried)) == 1


async def _queues(pg: Server, database: str) -> bool:
    """We wait for the reader, and the application for us."""
    waiting = """SELECT 1 FROM pg_locks WHERE NOT granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
    return len(await engine.fetch(pg, database, waiting)) >= 2
