"""Rows of several tables that stay changed after a rollback, and orders of rollouts that have ended."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest

from orchestrator.backfill.steering import Action, Order, Scope
from orchestrator.databases.embedded import Server
from orchestrator.errors import StateError
from orchestrator.registry.model import Registry
from tests import engine, environments
from tests.engine import until
from tests.servers import MakeDatabases
from tests.taps import Tap

NAMES = ("a.b", "c", "d", "t")
CREATE = f"""
for name in {NAMES}:
    op.create_table(name, sa.Column("id", sa.Integer, primary_key=True), sa.Column("n", sa.Integer, nullable=False))
    count = 100 if name == "t" else 10
    op.execute(f'INSERT INTO "{{name}}" SELECT i, 0 FROM generate_series(1, {{count}}) AS i')
"""
FILL = "\n".join(f"op.backfill('{name}', set_={{'n': 'n + 1'}}, batch_size=10)" for name in NAMES)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    config = environments.make_project(tmp_path / "project")
    environments.add_revision(tmp_path / "project", "alpha", None, CREATE)
    environments.add_revision(tmp_path / "project", "delta", "alpha", FILL, 'op.verify("SELECT true", "")')
    return config


def _registry(config: Path, pg: Server, databases: Sequence[str]) -> Registry:
    return engine.registry_of([environments.track_of(config)], [engine.shard_of(pg)], engine.targets_of(databases))


async def test_rows_of_each_table_are_told(pg: Server, make_databases: MakeDatabases, project: Path) -> None:
    (database,) = await make_databases(1)
    async with engine.running(_registry(project, pg, [database])) as running:
        await running.rollout("alpha")
        tap = Tap.of(running, 5)
        rollout = (await running.service.start_rollout(engine.head()))[0].rollout.id
        await until(lambda: tap.is_dry)
        await running.service.rollback(rollout, by="test")
        with anyio.fail_after(90):
            await running.service.finished(rollout)
        (left,) = await running.service.migrations(rollout)
        assert left.failure is not None
        said = "10 rows of a.b, 10 rows of c, 10 rows of d and 20 rows of t stay as the backfill of revision delta"
        assert left.failure.message.startswith(said)


async def test_a_pause_of_a_rollout_that_has_ended_is_taken_back_as_it_is_said(
    pg: Server, make_databases: MakeDatabases, project: Path
) -> None:
    (database,) = await make_databases(1)
    async with engine.running(_registry(project, pg, [database])) as running:
        orders = running.service.backfills

        async def order(action: Action, scope: Scope) -> None:
            await orders.order(Order(scope, action, "test", datetime.now(UTC), "for a while"))

        tap = Tap.of(running, 1)
        rollout = (await running.service.start_rollout(engine.head()))[0].rollout.id
        await until(lambda: tap.is_dry)
        await order("pause", Scope(rollout=rollout))
        await running.service.abort(rollout, by="test")
        with anyio.fail_after(90):
            await running.service.finished(rollout)
        assert [one.scope.rollout for one in (await orders.fleet()).orders] == [rollout]
        with pytest.raises(StateError, match="nothing was resumed") as raised:
            await order("resume", Scope(shard="pg"))
        assert f"orchestrator backfill resume --rollout {rollout}" in (raised.value.remedy or "")
        await order("resume", Scope(rollout=rollout))
        assert (await orders.fleet()).orders == []
        with pytest.raises(StateError, match="has finished"):
            await order("pause", Scope(rollout=rollout))
