"""Half a backfill that a helper's file holds, and a replayed rollout that leads the database back past it."""

from __future__ import annotations

from pathlib import Path

import anyio

from orchestrator.databases.embedded import Server
from orchestrator.rollout.state import Direction, MigrationState
from tests import engine, environments
from tests.engine import until
from tests.servers import MakeDatabases
from tests.taps import Tap

CREATE = """
op.create_table("t", sa.Column("id", sa.Integer, primary_key=True), sa.Column("old", sa.Integer))
op.execute("INSERT INTO t SELECT i, i FROM generate_series(1, 100) AS i")
"""
HELPER = """
from alembic import op


def fill():
    op.backfill("t", {"new": "old * 100"}, batch_size=10)
"""
CALLED = """
import importlib.util
spec = importlib.util.spec_from_file_location("helping", {0!r})
made = importlib.util.module_from_spec(spec)
spec.loader.exec_module(made)
made.fill()
"""


async def test_it_begins_anew_with_its_column(pg: Server, make_databases: MakeDatabases, tmp_path: Path) -> None:
    config = environments.make_project(tmp_path / "project")
    environments.use_transaction_per_migration(tmp_path / "project")
    helper = tmp_path / "project" / "helping.py"
    helper.write_text(HELPER)
    environments.add_revision(tmp_path / "project", "made", None, CREATE, 'op.drop_table("t")')
    add, drop = 'op.add_column("t", sa.Column("new", sa.Integer))', 'op.drop_column("t", "new")'
    environments.add_revision(tmp_path / "project", "expanded", "made", add, drop)
    environments.add_revision(tmp_path / "project", "filled", "expanded", CALLED.format(str(helper)))
    [database] = await make_databases(1)
    track = environments.track_of(config, execution="replay")
    registry = engine.registry_of([track], [engine.shard_of(pg)], engine.targets_of([database]))
    async with engine.running(registry) as running:
        assert (await running.rollout("expanded")).counts == {"succeeded": 1}
        tap = Tap.of(running, 3)
        view, _ = await running.service.start_rollout(engine.head())
        await until(lambda: tap.is_dry)
        await running.service.abort(view.rollout.id, by="ann")
        with anyio.fail_after(90):
            await running.service.finished(view.rollout.id)
        assert await _filled(pg, database) == 30

        back = await running.rollout("made", direction=Direction.DOWNGRADE)
        assert back.counts == {"succeeded": 1}
        [migration] = (await running.migrations(back)).values()
        assert (migration.state, migration.execution) == (MigrationState.SUCCEEDED, "online")
        tap.most = 1_000
        assert (await running.rollout("head")).counts == {"succeeded": 1}
    assert await _filled(pg, database) == 100


async def _filled(pg: Server, database: str) -> int:
    [(filled,)] = await engine.fetch(pg, database, "SELECT count(*) FROM t WHERE new = old * 100")
    return int(filled)
