"""Backfills in plans: shown as what they are, replayed around, refused where something is mixed with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator.api import schemas
from orchestrator.databases.embedded import Server
from orchestrator.registry.model import Registry
from tests import engine, environments
from tests.engine import Engine
from tests.servers import MakeDatabases

ROWS = 30
CREATE = f"""
op.create_table("t", sa.Column("id", sa.Integer, primary_key=True), sa.Column("n", sa.Integer))
op.execute("INSERT INTO t SELECT i, 0 FROM generate_series(1, {ROWS}) AS i")
"""
FILL = 'op.backfill("t", set_={"n": "n + 1"}, batch_size=10)'
CONTRACT = 'op.requires_backfill("beta")\nop.alter_column("t", "n", nullable=False)'
ADD = 'op.add_column("t", sa.Column("m", sa.Integer))'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Expand, backfill, add, contract."""
    config = environments.make_project(tmp_path)
    bodies = {"alpha": CREATE, "beta": FILL, "gamma": ADD, "omega": CONTRACT}
    down = None
    for revision, body in bodies.items():
        environments.add_revision(tmp_path, revision, down, body)
        down = revision
    return config


def _registry(config: Path, pg: Server, databases: Sequence[str], **track: Any) -> Registry:
    found = environments.track_of(config, **track)
    return engine.registry_of([found], [engine.shard_of(pg)], engine.targets_of(databases))


async def _group(running: Engine) -> schemas.CompiledGroup:
    request = engine.head()
    (group,) = schemas.compiled_plan(request, await running.service.plan(request)).groups
    return group


@pytest.mark.parametrize("execution", ["online", "replay"])
async def test_the_plan_shows_what_changes_rows_in_batches(
    pg: Server, make_databases: MakeDatabases, project: Path, execution: str
) -> None:
    async with engine.running(_registry(project, pg, await make_databases(1), execution=execution)) as running:
        group = await _group(running)
    shown = [(step.revision, step.execution) for step in group.steps]
    other = "sql" if execution == "replay" else "online"
    assert shown == [("alpha", other), ("beta", "backfill"), ("gamma", "online"), ("omega", "online")]
    assert group.steps[1].reason == "it changes rows in batches"
    if execution == "replay":
        assert group.steps[3].reason == "it asks the database (`op.requires_backfill`)"
        assert group.steps[2].reason == "it shares a transaction with omega, which runs online"
    assert not [one for one in group.findings if one.rule == "mixed_backfill"]


async def test_what_comes_before_and_after_a_backfill_is_replayed(
    pg: Server, make_databases: MakeDatabases, project: Path
) -> None:
    environments.use_transaction_per_migration(project.parent)
    databases = await make_databases(2)
    async with engine.running(_registry(project, pg, databases, execution="replay")) as running:
        group = await _group(running)
        assert [step.execution for step in group.steps] == ["sql", "backfill", "sql", "online"]
        view = await running.rollout()
        assert view.counts == {"succeeded": 2}, view.failures
        assert view.executions == {"backfill": 2}
        # What these took is for nobody to count with.
        assert not running.parts.predictions._taken
        assert not await running.parts.store.durations.latest("app")
    for database in databases:
        assert await engine.fetch(pg, database, "SELECT n, m, count(*) FROM t GROUP BY n, m") == [(1, None, ROWS)]
        assert await engine.fetch(pg, database, "SELECT version_num FROM alembic_version") == [("omega",)]


async def test_backfills_are_proved_beside_others(pg: Server, make_databases: MakeDatabases, project: Path) -> None:
    """`auto`: two targets go online, a third is replayed and compared; their schemas are equal."""
    environments.use_transaction_per_migration(project.parent)
    databases = await make_databases(5)
    async with engine.running(_registry(project, pg, databases, execution="auto")) as running:
        view = await running.rollout(max_concurrent=1)
        assert view.counts == {"succeeded": 5}, view.failures
        verdicts = [told for told in running.events if type(told).__name__ == "PlanJudged"]
        assert [told.execution for told in verdicts] == ["mixed"], verdicts  # type: ignore[attr-defined]
    for database in databases:
        assert await engine.fetch(pg, database, "SELECT n, count(*) FROM t GROUP BY n") == [(1, ROWS)]


async def test_what_is_mixed_with_a_backfill_is_found_and_refused(
    pg: Server, make_databases: MakeDatabases, project: Path
) -> None:
    environments.add_revision(project.parent, "worse", "omega", f"{ADD}\n{FILL}\nhelp_with(op)")
    (database,) = await make_databases(1)
    async with engine.running(_registry(project, pg, [database])) as running:
        group = await _group(running)
        (found,) = [one for one in group.findings if one.rule == "mixed_backfill"]
        assert found.revision == "worse"
        assert "op.add_column (worse.py:" in found.message
        assert "op is handed on (worse.py:" in found.message
        assert group.steps[-1].execution == "online"
        view = await running.rollout()
        failed = (await running.migrations(view))["t000"].failure
        assert failed is not None
        assert (failed.kind, failed.revision) == ("mixed_backfill", "worse")
    assert await engine.fetch(pg, database, "SELECT to_regclass('t')") == [(None,)], "nothing was run"
