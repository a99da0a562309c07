"""A terminal's `migrate` with backfills, in the test's own process: no daemon, and nobody who throttles."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import anyio
import pytest

from orchestrator.api.ports import RolloutView
from orchestrator.databases.embedded import Server
from orchestrator.rollout.state import Request, RolloutState
from orchestrator.service import foreground
from orchestrator.service.wiring import assembled
from orchestrator.settings import Settings, load
from tests import daemon, engine, environments
from tests.engine import until
from tests.servers import MakeDatabases
from tests.workers import SharedWorkers

ROWS = 120
SLOWLY = "BEGIN PERFORM pg_sleep(0.02); RETURN n + 1; END"
CREATE = f"""
op.create_table("t", sa.Column("id", sa.Integer, primary_key=True), sa.Column("n", sa.Integer))
op.execute("INSERT INTO t SELECT i, 0 FROM generate_series(1, {ROWS}) AS i")
op.execute("CREATE FUNCTION more(n int) RETURNS int LANGUAGE plpgsql AS '{SLOWLY}'")
"""
FILL = 'op.backfill("t", set_={"n": "more(n)"}, batch_size=1)'


@pytest.fixture
async def project(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Settings, str]:
    """A backfill of three seconds or so, and the database."""
    monkeypatch.setattr(foreground, "assembled", partial(assembled, workers=SharedWorkers()))
    (database,) = await make_databases(1)
    environments.make_project(tmp_path / "project")
    environments.add_revision(tmp_path / "project", "alpha", None, CREATE, 'op.drop_table("t")')
    environments.add_revision(tmp_path / "project", "delta", "alpha", FILL)
    tracks = {"app": {"config": "project/alembic.ini"}}
    file, environ = daemon.write_registry(tmp_path, pg, [database], tracks)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return load(config=file, store_url=f"sqlite:///{tmp_path}/store.db"), database


async def _migrate(settings: Settings, interrupted: anyio.Event) -> RolloutView:
    ignored = [lambda view: None, lambda event: None]
    with anyio.fail_after(90):
        return await foreground.migrate(
            settings, Request("app", "head"), started=ignored[0], listen=ignored[1], interrupted=interrupted
        )


async def test_an_interrupt_stops_at_a_batchs_end_and_the_next_run_goes_on(
    pg: Server, project: tuple[Settings, str]
) -> None:
    settings, database = project
    interrupted = anyio.Event()

    async def some() -> bool:
        there = await engine.fetch(pg, database, "SELECT to_regclass('t') IS NOT NULL")
        query = "SELECT count(*) > 3 FROM t WHERE n = 1"
        return there == [(True,)] and await engine.fetch(pg, database, query) == [(True,)]

    async def interrupt() -> None:
        await until(some)
        interrupted.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(interrupt)
        view = await _migrate(settings, interrupted)
    assert (view.rollout.state, view.counts) == (RolloutState.ABORTED, {"cancelled": 1})
    assert view.rollout.reason == "interrupted from the terminal"
    changed = dict(await engine.fetch(pg, database, "SELECT n, count(*) FROM t GROUP BY n"))
    assert changed[1] < ROWS, "it was stopped in the middle"
    view = await _migrate(settings, anyio.Event())
    assert view.counts == {"succeeded": 1}
    assert await engine.fetch(pg, database, "SELECT n, count(*) FROM t GROUP BY n") == [(1, ROWS)]
