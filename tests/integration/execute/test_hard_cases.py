"""What goes wrong on a release night, on real servers: each has its own outcome, message and remedy, and the other
targets finish."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest

from orchestrator.databases.embedded import Server
from orchestrator.errors import ConflictError, HistoryError
from orchestrator.events import MigrationRetried
from orchestrator.registry.model import FailureBudget, Registry, Strategy, Target, Track, Wave
from orchestrator.rollout.state import Migration, Request, RolloutState
from tests import engine, environments
from tests.engine import until
from tests.servers import MakeDatabases

TABLES = ["alpha", "beta", "gamma"]


@pytest.fixture
def track(tmp_path: Path) -> Track:
    """The generic template with three revisions."""
    config = environments.make_project(tmp_path / "project")
    environments.add_tables(tmp_path / "project", TABLES)
    return environments.track_of(config)


def _registry(track: Track, pg: Server, targets: Sequence[Target], **shard: Any) -> Registry:
    return engine.registry_of([track], [engine.shard_of(pg, **shard)], targets)


async def _heads(pg: Server, database: str) -> list[str]:
    return [row[0] for row in await engine.fetch(pg, database, "SELECT version_num FROM alembic_version")]


def _reason(migration: Migration) -> str:
    assert migration.failure is not None
    assert migration.failure.remedy, "a failure without a remedy leaves the operator alone"
    return migration.failure.message


async def test_a_missing_database_is_unreachable_and_the_others_finish(
    pg: Server, make_databases: MakeDatabases, track: Track
) -> None:
    databases = await make_databases(3)
    targets = engine.targets_of([databases[0], 'no such "db"', *databases[1:]])
    async with engine.running(_registry(track, pg, targets)) as running:
        view = await running.rollout()
        assert view.rollout.state is RolloutState.FAILED
        assert view.counts == {"succeeded": 3, "unreachable": 1}
        failed = (await running.migrations(view))["t001"]
        assert 'database "no such "db"" does not exist' in _reason(failed)
        assert failed.failure is not None
        assert failed.failure.kind == "missing_database"
        assert failed.attempts == 1, "time does not make a database appear: no retry"


async def test_a_wrong_password_is_told_without_the_password(
    pg: Server, make_databases: MakeDatabases, track: Track
) -> None:
    (database,) = await make_databases(1)
    shard = engine.shard_of(pg)
    wrong = replace(shard, url=shard.url.set(password="s3cr3t/wr@ng"))
    async with engine.running(engine.registry_of([track], [wrong], engine.targets_of([database]))) as running:
        view = await running.rollout()
        failed = (await running.migrations(view))["t000"]
        assert failed.failure is not None
        assert (failed.state, failed.failure.kind) == ("unreachable", "authentication")
        assert "password" in _reason(failed)
        assert "s3cr3t" not in repr([view, failed, running.events])


async def test_a_server_that_does_not_answer_is_tried_again_then_told_and_never_holds_up_the_others(
    pg: Server, make_databases: MakeDatabases, track: Track, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.retry_quickly(monkeypatch)
    databases = await make_databases(4)
    down = replace(engine.shard_of(pg, "down"), url=engine.shard_of(pg).url.set(port=1))
    targets = engine.targets_of(databases)
    targets += [Target(f"d{number}", "app", "down", "x") for number in range(20)]
    async with engine.running(engine.registry_of([track], [engine.shard_of(pg), down], targets)) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": 4, "unreachable": 20}
        assert running.of(MigrationRetried), "a server may come back: it is asked again"
        assert len(view.failures) == 1, "one cause"


async def test_a_revision_that_fails_on_one_tenant_names_revision_statement_and_code(
    pg: Server, make_databases: MakeDatabases, track: Track
) -> None:
    databases = await make_databases(8)
    await engine.provision(pg, databases[6])
    await engine.execute(pg, databases[6], "CREATE TABLE beta (id int)")
    async with engine.running(_registry(track, pg, engine.targets_of(databases))) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": 7, "failed": 1}
        failed = (await running.migrations(view))["t006"]
        assert failed.failure is not None
        assert (failed.failure.revision, failed.failure.code) == ("beta", "42P07")
        assert "CREATE TABLE beta" in (failed.failure.statement or "")
        assert 'relation "beta" already exists' in _reason(failed)
        assert failed.to_heads == (), "one transaction: nothing of it stayed"
        await engine.execute(pg, databases[6], "DROP TABLE beta")
        await running.service.retry(view.rollout.id, by="test")
        await running.service.finished(view.rollout.id)
        again = await running.service.rollout(view.rollout.id)
        assert again.rollout.state is RolloutState.SUCCEEDED
        assert again.counts == {"succeeded": 8}


async def test_an_exception_in_python_names_file_and_line(
    pg: Server, make_databases: MakeDatabases, track: Track, tmp_path: Path
) -> None:
    databases = await make_databases(8)
    body = 'if context.get_x_argument(as_dictionary=True)["tenant"] == "t006":\n    raise ValueError("boom")'
    environments.add_revision(tmp_path / "project", "delta", "gamma", body)
    async with engine.running(_registry(track, pg, engine.targets_of(databases))) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": 7, "failed": 1}
        failed = (await running.migrations(view))["t006"]
        assert "revision delta: ValueError: boom [" in _reason(failed)
        assert "delta.py:" in _reason(failed)


async def test_sys_exit_in_a_revision_fails_that_target_and_not_the_daemon(
    pg: Server, make_databases: MakeDatabases, track: Track, tmp_path: Path
) -> None:
    environments.add_revision(tmp_path / "project", "delta", "gamma", "raise SystemExit(3)")
    async with engine.running(_registry(track, pg, engine.targets_of(await make_databases(2)))) as running:
        view = await running.rollout()
        assert view.counts == {"failed": 2}


async def test_a_target_ahead_of_this_build_is_never_touched(
    pg: Server, make_databases: MakeDatabases, track: Track
) -> None:
    databases = await make_databases(2)
    await engine.execute(
        pg,
        databases[0],
        "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)",
        "INSERT INTO alembic_version VALUES ('from_the_future')",
    )
    async with engine.running(_registry(track, pg, engine.targets_of(databases))) as running:
        view = await running.rollout()
        assert view.counts == {"ahead": 1, "succeeded": 1}
        assert "from_the_future" in _reason((await running.migrations(view))["t000"])
        assert await _heads(pg, databases[0]) == ["from_the_future"]


async def test_a_target_that_another_run_holds_is_locked_and_names_the_holder(
    pg: Server, make_databases: MakeDatabases, track: Track
) -> None:
    databases = await make_databases(3)
    targets = engine.targets_of(databases)
    async with (
        engine.held_target(pg, databases[1]) as holder,
        engine.running(_registry(track, pg, targets), lock_wait_seconds=0.5) as running,
    ):
        view = await running.rollout()
        assert view.counts == {"succeeded": 2, "locked": 1}
        reason = _reason((await running.migrations(view))["t001"])
        assert f"backend {holder} (somebody else" in reason


async def test_a_table_lock_held_by_an_application_is_waited_for_again_and_again_then_told(
    pg: Server, make_databases: MakeDatabases, track: Track, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    databases = await make_databases(3)
    async with engine.running(_registry(track, pg, engine.targets_of(databases)), lock_timeout_seconds=1.5) as running:
        await running.rollout()
        environments.add_revision(
            tmp_path / "project", "delta", "gamma", 'op.add_column("alpha", sa.Column("x", sa.Integer))'
        )
        blocker = await asyncpg.connect(pg.url(databases[0]), server_settings={"application_name": "psql of anna"})
        try:
            transaction = blocker.transaction()
            await transaction.start()
            await blocker.execute("SELECT * FROM alpha")
            async with anyio.create_task_group() as tasks:

                async def let_go_later() -> None:
                    await until(lambda: bool(running.of(MigrationRetried)))
                    await transaction.rollback()

                tasks.start_soon(let_go_later)
                view = await running.rollout()
        finally:
            await blocker.close()
        assert view.counts == {"succeeded": 3}, view.failures
        (retry,) = running.of(MigrationRetried)[:1]
        assert retry.reason == "contention"
        assert "psql of anna" in retry.message, retry.message


async def test_env_py_that_connects_elsewhere_is_refused_before_anything_runs(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    """The classic mistake: env.py reads a variable of the daemon's environment, the same for every tenant."""
    elsewhere, *databases = await make_databases(3)
    config = environments.make_project(tmp_path / "project")
    environments.add_tables(tmp_path / "project", TABLES)
    env = tmp_path / "project" / "alembic" / "env.py"
    url = pg.url(elsewhere).replace("postgresql", "postgresql+psycopg", 1)
    fixed = f"config = context.config\nconfig.set_main_option('sqlalchemy.url', {url!r})\n"
    env.write_text(env.read_text().replace("config = context.config\n", fixed))
    track = environments.track_of(config)
    async with engine.running(_registry(track, pg, engine.targets_of(databases))) as running:
        view = await running.rollout()
        assert view.counts == {"failed": 2}
        reason = _reason((await running.migrations(view))["t000"])
        assert elsewhere in reason
        assert databases[0] in reason
    tables = await engine.fetch(pg, elsewhere, "SELECT 1 FROM pg_class WHERE relname IN ('alpha', 'alembic_version')")
    assert tables == []


async def test_a_pooled_connection_of_the_tenant_before_is_proved_again(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    """An application that keeps one engine at module level would send every tenant to the first one's database."""
    databases = await make_databases(4)
    config = environments.make_project(tmp_path / "project")
    environments.add_tables(tmp_path / "project", TABLES)
    (tmp_path / "project" / "kept_engine.py").write_text(
        "from sqlalchemy import create_engine\nkept = None\n"
        "def get(url):\n    global kept\n    kept = kept or create_engine(url)\n    return kept\n"
    )
    env = tmp_path / "project" / "alembic" / "env.py"
    text = env.read_text()
    start, end = text.index("    connectable = engine_from_config("), text.index("    with connectable.connect()")
    kept = '    import kept_engine\n    connectable = kept_engine.get(config.get_main_option("sqlalchemy.url"))\n\n'
    env.write_text(text[:start] + kept + text[end:])
    registry = _registry(environments.track_of(config), pg, engine.targets_of(databases), max_concurrent=1)
    async with engine.running(registry) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": 1, "failed": 3}
        assert databases[0] in _reason((await running.migrations(view))["t001"])
    assert await _heads(pg, databases[0]) == ["gamma"]


async def test_env_py_that_swallows_the_error_is_found_out(
    pg: Server, make_databases: MakeDatabases, track: Track, tmp_path: Path
) -> None:
    environments.add_revision(tmp_path / "project", "delta", "gamma", 'raise RuntimeError("hidden")')
    env = tmp_path / "project" / "alembic" / "env.py"
    env.write_text(
        env.read_text().replace(
            "else:\n    run_migrations_online()",
            "else:\n    try:\n        run_migrations_online()\n    except RuntimeError:\n        pass",
        )
    )
    async with engine.running(_registry(track, pg, engine.targets_of(await make_databases(1)))) as running:
        view = await running.rollout()
        assert "still to run" in _reason((await running.migrations(view))["t000"])


async def test_two_heads_an_unknown_revision_and_a_broken_file_are_refused_at_once(
    pg: Server, make_databases: MakeDatabases, track: Track, tmp_path: Path
) -> None:
    databases = await make_databases(1)
    async with engine.running(_registry(track, pg, engine.targets_of(databases))) as running:
        with pytest.raises(HistoryError, match="no revision 'nope'") as unknown:
            await running.rollout("nope")
        assert "gamma" in str(unknown.value.remedy)
        environments.add_revision(tmp_path / "project", "other", "beta", "pass")
        with pytest.raises(HistoryError, match="2 heads") as heads:
            await running.rollout("head")
        assert "merge" in str(heads.value.remedy)
        broken = tmp_path / "project" / "alembic" / "versions" / "broken.py"
        broken.write_text("revision = 'broken'\ndown_revision = 'gamma'\ndef upgrade(:\n    pass\n")
        with pytest.raises(HistoryError) as syntax:
            await running.rollout("gamma")
        assert (syntax.value.file, syntax.value.line) == (str(broken), 3)


async def test_a_second_rollout_over_the_same_targets_names_the_first(
    pg: Server, make_databases: MakeDatabases, track: Track, tmp_path: Path
) -> None:
    environments.add_revision(tmp_path / "project", "delta", "gamma", _waits(tmp_path))
    async with engine.running(_registry(track, pg, engine.targets_of(await make_databases(2)))) as running:
        first, _ = await running.service.start_rollout(_request())
        with pytest.raises(ConflictError) as conflict:
            await running.service.start_rollout(_request())
        assert conflict.value.rollout == first.rollout.id
        (tmp_path / "go on").touch()
        await running.service.finished(first.rollout.id)
        assert (await running.rollout()).counts == {"up_to_date": 2}


def _waits(folder: Path) -> str:
    """The body of a revision that goes on when there is a file `go on` in the folder."""
    return f"while not os.path.exists({str(folder / 'go on')!r}):\n    time.sleep(0.02)"


def _request() -> Request:
    return Request("app", "head")


async def test_too_many_failures_pause_and_a_resume_goes_on(
    pg: Server, make_databases: MakeDatabases, track: Track, tmp_path: Path
) -> None:
    databases = await make_databases(10)
    for database in databases[:3]:
        await engine.execute(pg, database, "CREATE TABLE beta (id int)")
    careful = Strategy("careful", 1, (Wave("everyone", on_failure=FailureBudget(count=1)),))
    registry = engine.registry_of(
        [track], [engine.shard_of(pg)], engine.targets_of(databases), strategies={"careful": careful}
    )
    async with engine.running(registry) as running:
        view, _ = await running.service.start_rollout(replace(_request(), strategy="careful"))
        rollout = view.rollout.id
        await running.reaches(rollout, RolloutState.PAUSED)
        paused = await running.service.rollout(rollout)
        assert paused.counts == {"failed": 2, "pending": 8}
        assert paused.rollout.reason == "2 of 10 targets failed, more than the 1 that are allowed"
        await running.service.resume(rollout, by="anna")
        await running.reaches(rollout, RolloutState.PAUSED, failed=3)
        await running.service.resume(rollout, by="anna")
        with anyio.fail_after(60):
            await running.service.finished(rollout)
        assert (await running.service.rollout(rollout)).counts == {"failed": 3, "succeeded": 7}


async def test_an_abort_lets_what_runs_end_and_cancels_the_rest(
    pg: Server, make_databases: MakeDatabases, track: Track, tmp_path: Path
) -> None:
    environments.add_revision(tmp_path / "project", "delta", "gamma", _waits(tmp_path))
    registry = _registry(track, pg, engine.targets_of(await make_databases(6)), max_concurrent=2)
    async with engine.running(registry) as running:
        view, _ = await running.service.start_rollout(_request())
        await running.reaches(view.rollout.id, RolloutState.RUNNING, running=2)
        await running.service.abort(view.rollout.id, by="anna")
        (tmp_path / "go on").touch()
        await running.service.finished(view.rollout.id)
        after = await running.service.rollout(view.rollout.id)
        assert after.rollout.state is RolloutState.ABORTED
        assert after.rollout.reason == "aborted by anna"
        assert after.counts == {"succeeded": 2, "cancelled": 4}


async def test_a_worker_process_that_dies_fails_its_target_only(
    pg: Server, make_databases: MakeDatabases, track: Track, tmp_path: Path
) -> None:
    environments.read_url_from_environ(tmp_path / "project")
    body = 'if context.get_x_argument(as_dictionary=True)["tenant"] == "t001":\n    os.kill(os.getpid(), 9)'
    environments.add_revision(tmp_path / "project", "delta", "gamma", body)
    track = replace(track, isolation="process", environment={"DATABASE_URL": "{url}"})
    async with engine.running(_registry(track, pg, engine.targets_of(await make_databases(4)))) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": 3, "failed": 1}
        assert "worker process died" in _reason((await running.migrations(view))["t001"])
