"""A revision that is edited while a rollout runs it: what was loaded runs, and counts as what it is."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from orchestrator.databases.embedded import Server
from orchestrator.registry.model import Isolation
from tests import engine, environments
from tests.engine import until
from tests.servers import MakeDatabases
from tests.taps import Tap

CREATE = """
op.create_table("t", sa.Column("id", sa.Integer, primary_key=True), sa.Column("n", sa.Integer, nullable=False))
op.execute("INSERT INTO t SELECT i, 0 FROM generate_series(1, 100) AS i")
"""
FILL = 'op.backfill_rows("t", ["n"], lambda rows: [{{"n": row["n"] + {}}} for row in rows], batch_size=10)'


@pytest.mark.parametrize("beside", ["", '\nop.execute("SELECT 1")'], ids=["another", "mixed"])
async def test_a_target_that_begins_after_the_edit_is_not_gone_on_with_by_another_function(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path, beside: str
) -> None:
    databases = await make_databases(2)
    config = environments.make_project(tmp_path / "project")
    environments.add_revision(tmp_path / "project", "alpha", None, CREATE, 'op.drop_table("t")')
    environments.add_revision(tmp_path / "project", "delta", "alpha", FILL.format(1))
    isolation: Isolation = "thread"
    track = environments.track_of(config, isolation=isolation)
    registry = engine.registry_of([track], [engine.shard_of(pg, max_concurrent=1)], engine.targets_of(databases))
    async with engine.running(registry) as running:
        tap = Tap.of(running, 3)
        rollout = (await running.service.start_rollout(engine.head()))[0].rollout.id
        await until(lambda: tap.is_dry)
        environments.add_revision(tmp_path / "project", "delta", "alpha", FILL.format(7) + beside)
        tap.most = 13  # all of the first, and three of the second
        await until(lambda: tap.is_dry)
        await running.service.abort(rollout, by="test")
        with anyio.fail_after(60):
            await running.service.finished(rollout)
        assert (await running.service.rollout(rollout)).counts == {"succeeded": 1, "cancelled": 1}
        if beside:
            environments.add_revision(tmp_path / "project", "delta", "alpha", FILL.format(7))
        tap.most = 1_000
        view = await running.rollout()
        failed = (await running.migrations(view))["t001"]
        assert failed.failure is not None
        assert "was changed after it had begun" in failed.failure.message
    rows = [await engine.fetch(pg, one, "SELECT n, count(*) FROM t GROUP BY n ORDER BY n") for one in databases]
    assert rows == [[(1, 100)], [(0, 70), (1, 30)]]
