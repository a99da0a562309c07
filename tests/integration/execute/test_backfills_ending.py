"""What comes while a backfill's last batch is on its way still keeps the migration from what comes next."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import asyncpg
import pytest

from orchestrator.backfill.steering import Action, Order, Scope
from orchestrator.databases.embedded import Server
from orchestrator.events import now
from orchestrator.rollout.state import Migration, MigrationState
from tests import engine, environments
from tests.engine import Engine, until
from tests.servers import MakeDatabases

CREATE = """
op.create_table("t", sa.Column("id", sa.Integer, primary_key=True), sa.Column("old", sa.Integer),
    sa.Column("new", sa.Integer))
op.execute("INSERT INTO t SELECT i, i FROM generate_series(1, 100) AS i")
"""
FILL = 'op.backfill("t", {"new": "old * 100"}, batch_size=100)'
CONTRACT = 'op.requires_backfill("filled")\nop.drop_column("t", "old")'


@dataclass
class Ending:
    """A rollout whose one batch waits for a row that somebody holds."""

    running: Engine
    rollout: str
    server: Server
    database: str
    holder: asyncpg.Connection[asyncpg.Record]

    async def order(self, action: Action) -> int:
        effect = await self.running.service.backfills.order(Order(Scope(), action, "ann", now(), "the column is wrong"))
        return effect.count

    async def let_go(self) -> None:
        await self.holder.execute("ROLLBACK")

    async def finished(self) -> Migration:
        with anyio.fail_after(90):
            await self.running.service.finished(self.rollout)
        view = await self.running.service.rollout(self.rollout)
        return (await self.running.migrations(view))["t000"]

    async def columns(self) -> set[str]:
        asked = "SELECT column_name FROM information_schema.columns WHERE table_name = 't'"
        return {str(name) for (name,) in await engine.fetch(self.server, self.database, asked)}

    async def rows_left(self) -> int:
        [(left,)] = await engine.fetch(self.server, self.database, "SELECT count(*) FROM t WHERE new IS NULL")
        return int(left)


@pytest.fixture
async def ending(pg: Server, make_databases: MakeDatabases, tmp_path: Path) -> AsyncIterator[Ending]:
    config = environments.make_project(tmp_path / "project")
    environments.use_transaction_per_migration(tmp_path / "project")
    for name, before, text in (("made", None, CREATE), ("filled", "made", FILL), ("contracted", "filled", CONTRACT)):
        environments.add_revision(tmp_path / "project", name, before, text)
    [database] = await make_databases(1)
    registry = engine.registry_of([environments.track_of(config)], [engine.shard_of(pg)], engine.targets_of([database]))
    async with engine.running(registry, lock_timeout_seconds=60) as running:
        assert (await running.rollout("made")).counts == {"succeeded": 1}
        async with _holding(pg, database) as holder:
            view, _ = await running.service.start_rollout(engine.head())
            await until(lambda: _waits(pg, database))
            yield Ending(running, view.rollout.id, pg, database, holder)


@asynccontextmanager
async def _holding(pg: Server, database: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    holder = await asyncpg.connect(pg.url(database))
    await holder.execute("BEGIN")
    await holder.execute("SELECT 1 FROM t WHERE id = 100 FOR UPDATE")
    try:
        yield holder
    finally:
        await holder.close()


async def _waits(pg: Server, database: str) -> bool:
    asked = "SELECT 1 FROM pg_stat_activity WHERE datname = $1 AND wait_event_type = 'Lock'"
    return bool(await engine.fetch(pg, "postgres", asked, database))


async def test_an_abort_ends_the_migration_there(ending: Ending) -> None:
    assert await ending.order("abort") == 1
    await ending.let_go()
    migration = await ending.finished()
    assert migration.state is MigrationState.CANCELLED
    assert migration.failure is not None
    assert migration.failure.kind == "backfill_aborted"
    assert "old" in await ending.columns()
    assert await ending.rows_left() == 0
    view = await ending.running.rollout("head")  # what is done is not done again
    assert view.counts == {"succeeded": 1}
    assert "old" not in await ending.columns()


async def test_a_pause_holds_it_there(ending: Ending) -> None:
    assert await ending.order("pause") == 1
    await ending.let_go()
    await until(lambda: _is_filled(ending))
    held = ending.running.parts.throttle.underway
    await until(lambda: [hold.reason for view in held() for hold in view.holds] == ["paused"])
    assert "old" in await ending.columns()
    assert await ending.order("resume") == 1
    assert (await ending.finished()).state is MigrationState.SUCCEEDED
    assert "old" not in await ending.columns()


async def test_a_pause_of_the_rollout_holds_it_there(ending: Ending) -> None:
    await ending.running.service.pause(ending.rollout, by="ann")
    await ending.let_go()
    await until(lambda: _is_filled(ending))
    held = ending.running.parts.throttle.underway
    await until(lambda: [hold.reason for view in held() for hold in view.holds] == ["rollout_paused"])
    assert "old" in await ending.columns()
    await ending.running.service.resume(ending.rollout, by="ann")
    assert (await ending.finished()).state is MigrationState.SUCCEEDED


async def test_an_abort_of_the_rollout_ends_it_there(ending: Ending) -> None:
    await ending.running.service.abort(ending.rollout, by="ann")
    await ending.let_go()
    assert (await ending.finished()).state is MigrationState.CANCELLED
    assert "old" in await ending.columns()


async def _is_filled(ending: Ending) -> bool:
    return await ending.rows_left() == 0
