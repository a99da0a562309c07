"""Backfills between the worker that runs them and the daemon: asked, held, stopped at a batch's end, gone on with."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy.engine import make_url

from orchestrator.backfill.model import Stop
from orchestrator.databases.embedded import Server
from orchestrator.databases.postgresql_questions import LOCK_NAMESPACE
from orchestrator.errors import StateError
from orchestrator.events import BackupTaken, MigrationFinished, MigrationRetried
from orchestrator.execute.retry import RetryPolicy, Schedule
from orchestrator.registry.model import Execution, Registry, Shard
from orchestrator.registry.precautions import Backup
from orchestrator.rollout.state import MigrationState, RolloutState
from tests import engine, environments
from tests.backups import STRATEGY, with_backup
from tests.engine import Engine, until
from tests.processes import at_ports
from tests.servers import MakeDatabases
from tests.taps import Tap

ROWS = 100
ALL = 10  # batches of ten rows
CREATE = f"""
op.create_table("t", sa.Column("id", sa.Integer, primary_key=True), sa.Column("n", sa.Integer, nullable=False))
op.execute("INSERT INTO t SELECT i, 0 FROM generate_series(1, {ROWS}) AS i")
"""
FILL = 'op.backfill("t", set_={"n": "n + 1"}, batch_size=10)'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    config = environments.make_project(tmp_path / "project")
    environments.add_revision(tmp_path / "project", "alpha", None, CREATE, 'op.drop_table("t")')
    environments.add_revision(tmp_path / "project", "delta", "alpha", FILL, FILL.replace("+", "-"))
    return config


def _registry(config: Path, pg: Server, databases: Sequence[str], **track: Any) -> Registry:
    found = environments.track_of(config, **track)
    return engine.registry_of([found], [engine.shard_of(pg)], engine.targets_of(databases))


@asynccontextmanager
async def _begun(registry: Registry, most: int = 3, **settings: Any) -> AsyncIterator[tuple[Engine, Tap, str]]:
    """A rollout whose backfill was let through for so many batches, and waits."""
    async with engine.running(registry, **settings) as running:
        tap = Tap.of(running, most)
        view, _ = await running.service.start_rollout(engine.head())
        await until(lambda: tap.is_dry)
        yield running, tap, view.rollout.id


async def _counted(pg: Server, database: str) -> dict[int, int]:
    """How many rows were changed how often."""
    rows = await engine.fetch(pg, database, "SELECT n, count(*) FROM t GROUP BY n")
    return {int(n): int(count) for n, count in rows}


async def _finished(running: Engine, rollout: str) -> None:
    with anyio.fail_after(90):
        await running.service.finished(rollout)


@pytest.mark.parametrize("isolation", ["thread", "process"])
async def test_each_batch_is_asked_for_and_the_migration_is_told_as_a_backfill(
    pg: Server, make_databases: MakeDatabases, project: Path, isolation: str
) -> None:
    (database,) = await make_databases(1)
    async with engine.running(_registry(project, pg, [database], isolation=isolation)) as running:
        tap = Tap.of(running, 1_000)
        view = await running.rollout()
        done = (await running.migrations(view))["t000"]
        assert (done.state, done.execution, done.doubt, done.attempts) == ("succeeded", "backfill", None, 1)
        assert (tap.ran, tap.turns, tap.open) == (ALL, 1, 0)
        assert tap.reports[-1].progress.finished
        assert [(told.execution, told.backfill_rows) for told in running.of(MigrationFinished)] == [("backfill", ROWS)]
    assert await _counted(pg, database) == {1: ROWS}


async def test_without_a_throttle_backfills_run_all_the_same(
    pg: Server, make_databases: MakeDatabases, project: Path
) -> None:
    (database,) = await make_databases(1)
    async with engine.running(_registry(project, pg, [database])) as running:
        assert (await running.rollout()).counts == {"succeeded": 1}
    assert await _counted(pg, database) == {1: ROWS}


@pytest.mark.parametrize("isolation", ["thread", "process"])
async def test_a_drain_stops_at_a_batchs_end_and_the_next_start_goes_on(
    pg: Server, make_databases: MakeDatabases, project: Path, tmp_path: Path, isolation: str
) -> None:
    (database,) = await make_databases(1)
    registry = _registry(project, pg, [database], isolation=isolation)
    store = f"sqlite:///{tmp_path}/store.db"
    async with _begun(registry, store_url=store, shutdown_grace_seconds=60) as (running, tap, rollout):
        running.service.drain()
        await _finished(running, rollout)
        left = (await running.service.migrations(rollout))[0]
        assert (left.state, left.failure, left.doubt) == ("pending", None, None)
        assert not running.of(MigrationFinished)
        assert not running.of(MigrationRetried)
    assert await _counted(pg, database) == {0: ROWS - 30, 1: 30}
    async with engine.running(registry, store_url=store) as running:
        tap = Tap.of(running, 1_000)
        await running.service.resume_active()
        await _finished(running, rollout)
        done = (await running.service.migrations(rollout))[0]
        assert (done.state, done.attempts, tap.ran) == ("succeeded", 2, ALL - 3)
    assert await _counted(pg, database) == {1: ROWS}


async def test_a_paused_rollout_holds_its_backfills_and_goes_on_with_them(
    pg: Server, make_databases: MakeDatabases, project: Path
) -> None:
    (database,) = await make_databases(1)
    async with _begun(_registry(project, pg, [database])) as (running, tap, rollout):
        await running.service.pause(rollout, by="test")
        tap.most, asked = 1_000, tap.asked
        await until(lambda: tap.asked >= asked + 3)
        assert tap.ran == 3, "nobody but the rollout holds it"
        assert tap.said[-1] is not None
        assert (tap.said[-1].then, tap.said[-1].reason) == ("held", "the rollout is paused: paused by test")
        assert await _counted(pg, database) == {0: ROWS - 30, 1: 30}
        await running.service.resume(rollout, by="test")
        await _finished(running, rollout)
        done = (await running.service.migrations(rollout))[0]
        assert (done.state, done.attempts) == ("succeeded", 1)
    assert await _counted(pg, database) == {1: ROWS}


async def test_an_abort_cancels_at_a_batchs_end_and_a_retry_goes_on(
    pg: Server, make_databases: MakeDatabases, project: Path
) -> None:
    (database,) = await make_databases(1)
    async with _begun(_registry(project, pg, [database])) as (running, tap, rollout):
        await running.service.abort(rollout, by="test")
        await _finished(running, rollout)
        view = await running.service.rollout(rollout)
        assert (view.rollout.state, view.counts) == (RolloutState.ABORTED, {"cancelled": 1})
        left = (await running.service.migrations(rollout))[0]
        assert left.failure is not None
        assert (left.failure.kind, left.failure.revision) == ("backfill_aborted", "delta")
        assert "aborted by test" in left.failure.message
        assert await _counted(pg, database) == {0: ROWS - 30, 1: 30}
        tap.most = 1_000
        await running.service.retry(rollout, by="test")
        await _finished(running, rollout)
        assert (await running.service.rollout(rollout)).counts == {"succeeded": 1}
    assert await _counted(pg, database) == {1: ROWS}


async def test_what_a_backfill_has_changed_in_part_is_not_backed_up_again(
    pg: Server, make_databases: MakeDatabases, project: Path, tmp_path: Path
) -> None:
    """Its version table says that nothing was done; the backup from before the first batch is the good one."""
    (database,) = await make_databases(1)
    registry = with_backup(_registry(project, pg, [database]), Backup(tmp_path / "kept"))
    async with engine.running(registry) as running:
        await running.rollout("alpha")
        tap = Tap.of(running, 3)
        rollout = (await running.service.start_rollout(engine.head(strategy=STRATEGY)))[0].rollout.id
        await until(lambda: tap.is_dry)
        await running.service.abort(rollout, by="test")
        await _finished(running, rollout)
        tap.most = 1_000
        await running.service.retry(rollout, by="test")
        await _finished(running, rollout)
        assert (await running.service.rollout(rollout)).counts == {"succeeded": 1}
        assert len(running.of(BackupTaken)) == 1


async def test_a_target_whose_backfill_runs_can_be_skipped_and_the_others_go_on(
    pg: Server, make_databases: MakeDatabases, project: Path
) -> None:
    databases = await make_databases(2)
    async with _begun(_registry(project, pg, databases), most=4) as (running, tap, rollout):
        await until(lambda: tap.open == 2)
        await running.service.skip(rollout, by="test", tenant="t000", track=None, reason="tomorrow")

        async def skipped() -> bool:
            return (await running.service.migrations(rollout))[0].state is MigrationState.SKIPPED

        await until(skipped)
        tap.most = 1_000
        await _finished(running, rollout)
        view = await running.service.rollout(rollout)
        assert (view.rollout.state, view.counts) == (RolloutState.SUCCEEDED, {"skipped": 1, "succeeded": 1})
        left = (await running.service.migrations(rollout))[0]
        assert left.failure is not None
        assert (left.failure.kind, left.failure.message) == ("skipped", "tomorrow (skipped by test)")
    assert await _counted(pg, databases[1]) == {1: ROWS}


async def test_what_changes_no_rows_in_batches_can_not_be_skipped_while_it_runs(
    pg: Server, make_databases: MakeDatabases, project: Path
) -> None:
    (database,) = await make_databases(1)
    after = 'op.execute("LOCK TABLE t")'
    environments.add_revision(project.parent, "omega", "delta", after)
    async with _begun(_registry(project, pg, [database])) as (running, tap, rollout):
        await engine.execute(pg, database, "CREATE INDEX ON t (n)")
        async with engine.locked_table(pg, database, "t", "ACCESS SHARE"):
            tap.most = 1_000
            await until(lambda: tap.reports[-1].progress.finished)
            with pytest.raises(StateError, match="can no longer be skipped"):
                await running.service.skip(rollout, by="test", tenant="t000", track=None, reason="tomorrow")
        await _finished(running, rollout)
        assert (await running.service.rollout(rollout)).counts == {"succeeded": 1}


async def test_a_rollback_stops_it_and_takes_the_rest_back(
    pg: Server, make_databases: MakeDatabases, project: Path
) -> None:
    (database,) = await make_databases(1)
    environments.use_transaction_per_migration(project.parent)
    async with _begun(_registry(project, pg, [database])) as (running, _, rollout):
        await running.service.rollback(rollout, by="test")
        await _finished(running, rollout)
        view = await running.service.rollout(rollout)
        assert (view.rollout.state, view.counts) == (RolloutState.ROLLED_BACK, {"rolled_back": 1}), view.failures
        assert (view.failures, view.rollout.reason) == ([], "rolled back by test"), "the rows are gone with their table"
    assert await engine.fetch(pg, database, "SELECT to_regclass('t')") == [(None,)]


async def test_rows_that_stay_changed_after_a_rollback_are_told_and_the_next_rollout_goes_on(
    pg: Server, make_databases: MakeDatabases, project: Path
) -> None:
    (database,) = await make_databases(1)
    async with engine.running(_registry(project, pg, [database])) as running:
        await running.rollout("alpha")
        tap = Tap.of(running, 3)
        rollout = (await running.service.start_rollout(engine.head()))[0].rollout.id
        await until(lambda: tap.is_dry)
        await running.service.rollback(rollout, by="test")
        await _finished(running, rollout)
        view = await running.service.rollout(rollout)
        assert (view.rollout.state, view.counts) == (RolloutState.ROLLED_BACK, {"rolled_back": 1})
        assert view.rollout.reason is not None
        assert "rolled back by test; on 1 target rows stay as a backfill" in view.rollout.reason
        assert await _counted(pg, database) == {0: ROWS - 30, 1: 30}
        left = (await running.service.migrations(rollout))[0].failure
        assert left is not None
        assert (left.kind, left.revision) == ("backfill_left", "delta")
        assert left.message.startswith("30 rows of t stay as the backfill of revision delta has changed them")
        assert "unless" not in left.message
        assert "start the rollout again" in (left.remedy or "")
        assert [(group.signature, group.count) for group in view.failures] == [("delta backfill_left", 1)]
        finished = [one for one in running.of(MigrationFinished) if one.outcome == "rolled_back"]
        assert [one.kind for one in finished] == ["backfill_left"]
        tap.most = 1_000
        assert (await running.rollout()).counts == {"succeeded": 1}
        assert await _counted(pg, database) == {1: ROWS}


async def test_an_aborted_backfill_is_told_when_its_rollout_is_taken_back(
    pg: Server, make_databases: MakeDatabases, project: Path
) -> None:
    (database,) = await make_databases(1)
    async with engine.running(_registry(project, pg, [database])) as running:
        await running.rollout("alpha")
        tap = Tap.of(running, 3)
        rollout = (await running.service.start_rollout(engine.head()))[0].rollout.id
        await until(lambda: tap.is_dry)
        tap.stop = Stop("aborted", "aborted by test")
        await _finished(running, rollout)
        with pytest.raises(StateError, match="rows that its backfills have changed before they were stopped stay so"):
            await running.service.rollback(rollout, by="test")
        tap.stop, tap.most, tap.ran = None, 3, 0
        await running.service.retry(rollout, by="test")
        await until(lambda: tap.is_dry)
        await running.service.rollback(rollout, by="test")
        await _finished(running, rollout)
        (left,) = await running.service.migrations(rollout)
        assert (left.state, left.failure and left.failure.message.partition(" stay")[0]) == (
            MigrationState.ROLLED_BACK,
            "60 rows of t",
        )


async def test_what_a_finished_backfill_changed_and_its_downgrade_took_back_is_not_told(
    pg: Server, make_databases: MakeDatabases, project: Path
) -> None:
    (database,) = await make_databases(1)
    async with engine.running(_registry(project, pg, [database])) as running:
        await running.rollout("alpha")
        view = await running.rollout()
        await running.service.rollback(view.rollout.id, by="test")
        await _finished(running, view.rollout.id)
        view = await running.service.rollout(view.rollout.id)
        assert (view.rollout.state, view.failures) == (RolloutState.ROLLED_BACK, [])
        assert view.rollout.reason == "rolled back by test"
    assert await _counted(pg, database) == {0: ROWS}


async def test_on_sqlite_what_stays_is_told_from_a_table_with_an_odd_name(tmp_path: Path) -> None:
    config = environments.make_project(tmp_path / "project")
    create, fill = (text.replace('"t"', '"t%s: %d"') for text in (CREATE, FILL))
    rows = f"WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < {ROWS}) SELECT i, 0 FROM s"
    series = f"INSERT INTO t SELECT i, 0 FROM generate_series(1, {ROWS}) AS i"
    environments.add_revision(config.parent, "alpha", None, create.replace(series, f"INSERT INTO [t%s: %d] {rows}"))
    environments.add_revision(config.parent, "delta", "alpha", fill, 'op.verify("SELECT 1", "nothing to undo")')
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "one.db").touch()
    shard = Shard("files", make_url(f"sqlite:///{tmp_path}/files"))
    track = environments.track_of(config, unprovisioned="migrate")
    registry = engine.registry_of([track], [shard], engine.targets_of(["one.db"], shard="files"))
    async with engine.running(registry) as running:
        done = await running.rollout("alpha")
        assert done.counts == {"succeeded": 1}, done.failures
        tap = Tap.of(running, 3)
        rollout = (await running.service.start_rollout(engine.head()))[0].rollout.id
        await until(lambda: tap.is_dry)
        await running.service.rollback(rollout, by="test")
        await _finished(running, rollout)
        (left,) = await running.service.migrations(rollout)
        assert left.failure is not None
        assert "30 rows of t%s: %d stay" in left.failure.message


async def test_an_abort_by_force_leaves_no_thread_and_no_session(
    pg: Server, make_databases: MakeDatabases, project: Path
) -> None:
    (database,) = await make_databases(1)
    async with _begun(_registry(project, pg, [database])) as (running, tap, rollout):
        await running.service.abort(rollout, by="test", force=True)
        await _finished(running, rollout)
        assert tap.open == 0
        migrator: Any = running.parts.dispatcher._driver._migrator
        await until(lambda: migrator._runner._threads.borrowed_tokens == 0)
        theirs = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()"

        async def alone() -> bool:
            return await engine.fetch(pg, database, theirs, database) == [(0,)]

        await until(alone)
        cancelled = (await running.service.migrations(rollout))[0]
        assert cancelled.state is MigrationState.CANCELLED
        tap.most = 1_000
        assert (await running.rollout()).counts == {"succeeded": 1}
    assert await _counted(pg, database) == {1: ROWS}


async def test_a_person_aborts_one_backfill_and_the_others_go_on(
    pg: Server, make_databases: MakeDatabases, project: Path
) -> None:
    (database,) = await make_databases(1)
    async with _begun(_registry(project, pg, [database])) as (running, tap, rollout):
        tap.stop = Stop("aborted", "aborted by test")
        await _finished(running, rollout)
        left = (await running.service.migrations(rollout))[0]
        assert left.failure is not None
        assert (left.state, left.failure.kind) == ("cancelled", "backfill_aborted")


async def test_a_backfill_that_is_too_slow_fails_and_is_not_tried_again(
    pg: Server, make_databases: MakeDatabases, project: Path
) -> None:
    (database,) = await make_databases(1)
    async with _begun(_registry(project, pg, [database])) as (running, tap, rollout):
        tap.stop = Stop("too_slow", "the smallest batch was refused")
        await _finished(running, rollout)
        failed = (await running.service.migrations(rollout))[0]
        assert failed.failure is not None
        assert (failed.state, failed.failure.kind, failed.attempts) == ("failed", "backfill_too_slow", 1)


async def test_a_stop_that_is_not_the_rollouts_is_gone_on_with_and_counts_as_no_failure(
    pg: Server, make_databases: MakeDatabases, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.execute.drive.STOPPED_SECONDS", 0.01)
    (database,) = await make_databases(1)
    async with _begun(_registry(project, pg, [database])) as (running, tap, rollout):
        _retries(running, 0)
        tap.stop = Stop("stopped", "not now")
        await until(lambda: tap.turns >= 3)
        tap.stop, tap.most = None, 1_000
        await _finished(running, rollout)
        assert (await running.service.rollout(rollout)).counts == {"succeeded": 1}
        assert not running.of(MigrationRetried)
    assert await _counted(pg, database) == {1: ROWS}


def _retries(running: Engine, retries: int) -> None:
    driver: Any = running.parts.dispatcher._driver
    driver._policy = RetryPolicy(transient=Schedule(0.01, 0.01, retries=retries), contention=Schedule(0.01, 0.01, 0))


@pytest.mark.parametrize("isolation", ["thread", "process"])
async def test_a_worker_that_is_killed_in_the_middle_is_replaced(
    pg: Server, make_databases: MakeDatabases, project: Path, isolation: str
) -> None:
    (database,) = await make_databases(1)
    async with _begun(_registry(project, pg, [database], isolation=isolation)) as (running, tap, rollout):
        [worker] = await _workers_on(pg, database)
        os.kill(worker, signal.SIGKILL)
        tap.most = 1_000
        await _finished(running, rollout)
        done = (await running.service.migrations(rollout))[0]
        assert (done.state, done.attempts) == ("succeeded", 2)
        assert [told.attempt for told in running.of(MigrationRetried)] == [1]
    assert await _counted(pg, database) == {1: ROWS}


async def _workers_on(pg: Server, database: str) -> list[int]:
    """Processes of ours, but for this one, that have a session on the database."""
    query = "SELECT client_port FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()"
    return at_ports([port for (port,) in await engine.fetch(pg, database, query, database)])


@pytest.mark.parametrize("whose", ["env.py", "guard"])
async def test_connections_that_are_lost_again_and_again_count_anew_after_each_progress(
    pg: Server, make_databases: MakeDatabases, project: Path, whose: str
) -> None:
    (database,) = await make_databases(1)
    async with engine.running(_registry(project, pg, [database])) as running:
        _retries(running, 1)
        tap = Tap.of(running, 2)
        view, _ = await running.service.start_rollout(engine.head())
        for number in (1, 2, 3):
            await until(lambda number=number: tap.is_dry and tap.ran == 2 * number)  # type: ignore[misc]
            await _end(pg, database, whose)
            if whose == "env.py":  # which finds out with its next batch; that of a lost guard might still be committed
                tap.free.add(number)
            await until(lambda number=number: tap.turns > number)  # type: ignore[misc]
            tap.most += 2
        tap.most = 1_000
        await _finished(running, view.rollout.id)
        done = (await running.service.migrations(view.rollout.id))[0]
        assert (done.state, done.attempts) == ("succeeded", 4), done.failure
    assert await _counted(pg, database) == {1: ROWS}


async def test_connections_that_are_lost_without_progress_count_as_ever(
    pg: Server, make_databases: MakeDatabases, project: Path
) -> None:
    (database,) = await make_databases(1)
    async with engine.running(_registry(project, pg, [database])) as running:
        _retries(running, 1)
        tap = Tap.of(running, 0)
        view, _ = await running.service.start_rollout(engine.head())
        for number in (1, 2):
            await until(lambda number=number: tap.open == 1 and tap.turns == number)  # type: ignore[misc]
            await _end(pg, database, "env.py")
            tap.free.add(number)
        await _finished(running, view.rollout.id)
        failed = (await running.service.migrations(view.rollout.id))[0]
        assert (failed.state, failed.attempts) == (MigrationState.FAILED, 2)
        assert failed.failure is not None
        assert (failed.failure.kind, failed.failure.code) == ("failed", "57P01")


async def _end(pg: Server, database: str, whose: str) -> None:
    """End sessions of the migration, and wait until they have: env.py's are those that the guard's are not."""
    guards = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND classid = $2"
    kept = f"{'' if whose == 'guard' else 'NOT '} pid IN ({guards})"
    theirs = f"datname = $1 AND pid <> pg_backend_pid() AND {kept}"
    query = f"SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE {theirs}"
    ended = [pid for pid, _ in await engine.fetch(pg, database, query, database, LOCK_NAMESPACE)]
    there = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY($1)"

    async def gone() -> bool:  # a server that is busy takes its time
        return await engine.fetch(pg, database, there, ended) == [(0,)]

    await until(gone)


@pytest.mark.parametrize("execution", ["online", "replay"])
async def test_a_column_that_a_rollback_has_taken_away_is_filled_anew_by_the_next_rollout(
    execution: Execution, pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    folder = tmp_path / "project"
    config = environments.make_project(folder)
    environments.use_transaction_per_migration(folder)
    environments.add_revision(folder, "alpha", None, CREATE, 'op.drop_table("t")')
    environments.add_revision(
        folder,
        "expand",
        "alpha",
        'op.add_column("t", sa.Column("filled", sa.Integer))',
        'op.drop_column("t", "filled")',
    )
    fill = 'op.backfill("t", set_={"filled": "id"}, batch_size=10)'
    environments.add_revision(folder, "fill", "expand", fill, fill.replace('"id"', "None"))
    environments.add_revision(folder, "contract", "fill", 'op.requires_backfill("fill")', 'op.execute("SELECT 1")')
    [database] = await make_databases(1)
    async with engine.running(_registry(config, pg, [database], execution=execution)) as running:
        await running.rollout("alpha")
        tap = Tap.of(running, 3)
        view, _ = await running.service.start_rollout(engine.head())
        await until(lambda: tap.is_dry)
        await running.service.rollback(view.rollout.id, by="test")
        await _finished(running, view.rollout.id)
        assert (await running.service.rollout(view.rollout.id)).counts == {"rolled_back": 1}
        assert await engine.fetch(pg, database, "SELECT version_num FROM alembic_version") == [("alpha",)]
        tap.most = 1_000
        assert (await running.rollout()).counts == {"succeeded": 1}
    assert await engine.fetch(pg, database, "SELECT count(*) FROM t WHERE filled IS DISTINCT FROM id") == [(0,)]
