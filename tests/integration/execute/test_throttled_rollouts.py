"""Rollouts with backfills, throttled by what a real server tells: held, gone on with, paused when it lasts too long."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest

from orchestrator.backfill.steering import Action, Order, Scope
from orchestrator.databases.embedded import Server
from orchestrator.events import BackfillFinished, BackfillHeld, BackfillReleased, BackfillStarted, now
from orchestrator.execute.throttle import Throttle
from orchestrator.registry.backfills import Rules, Threshold
from orchestrator.registry.model import Registry
from orchestrator.rollout.state import RolloutState
from tests import engine, environments, standby
from tests.engine import Engine, until
from tests.servers import MakeDatabases
from tests.standby import Pair

ROWS = 8_000
CREATE = f"""
op.create_table("t", sa.Column("id", sa.Integer, primary_key=True), sa.Column("n", sa.Integer, nullable=False))
op.execute("INSERT INTO t SELECT i, 0 FROM generate_series(1, {ROWS}) AS i")
"""
FILL = 'op.backfill("t", set_={"n": "n + 1"}, batch_size=100)'
# So that it takes a few seconds.
SLOWLY = Rules(rows_per_second=2_000.0, batch_size=100)
ALONE = {"active_sessions": Threshold(0.5, 0.5)}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    config = environments.make_project(tmp_path / "project")
    environments.add_revision(tmp_path / "project", "alpha", None, CREATE, 'op.drop_table("t")')
    environments.add_revision(tmp_path / "project", "delta", "alpha", FILL)
    return config


def _registry(config: Path, server: Server, databases: Sequence[str], rules: Rules) -> Registry:
    shard = engine.shard_of(server, backfill=rules)
    return engine.registry_of([environments.track_of(config)], [shard], engine.targets_of(databases))


@asynccontextmanager
async def _running(registry: Registry) -> AsyncIterator[tuple[Engine, Throttle]]:
    async with engine.running(registry) as running:
        yield running, running.parts.throttle


def _reasons(throttle: Throttle) -> set[str]:
    return {hold.reason for view in throttle.underway() for hold in view.holds}


async def _changed(server: Server, database: str) -> dict[int, int]:
    return dict(await engine.fetch(server, database, "SELECT n, count(*) FROM t GROUP BY n"))


async def test_a_standby_that_lags_holds_a_rollouts_backfills_until_it_has_caught_up(
    pair: Pair, make_databases: MakeDatabases, project: Path
) -> None:
    databases = await make_databases(2, server=pair.primary)
    await pair.caught_up()
    rules = replace(SLOWLY, thresholds={"replication_lag": Threshold(1.0, 0.5)})
    async with _running(_registry(project, pair.primary, databases, rules)) as (running, throttle):
        view, _ = await running.service.start_rollout(engine.head())
        await until(lambda: len(throttle.underway()) == 2)
        await until(lambda: all(one.progress.seen for one in throttle.underway()))
        await pair.pause()
        try:
            await until(lambda: all(one.holds for one in throttle.underway()))
            for one in throttle.underway():
                (hold,) = one.holds
                assert hold.reason == "replication_lag"
                assert f"standby '{standby.NAME}'" in hold.text
            stands = [await _changed(pair.primary, database) for database in databases]
            before = {one.tenant: one.updated_at for one in throttle.underway()}
            await until(lambda: all(one.updated_at > before[one.tenant] for one in throttle.underway()))
            assert [await _changed(pair.primary, database) for database in databases] == stands
            assert all(0 < stand[1] < ROWS for stand in stands)
        finally:
            await pair.resume()
        with anyio.fail_after(90):
            await running.service.finished(view.rollout.id)
        assert (await running.service.rollout(view.rollout.id)).counts == {"succeeded": 2}
        assert throttle.underway() == []
        assert throttle.throttled_seconds()["pg", "replication_lag"] > 0
        assert [event.reason for event in running.of(BackfillHeld)] == ["replication_lag"]
        assert [event.reason for event in running.of(BackfillReleased)] == ["replication_lag"]
        await until(lambda: len(running.of(BackfillFinished)) == 2)  # they are told when they are written
        assert len(running.of(BackfillStarted)) == 2
        assert sum(event.changed for event in running.of(BackfillFinished)) == 2 * ROWS
    for database in databases:
        assert await _changed(pair.primary, database) == {1: ROWS}


async def test_a_hold_that_lasts_too_long_pauses_the_rollout_which_goes_on_where_it_was(
    pg: Server, make_databases: MakeDatabases, project: Path
) -> None:
    [database] = await make_databases(1)
    rules = replace(SLOWLY, thresholds=ALONE, deadline_seconds=1.0)
    busy = await asyncpg.connect(pg.url("postgres"))
    try:
        async with (
            _running(_registry(project, pg, [database], rules)) as (running, throttle),
            anyio.create_task_group() as tasks,
        ):
            view, _ = await running.service.start_rollout(engine.head())
            await until(lambda: any(one.progress.seen for one in throttle.underway()))
            tasks.start_soon(_sleep, busy)
            rollout = view.rollout.id
            await running.reaches(rollout, RolloutState.PAUSED)
            paused = (await running.service.rollout(rollout)).rollout
            said = "backfill of t on t000/app was held for more than 1 s: active sessions"
            assert said in (paused.reason or "")
            await running.service.resume(rollout, by="user:ann")
            await running.reaches(rollout, RolloutState.RUNNING)
            await running.reaches(rollout, RolloutState.PAUSED)  # nothing is better: after another second, again
            await until(lambda: _reasons(throttle) >= {"active_sessions", "rollout_paused"})
            await engine.execute(pg, "postgres", f"SELECT pg_terminate_backend({busy.get_server_pid()})")
            await until(lambda: _reasons(throttle) == {"rollout_paused"})
            await running.service.resume(rollout, by="user:ann")
            with anyio.fail_after(90):
                await running.service.finished(rollout)
            assert (await running.service.rollout(rollout)).counts == {"succeeded": 1}
    finally:
        busy.terminate()
    assert await _changed(pg, database) == {1: ROWS}


async def _sleep(connection: asyncpg.Connection[Any]) -> None:
    with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        await connection.execute("SELECT pg_sleep(600)")


async def test_one_tenants_backfill_is_paused_and_another_aborted(
    pg: Server, make_databases: MakeDatabases, project: Path
) -> None:
    databases = await make_databases(3)
    rules = replace(SLOWLY, thresholds={})
    began = now()

    def order(action: Action, tenant: str) -> None:
        # The clock goes back from one order to the next: they count as they come.
        earlier = began - timedelta(hours=len(throttle.orders) + 1)
        assert throttle.order(Order(Scope(tenant=tenant), action, "user:ann", earlier, "as a test")).count == 1

    async with _running(_registry(project, pg, databases, rules)) as (running, throttle):
        view, _ = await running.service.start_rollout(engine.head())
        await until(lambda: len([one for one in throttle.underway() if one.progress.seen]) == 3)
        order("pause", "t000")
        order("abort", "t001")

        async def the_others_have_ended() -> bool:
            states = {name: one.state for name, one in (await running.migrations(view)).items()}
            return states["t002"] == "succeeded" and states["t001"] not in ("pending", "running")

        await until(the_others_have_ended)
        (left,) = throttle.underway()
        assert (left.tenant, {hold.text for hold in left.holds}) == ("t000", {"paused by user:ann: as a test"})
        failed = (await running.migrations(view))["t001"]
        assert failed.failure is not None
        assert "aborted by user:ann: as a test" in failed.failure.message
        order("resume", "t000")
        with anyio.fail_after(90):
            await running.service.finished(view.rollout.id)
        assert (await running.migrations(view))["t000"].state == "succeeded"
    assert await _changed(pg, databases[0]) == await _changed(pg, databases[2]) == {1: ROWS}
    assert 0 < (await _changed(pg, databases[1])).get(1, 0) < ROWS
