"""What a revision has committed before its end is never done twice, however its process ends."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.databases.embedded import Server
from orchestrator.registry.model import FailureBudget, Registry, Strategy, Wave
from orchestrator.rollout.state import Migration, RolloutState
from tests import engine, environments
from tests.daemon import Daemon, write_registry
from tests.engine import until
from tests.environments import Template
from tests.servers import MakeDatabases

DIE = f"os.kill(os.getpid(), {int(signal.SIGKILL)})"
# Until somebody makes this table, which is when a person has looked.
AT_FIRST = "if op.get_bind().scalar(sa.text(\"SELECT to_regclass('looked')\")) is None:"
DIE_AT_FIRST = f"{AT_FIRST}\n    {DIE}"
COUNT = "op.execute(\"INSERT INTO done VALUES ('delta')\")"
OUTSIDE = f"with op.get_context().autocommit_block():\n    {COUNT}"
READING = "with op.get_context().autocommit_block():\n    op.execute('SELECT 1')"


def _project(folder: Path, template: Template = "generic") -> Path:
    environments.make_project(folder / "project", template)
    environments.use_transaction_per_migration(folder / "project")
    environments.add_revision(
        folder / "project", "alpha", None, 'op.execute("CREATE TABLE done (revision text)")', 'op.drop_table("done")'
    )
    return folder / "project"


def _registry(project: Path, pg: Server, databases: Sequence[str], **track: Any) -> Registry:
    found = replace(environments.track_of(project / "alembic.ini"), **track)
    return engine.registry_of([found], [engine.shard_of(pg)], engine.targets_of(databases))


async def _done(pg: Server, database: str) -> dict[str, int]:
    return dict(await engine.fetch(pg, database, "SELECT revision, count(*) FROM done GROUP BY 1"))


async def _heads(pg: Server, database: str) -> list[str]:
    return [row[0] for row in await engine.fetch(pg, database, "SELECT version_num FROM alembic_version")]


def _refused(migration: Migration, revision: str = "delta") -> str:
    assert migration.failure is not None
    assert (migration.state, migration.failure.kind) == ("failed", "half_applied"), migration.failure
    assert migration.failure.revision == revision
    assert "retry" in (migration.failure.remedy or "")
    return migration.failure.message


COMMITTED = {
    "a statement outside of transactions": OUTSIDE,
    "what came before a block that only reads": f"{COUNT}\n{READING}",
    "a COMMIT as a statement": f"{COUNT}\nop.execute('COMMIT')",
    "a text with a COMMIT in it": "op.execute(\"INSERT INTO done VALUES ('delta'); COMMIT\")",
    "after a COMMIT as a statement": f"op.execute('COMMIT')\n{COUNT}\nop.execute('COMMIT')",
    "the connection's own commit": f"{COUNT}\n{AT_FIRST}\n    op.get_bind().commit()\n    {DIE}",
    "another connection": "with op.get_bind().engine.begin() as other:\n"
    "    other.execute(sa.text(\"INSERT INTO done VALUES ('delta')\"))",
    "a function": "with op.get_context().autocommit_block():\n    op.execute('SELECT note()')",
}


@pytest.mark.parametrize("body", COMMITTED.values(), ids=COMMITTED)
async def test_what_was_committed_is_not_done_again_after_its_process_has_died(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path, body: str
) -> None:
    project = _project(tmp_path)
    note = "CREATE FUNCTION note() RETURNS void LANGUAGE sql AS $$ INSERT INTO done VALUES ('delta') $$"
    environments.add_revision(project, "beta", "alpha", f"op.execute({note!r})")
    environments.add_revision(project, "delta", "beta", f"{body}\n{DIE_AT_FIRST}")
    (database,) = await make_databases(1)
    async with engine.running(_registry(project, pg, [database])) as running:
        view = await running.rollout()
        failed = (await running.migrations(view))["t000"]
        assert "the version table says beta" in _refused(failed).lower()
        assert failed.to_heads == ("beta",)
        assert await _done(pg, database) == {"delta": 1}
        # A person looks: takes it back by hand, and retries.
        await engine.execute(pg, database, "DELETE FROM done", "CREATE TABLE looked ()")
        await running.service.retry(view.rollout.id, by="test")
        await running.service.finished(view.rollout.id)
        assert (await running.service.rollout(view.rollout.id)).counts == {"succeeded": 1}
        assert await _done(pg, database) == {"delta": 1}


SAFE = {
    "all in its transaction": COUNT,
    "an index that is built beside others": "with op.get_context().autocommit_block():\n"
    "    op.execute('CREATE INDEX CONCURRENTLY IF NOT EXISTS mine ON done (revision)')",
    "a value that is added if it is not there": "with op.get_context().autocommit_block():\n"
    "    op.execute(\"ALTER TYPE mood ADD VALUE IF NOT EXISTS 'sad'\")",
    "a setting": "with op.get_context().autocommit_block():\n    op.execute(\"SET work_mem = '1MB'\")",
}


@pytest.mark.parametrize("body", SAFE.values(), ids=SAFE)
async def test_what_comes_to_the_same_a_second_time_is_run_again(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path, body: str
) -> None:
    project = _project(tmp_path)
    mood = "op.execute(\"CREATE TYPE mood AS ENUM ('glad')\")"
    environments.add_revision(project, "beta", "alpha", f"{mood}\n{OUTSIDE.replace('delta', 'beta')}")
    once = f"if not os.path.exists({str(tmp_path / 'died')!r}):\n    open({str(tmp_path / 'died')!r}, 'w')\n    {DIE}"
    environments.add_revision(project, "delta", "beta", f"{body}\n{once}")
    (database,) = await make_databases(1)
    async with engine.running(_registry(project, pg, [database])) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": 1}, view.failures
        done = (await running.migrations(view))["t000"]
        assert (done.attempts, done.doubt) == (2, None), "beta is at its end, so what it did outside is of no matter"
        assert (await _done(pg, database))["beta"] == 1


async def test_to_skip_what_is_half_applied_does_not_make_it_whole(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    project = _project(tmp_path)
    environments.add_revision(project, "delta", "alpha", f"{OUTSIDE}\nop.execute('SELECT 1 / 0')")
    (database,) = await make_databases(1)
    strategy = Strategy("careful", waves=(Wave("everyone", on_failure=FailureBudget(count=0)),))
    registry = replace(_registry(project, pg, [database]), strategies={"careful": strategy})
    async with engine.running(registry) as running:
        view, _ = await running.service.start_rollout(engine.head(strategy="careful"))
        await running.reaches(view.rollout.id, RolloutState.PAUSED, failed=1)
        await running.service.skip(view.rollout.id, by="test", tenant="t000", track=None, reason="later")
        await running.service.rollback(view.rollout.id, by="test")
        await running.service.finished(view.rollout.id)
        _refused((await running.migrations(view))["t000"])
        assert (await running.service.rollout(view.rollout.id)).rollout.state is RolloutState.FAILED
        assert await _heads(pg, database) == ["alpha"], "what cannot be taken back as a whole is left as it is"


async def test_in_one_transaction_for_all_what_an_earlier_revision_did_outside_of_it_counts_as_well(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    environments.make_project(tmp_path / "project")
    environments.add_revision(
        tmp_path / "project", "alpha", None, 'op.execute("CREATE TABLE done (revision text)")', 'op.drop_table("done")'
    )
    environments.add_revision(tmp_path / "project", "delta", "alpha", OUTSIDE)
    environments.add_revision(tmp_path / "project", "echo", "delta", 'op.execute("SELECT 1 / 0")')
    (database,) = await make_databases(1)
    async with engine.running(_registry(tmp_path / "project", pg, [database])) as running:
        view = await running.rollout()
        message = _refused((await running.migrations(view))["t000"], "echo")
        assert "outside of transactions stays (INSERT INTO done VALUES ('delta'))" in message
        assert "The version table still says alpha" in message
        assert await _heads(pg, database) == ["alpha"]


@pytest.mark.parametrize("template", ["generic", "async"])
async def test_what_a_commit_in_the_middle_left_is_told_and_not_tried_again(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path, template: Template
) -> None:
    project = _project(tmp_path, template)
    slow = "op.execute(\"SET lock_timeout = '10ms'\")\nop.execute('LOCK TABLE held')"
    environments.add_revision(project, "delta", "alpha", f"{COUNT}\nop.execute('COMMIT')\nop.execute('BEGIN')\n{slow}")
    (database,) = await make_databases(1)
    async with engine.running(_registry(project, pg, [database])) as running:
        await running.rollout("alpha")
        await engine.execute(pg, database, "CREATE TABLE held ()")
        async with engine.locked_table(pg, database, "held"):
            view = await running.rollout()
        failed = (await running.migrations(view))["t000"]
        assert "INSERT INTO done" in _refused(failed)
        assert failed.attempts == 1, "a lock that was not to be had is tried again, but not what has committed before"
        assert await _done(pg, database) == {"delta": 1}


async def test_a_commit_that_takes_the_version_table_along_half_way_is_told(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    project = _project(tmp_path)
    environments.add_revision(project, "delta", "alpha", f"{COUNT}\nop.get_bind().commit()")
    (database,) = await make_databases(1)
    async with engine.running(_registry(project, pg, [database])) as running:
        view = await running.rollout()
        message = _refused((await running.migrations(view))["t000"])
        assert "still to run: delta" in message
        assert await _heads(pg, database) == ["alpha"], "nobody has committed what came after"


async def test_a_revision_that_failed_before_anything_stayed_is_tried_again(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    project = _project(tmp_path)
    environments.add_revision(project, "delta", "alpha", OUTSIDE)
    (database,) = await make_databases(1)
    async with engine.running(_registry(project, pg, [database]), lock_timeout_seconds=0.2) as running:
        await running.rollout("alpha")
        async with engine.locked_table(pg, database, "done"):
            view, _ = await running.service.start_rollout(engine.head())

            async def tried() -> bool:
                return (await running.migrations(await running.service.rollout(view.rollout.id)))["t000"].attempts > 1

            await until(tried)
        await running.service.finished(view.rollout.id)
        assert (await running.service.rollout(view.rollout.id)).counts == {"succeeded": 1}
        assert await _done(pg, database) == {"delta": 1}


SLOW = f"with op.get_context().autocommit_block():\n    {COUNT}\n    op.execute('SELECT pg_sleep(300)')"


async def _sleeping(pg: Server, database: str) -> int | None:
    query = "SELECT pid FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid() AND query LIKE $2"
    return next((pid for (pid,) in await engine.fetch(pg, database, query, database, "%pg_sleep(300)%")), None)


async def test_a_replayed_revision_whose_session_is_lost_is_not_sent_again(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    project = _project(tmp_path)
    environments.add_revision(project, "delta", "alpha", SLOW)
    (database,) = await make_databases(1)
    async with engine.running(_registry(project, pg, [database], execution="replay")) as running:
        await running.rollout("alpha")
        view, _ = await running.service.start_rollout(engine.head())
        await until(lambda: _is_asleep(pg, database))
        await engine.fetch(pg, "postgres", f"SELECT pg_terminate_backend({await _sleeping(pg, database)})")
        await running.service.finished(view.rollout.id)
        _refused((await running.migrations(view))["t000"])
        assert await _done(pg, database) == {"delta": 1}


async def _is_asleep(pg: Server, database: str) -> bool:
    return await _sleeping(pg, database) is not None


@pytest.mark.parametrize("execution", ["online", "replay"])
async def test_an_abort_by_force_leaves_a_doubt_that_the_next_rollout_heeds(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path, execution: str
) -> None:
    project = _project(tmp_path)
    environments.add_revision(project, "delta", "alpha", SLOW)
    (database,) = await make_databases(1)
    async with engine.running(_registry(project, pg, [database], execution=execution)) as running:
        await running.rollout("alpha")
        view, _ = await running.service.start_rollout(engine.head())
        await until(lambda: _is_asleep(pg, database))
        await running.service.abort(view.rollout.id, by="test", force=True)
        await running.service.finished(view.rollout.id)
        ended = (await running.migrations(view))["t000"]
        assert ended.failure is not None
        assert (ended.state, ended.failure.revision) == ("cancelled", "delta")
        assert "revision delta had begun" in ended.failure.message
        again = await running.rollout()
        _refused((await running.migrations(again))["t000"])
        assert await _done(pg, database) == {"delta": 1}
        # Nor does the first one call rolled back what it cannot take back.
        await running.service.rollback(view.rollout.id, by="test")
        await running.service.finished(view.rollout.id)
        _refused((await running.migrations(view))["t000"])
        assert (await running.service.rollout(view.rollout.id)).rollout.state is RolloutState.FAILED
        # A person has looked, and finished the revision by hand: nobody doubts it any more.
        await engine.execute(pg, database, "UPDATE alembic_version SET version_num = 'delta'")
        assert (await running.rollout()).counts == {"up_to_date": 1}


async def test_a_daemon_that_is_killed_in_the_middle_does_nothing_twice(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    project = _project(tmp_path)
    environments.add_revision(project, "delta", "alpha", SLOW)
    (database,) = await make_databases(1)
    config, environ = write_registry(tmp_path, pg, [database], {"app": {"config": "project/alembic.ini"}})
    async with Daemon(config, f"sqlite:///{tmp_path}/store.db", environ) as daemon:
        rollout = (await daemon.post_rollout()).json()["id"]
        await until(lambda: _is_asleep(pg, database))
        daemon.kill()
        await daemon.start()
        ended = await daemon.ended(rollout)
        assert ended["counts"]["failed"] == 1
        assert "half applied" in ended["failures"][0]["example"]["message"]
        assert await _done(pg, database) == {"delta": 1}
