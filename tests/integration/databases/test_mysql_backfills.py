"""Backfills on a server that takes no DDL back: one that was killed goes on, and hides nothing that is half applied."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from sqlalchemy.engine import make_url

from orchestrator.registry.model import Registry, Shard
from orchestrator.rollout.state import MigrationState
from tests import engine, environments, mariadb
from tests.engine import Engine, until
from tests.mariadb import MakeMySQLDatabases, MySQLServer
from tests.processes import at_ports
from tests.taps import Tap

ROWS = 100
CREATE = f"""
op.create_table("t", sa.Column("id", sa.Integer, primary_key=True), sa.Column("n", sa.Integer, nullable=False))
op.execute("INSERT INTO t WITH RECURSIVE s AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM s WHERE i < {ROWS}) "
           "SELECT i, 0 FROM s")
"""
FILL = 'op.backfill("t", set_={"n": "n + 1"}, batch_size=10)'
DIES = 'op.execute("CREATE TABLE half (id int)")\nos._exit(1)'


def _registry(mysql: MySQLServer, database: str, config: Path) -> Registry:
    shard = Shard("maria", make_url(mysql.url("x")).set(database=None))
    return engine.registry_of([environments.track_of(config)], [shard], engine.targets_of([database], shard="maria"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    config = environments.make_project(tmp_path / "project")
    environments.add_revision(tmp_path / "project", "alpha", None, CREATE, 'op.drop_table("t")')
    environments.add_revision(tmp_path / "project", "delta", "alpha", FILL)
    return config


@pytest.fixture
async def database(make_mysql_databases: MakeMySQLDatabases) -> str:
    return (await make_mysql_databases(1))[0]


class Killed(Exception):
    """The daemon is no more."""


@asynccontextmanager
async def _killed(registry: Registry, store: str) -> AsyncIterator[Engine]:
    """A daemon that is killed at the end of the block."""
    try:
        async with engine.running(registry, store_url=store) as running:
            yield running
            raise Killed
    except* Killed:
        pass


@asynccontextmanager
async def _begun(registry: Registry, store: str = "sqlite://") -> AsyncIterator[tuple[Engine, Tap, str]]:
    """A rollout whose backfill has made three batches, and waits."""
    async with engine.running(registry, store_url=store) as running:
        tap = Tap.of(running, 3)
        view, _ = await running.service.start_rollout(engine.head())
        await until(lambda: tap.is_dry)
        yield running, tap, view.rollout.id


async def _finished(running: Engine, rollout: str) -> None:
    with anyio.fail_after(90):
        await running.service.finished(rollout)


async def _counted(mysql: MySQLServer, database: str) -> dict[int, int]:
    rows = await mariadb.fetch(mysql, database, "SELECT n, count(*) FROM t GROUP BY n")
    return {int(n): int(count) for n, count in rows}


async def _workers_on(mysql: MySQLServer, database: str) -> list[int]:
    hosts = await mariadb.fetch(mysql, "", "SELECT host FROM information_schema.processlist WHERE db = %s", database)
    return at_ports([int(host.rpartition(":")[2]) for (host,) in hosts])


async def test_a_worker_that_is_killed_in_a_backfill_is_replaced(
    mysql: MySQLServer, database: str, project: Path
) -> None:
    async with _begun(_registry(mysql, database, project)) as (running, tap, rollout):
        written = (await running.service.migrations(rollout))[0]
        assert written.doubt == "backfill upgrade delta", "in the ledger, for whoever comes after us"
        [worker] = await _workers_on(mysql, database)
        os.kill(worker, signal.SIGKILL)
        tap.most = 1_000
        await _finished(running, rollout)
        done = (await running.service.migrations(rollout))[0]
        assert (done.state, done.attempts, done.doubt) == ("succeeded", 2, None), done.failure
    assert await _counted(mysql, database) == {1: ROWS}


async def test_a_daemon_that_is_killed_in_a_backfill_goes_on_with_it(
    mysql: MySQLServer, database: str, project: Path, tmp_path: Path
) -> None:
    store, registry = f"sqlite:///{tmp_path}/store.db", _registry(mysql, database, project)
    rollout = ""
    for _ in range(2):  # the second one before its first batch
        async with _killed(registry, store) as running:
            tap = Tap.of(running, 0 if rollout else 3)
            if rollout:
                await running.service.resume_active()
            else:
                rollout = (await running.service.start_rollout(engine.head()))[0].rollout.id
            await until(lambda tap=tap: tap.is_dry)  # type: ignore[misc]
    async with engine.running(registry, store_url=store) as running:
        left = (await running.service.migrations(rollout))[0]
        assert (left.state, left.doubt) == ("running", "backfill upgrade delta")
        await running.service.resume_active()
        await _finished(running, rollout)
        done = (await running.service.migrations(rollout))[0]
        assert (done.state, done.doubt) == ("succeeded", None), done.failure
    assert await _counted(mysql, database) == {1: ROWS}


async def test_what_was_ended_by_force_in_a_backfill_is_gone_on_with_by_the_next_rollout(
    mysql: MySQLServer, database: str, project: Path
) -> None:
    async with _begun(_registry(mysql, database, project)) as (running, tap, rollout):
        await running.service.abort(rollout, by="test", force=True)
        await _finished(running, rollout)
        assert (await running.service.migrations(rollout))[0].state is MigrationState.CANCELLED
        tap.most = 1_000
        view = await running.rollout()
        assert view.counts == {"succeeded": 1}, view.failures
    assert await _counted(mysql, database) == {1: ROWS}


async def test_rows_that_stay_changed_after_a_rollback_are_told(
    mysql: MySQLServer, database: str, project: Path
) -> None:
    reversible = 'op.verify("SELECT 1", "nothing to undo")'
    environments.add_revision(project.parent, "delta", "alpha", FILL, reversible)
    async with engine.running(_registry(mysql, database, project)) as running:
        await running.rollout("alpha")
        tap = Tap.of(running, 3)
        rollout = (await running.service.start_rollout(engine.head()))[0].rollout.id
        await until(lambda: tap.is_dry)
        await running.service.rollback(rollout, by="test")
        await _finished(running, rollout)
        (left,) = await running.service.migrations(rollout)
        assert (left.state, left.failure and left.failure.kind) == (MigrationState.ROLLED_BACK, "backfill_left")
        assert left.failure is not None
        assert left.failure.message.startswith("30 rows of t stay as the backfill of revision delta has changed them")


async def test_what_dies_after_the_backfill_is_half_applied_all_the_same(
    mysql: MySQLServer, database: str, project: Path
) -> None:
    environments.add_revision(project.parent, "omega", "delta", DIES)
    async with engine.running(_registry(mysql, database, project)) as running:
        for _ in range(2):
            view = await running.rollout()
            failed = (await running.migrations(view))["t000"]
            assert failed.failure is not None
            assert (failed.state, failed.failure.kind, failed.attempts) == ("failed", "half_applied", 1)
            assert "The version table says delta" in failed.failure.message
    assert await _counted(mysql, database) == {1: ROWS}


async def test_a_backfill_in_doubt_is_no_excuse_for_what_came_after_it(
    mysql: MySQLServer, database: str, project: Path, tmp_path: Path
) -> None:
    """The ledger has the note of the backfill still when the daemon dies in the revision after it."""
    environments.add_revision(project.parent, "omega", "delta", "op.execute('DO SLEEP(300)')")
    store, registry = f"sqlite:///{tmp_path}/store.db", _registry(mysql, database, project)
    async with _killed(registry, store) as running:
        Tap.of(running, 1_000)
        rollout = (await running.service.start_rollout(engine.head()))[0].rollout.id

        async def past() -> bool:
            sleeping = "SELECT 1 FROM information_schema.processlist WHERE db = %s AND info LIKE 'DO SLEEP%%'"
            return bool(await mariadb.fetch(mysql, "", sleeping, database))

        await until(past)
    async with engine.running(registry, store_url=store) as running:
        await running.service.resume_active()
        await _finished(running, rollout)
        failed = (await running.service.migrations(rollout))[0]
        assert failed.failure is not None
        assert failed.failure.kind == "half_applied"


async def test_what_is_mixed_with_a_backfill_is_refused_before_anything_runs(
    mysql: MySQLServer, database: str, project: Path
) -> None:
    both = f'op.add_column("t", sa.Column("m", sa.Integer))\n{FILL}'
    environments.add_revision(project.parent, "omega", "delta", both)
    async with engine.running(_registry(mysql, database, project)) as running:
        failed = (await running.migrations(await running.rollout()))["t000"]
        assert failed.failure is not None
        assert (failed.state, failed.failure.kind, failed.failure.revision) == ("failed", "mixed_backfill", "omega")
        assert "op.add_column (omega.py:" in failed.failure.message
    assert await mariadb.fetch(mysql, database, "SHOW TABLES") == []
