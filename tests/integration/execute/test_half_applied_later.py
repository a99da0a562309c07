"""What is half applied is left alone in every later rollout as well, until a person has looked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.databases.embedded import Server
from orchestrator.registry.model import Registry
from orchestrator.rollout.state import Direction, Migration, RolloutState
from tests import engine, environments
from tests.engine import Engine, until
from tests.servers import MakeDatabases

COUNT = "op.execute(\"INSERT INTO done VALUES ('delta')\")"
BLOCK = "with op.get_context().autocommit_block():"
FAILS = f"{COUNT}\n{BLOCK}\n    op.execute('ALTER TABLE nowhere ADD COLUMN n int')"
SLOW = f"{BLOCK}\n    {COUNT}\n    op.execute('SELECT pg_sleep(300)')"


def _project(folder: Path, delta: str, downgrade: str = "pass") -> Path:
    environments.make_project(folder / "project")
    environments.use_transaction_per_migration(folder / "project")
    environments.add_revision(
        folder / "project", "alpha", None, 'op.execute("CREATE TABLE done (revision text)")', 'op.drop_table("done")'
    )
    environments.add_revision(folder / "project", "delta", "alpha", delta, downgrade)
    return folder / "project"


def _registry(project: Path, pg: Server, databases: Sequence[str], **track: Any) -> Registry:
    found = replace(environments.track_of(project / "alembic.ini"), **track)
    return engine.registry_of([found], [engine.shard_of(pg)], engine.targets_of(databases))


async def _times(pg: Server, database: str) -> int:
    return int((await engine.fetch(pg, database, "SELECT count(*) FROM done"))[0][0])


def _half(migration: Migration) -> None:
    assert migration.failure is not None
    assert (migration.state, migration.failure.kind) == ("failed", "half_applied"), migration.failure
    assert migration.failure.revision == "delta"
    assert migration.doubt == "upgrade delta"


async def _cut_short(running: Engine, pg: Server, database: str) -> str:
    """A rollout that is aborted by force in the middle of delta."""
    view, _ = await running.service.start_rollout(engine.head())

    async def begun() -> bool:
        query = "SELECT 1 FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid() AND query LIKE $2"
        return bool(await engine.fetch(pg, database, query, database, "%pg_sleep(300)%"))

    await until(begun)
    await running.service.abort(view.rollout.id, by="test", force=True)
    await running.service.finished(view.rollout.id)
    return view.rollout.id


@pytest.mark.parametrize("execution", ["online", "replay"])
async def test_what_is_half_applied_is_in_the_way_of_every_later_rollout_until_a_person_retries_it(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path, execution: str
) -> None:
    (database,) = await make_databases(1)
    async with engine.running(_registry(_project(tmp_path, FAILS), pg, [database], execution=execution)) as running:
        await running.rollout("alpha")
        for _ in range(3):
            view = await running.rollout(created_by="schedule:nightly")
            _half((await running.migrations(view))["t000"])
        assert await _times(pg, database) == 1
        await engine.execute(pg, database, "DELETE FROM done", "CREATE TABLE nowhere ()")
        await running.service.retry(view.rollout.id, by="test")
        await running.service.finished(view.rollout.id)
        done = (await running.migrations(view))["t000"]
        assert (done.state, done.doubt) == ("succeeded", None), done.failure
        assert await _times(pg, database) == 1


async def test_what_was_cut_short_and_then_refused_is_refused_the_next_night_too(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    (database,) = await make_databases(1)
    async with engine.running(_registry(_project(tmp_path, SLOW), pg, [database])) as running:
        await running.rollout("alpha")
        await _cut_short(running, pg, database)
        for _ in range(2):
            _half((await running.migrations(await running.rollout()))["t000"])
        assert await _times(pg, database) == 1


@pytest.mark.parametrize("goal", ["alpha", "delta"])
async def test_a_stamp_says_where_it_stands_and_ends_the_doubt(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path, goal: str
) -> None:
    (database,) = await make_databases(1)
    project = _project(tmp_path, FAILS)
    async with engine.running(_registry(project, pg, [database])) as running:
        await running.rollout("alpha")
        _half((await running.migrations(await running.rollout()))["t000"])
        await engine.execute(pg, database, "DELETE FROM done", "CREATE TABLE IF NOT EXISTS nowhere ()")
        view = await running.rollout(goal, direction=Direction.STAMP)
        stamped = (await running.migrations(view))["t000"]
        assert stamped.doubt is None
        assert view.counts == {"up_to_date" if goal == "alpha" else "succeeded": 1}, view.failures
        # Taken back by hand, it runs once more; finished by hand, the next one does.
        environments.add_revision(project, "echo", "delta", "op.execute(\"INSERT INTO done VALUES ('echo')\")")
        view = await running.rollout()
        assert view.counts == {"succeeded": 1}, view.failures
        assert await _times(pg, database) == (2 if goal == "alpha" else 1)


async def test_what_a_person_has_finished_by_hand_is_in_doubt_no_more(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    (database,) = await make_databases(1)
    project = _project(tmp_path, FAILS)
    async with engine.running(_registry(project, pg, [database])) as running:
        await running.rollout("alpha")
        _half((await running.migrations(await running.rollout()))["t000"])
        await engine.execute(pg, database, "UPDATE alembic_version SET version_num = 'delta'")
        environments.add_revision(project, "echo", "delta", "op.execute('SELECT 1')")
        view = await running.rollout()
        assert view.counts == {"succeeded": 1}, view.failures
        assert (await running.migrations(view))["t000"].doubt is None


async def test_an_older_rollout_that_is_retried_heeds_what_a_newer_one_has_left(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    (database,) = await make_databases(1)
    registry = _registry(_project(tmp_path, SLOW), pg, [database])
    async with engine.running(registry, lock_wait_seconds=0.2, lock_retry_seconds=1) as running:
        await running.rollout("alpha")
        async with engine.held_target(pg, database):
            older = await running.rollout()
        assert older.counts == {"locked": 1}
        newer = await _cut_short(running, pg, database)
        await running.service.retry(older.rollout.id, by="test")
        await running.service.finished(older.rollout.id)
        _half((await running.migrations(older))["t000"])
        assert await _times(pg, database) == 1
        # It is the older one's to judge by now, and a retry of the newer one does not pass it by.
        await running.service.retry(newer, by="test")
        await running.service.finished(newer)
        _half((await running.migrations(await running.service.rollout(newer)))["t000"])
        assert await _times(pg, database) == 1


async def test_an_older_rollout_is_not_taken_back_below_what_a_newer_one_has_left(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    (database,) = await make_databases(1)
    moved = (
        f"{BLOCK}\n    op.execute('CREATE TABLE moved AS SELECT * FROM done')\n    op.execute('SELECT pg_sleep(300)')"
    )
    async with engine.running(_registry(_project(tmp_path, moved), pg, [database])) as running:
        older = await running.rollout("alpha")
        await _cut_short(running, pg, database)
        await running.service.rollback(older.rollout.id, by="test")
        await running.service.finished(older.rollout.id)
        _half((await running.migrations(older))["t000"])
        assert (await running.service.rollout(older.rollout.id)).rollout.state is RolloutState.FAILED
        assert await _times(pg, database) == 0, "alpha is still there"


async def test_a_doubt_stays_with_the_target_when_its_address_changes(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    (database,) = await make_databases(1)
    registry = _registry(_project(tmp_path, FAILS), pg, [database])
    (shard,) = registry.shards.values()
    other = "localhost" if shard.url.host == "127.0.0.1" else "127.0.0.1"
    elsewhere = replace(registry, shards={shard.name: replace(shard, url=shard.url.set(host=other))})
    store = f"sqlite:///{tmp_path}/store.db"
    async with engine.running(registry, store_url=store) as running:
        await running.rollout("alpha")
        _half((await running.migrations(await running.rollout()))["t000"])
    async with engine.running(elsewhere, store_url=store) as running:
        _half((await running.migrations(await running.rollout()))["t000"])
        assert await _times(pg, database) == 1
