"""Statements that build an index have a limit of their own, and an index that is not whole is never taken for one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import anyio
import asyncpg
import pytest
import structlog

from orchestrator.api.ports import RolloutView
from orchestrator.databases.embedded import Server
from orchestrator.events import MigrationFinished, MigrationRetried
from orchestrator.registry.model import Registry, Target
from orchestrator.rollout.state import Failure
from tests import engine, environments
from tests.engine import until
from tests.servers import MakeDatabases

Way = Literal["online", "replay"]
WAYS = pytest.mark.parametrize("execution", ["online", "replay"])
# Takes as many tenths of a second for each row of the table as its argument says.
SLOW = """CREATE FUNCTION slow(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
    $$ BEGIN PERFORM pg_sleep(0.1 * n); RETURN n; END $$"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    environments.make_project(tmp_path / "project")
    environments.add_tables(tmp_path / "project", ["alpha"])
    return tmp_path / "project"


def _registry(project: Path, pg: Server, databases: list[str], execution: Way = "online") -> Registry:
    track = replace(environments.track_of(project / "alembic.ini"), execution=execution)
    return engine.registry_of([track], [engine.shard_of(pg)], engine.targets_of(databases))


async def _table(pg: Server, database: str, *rows: int) -> None:
    await engine.provision(pg, database)
    values = "".join(f", ({row})" for row in rows)
    await engine.execute(pg, database, "CREATE TABLE mine (a int)", f"INSERT INTO mine VALUES (0){values}", SLOW)


async def _failure(running: engine.Engine, view: RolloutView, tenant: str = "t000") -> Failure:
    failure = (await running.migrations(view))[tenant].failure
    assert failure is not None
    return failure


async def _valid(pg: Server, database: str) -> dict[str, bool]:
    query = "SELECT c.relname, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
    return dict(await engine.fetch(pg, database, f"{query} WHERE i.indrelid = 'mine'::regclass"))


PLAIN = 'op.execute("CREATE INDEX mine_a ON mine (slow(a))")'
CONCURRENT = """
with op.get_context().autocommit_block():
    op.execute("CREATE INDEX CONCURRENTLY {0}mine_a ON mine ({1})")
"""


@WAYS
@pytest.mark.parametrize("body", [PLAIN, CONCURRENT.format("", "slow(a)")])
async def test_an_index_may_take_longer_than_a_statement_may(
    project: Path, pg: Server, make_databases: MakeDatabases, execution: Way, body: str
) -> None:
    environments.add_revision(project, "delta", "alpha", f"{body}\nop.execute('CREATE TABLE limits (s text, l text)')")
    said = "INSERT INTO limits VALUES (current_setting('statement_timeout'), current_setting('lock_timeout'))"
    environments.add_revision(project, "echo", "delta", f'op.execute("{said}")')
    environments.add_revision(project, "foxtrot", "echo", "op.execute('SELECT pg_sleep(1.5)')")
    (database,) = await make_databases(1)
    await _table(pg, database, 12)
    async with engine.running(_registry(project, pg, [database], execution), statement_timeout_seconds=0.8) as running:
        view = await running.rollout("echo")
        assert view.counts == {"succeeded": 1}, view.failures
        assert (await running.migrations(view))["t000"].execution == execution
        assert await engine.fetch(pg, database, "SELECT * FROM limits") == [("800ms", "2s")], "and what follows may not"
        assert (await running.rollout("foxtrot")).counts == {"failed": 1}


@WAYS
async def test_an_index_build_has_a_limit_too_and_a_revisions_own_stays(
    project: Path, pg: Server, make_databases: MakeDatabases, execution: Way
) -> None:
    environments.add_revision(
        project, "delta", "alpha", f"op.execute(\"SET LOCAL statement_timeout = '5min'\")\n{PLAIN}"
    )
    said = "op.execute(\"CREATE TABLE limits AS SELECT current_setting('statement_timeout') AS s\")"
    environments.add_revision(project, "echo", "delta", said)
    environments.add_revision(project, "foxtrot", "echo", PLAIN.replace("mine_a", "mine_b"))
    (database,) = await make_databases(1)
    await _table(pg, database, 12)
    limits = {"statement_timeout_seconds": 0.5, "build_timeout_seconds": 0.6}
    async with engine.running(_registry(project, pg, [database], execution), **limits) as running:
        view = await running.rollout("echo")
        assert view.counts == {"succeeded": 1}, view.failures
        assert await engine.fetch(pg, database, "SELECT s FROM limits") == [("5min",)]
        view = await running.rollout("foxtrot")
        assert (await _failure(running, view)).code == "57014"


async def test_a_concurrent_build_that_fails_leaves_the_limits_as_they_were(
    project: Path, pg: Server, make_databases: MakeDatabases
) -> None:
    """A revision that goes on after it must not wait for locks without a limit."""
    body = """
    with op.get_context().autocommit_block():
        try:
            op.execute("CREATE UNIQUE INDEX CONCURRENTLY mine_a ON mine (a)")
        except sa.exc.IntegrityError:
            pass
        op.execute("CREATE TABLE limits AS SELECT current_setting('statement_timeout') AS s, "
                   "current_setting('lock_timeout') AS l")
    """
    environments.add_revision(project, "delta", "alpha", body)
    (database,) = await make_databases(1)
    await _table(pg, database, 0)
    async with engine.running(_registry(project, pg, [database])) as running:
        assert (await running.rollout()).counts == {"succeeded": 1}
    assert await engine.fetch(pg, database, "SELECT * FROM limits") == [("1h", "2s")]


@pytest.mark.parametrize("own", ["100ms", "0"])
async def test_a_limit_for_locks_that_a_revision_sets_itself_stays_while_it_builds(
    project: Path, pg: Server, make_databases: MakeDatabases, own: str
) -> None:
    body = f"""
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = '{own}'")
        op.execute("CREATE INDEX CONCURRENTLY mine_a ON mine (seen(a))")
        op.execute("CREATE TABLE limits AS SELECT current_setting('lock_timeout') AS l")
    """
    environments.add_revision(project, "delta", "alpha", body)
    (database,) = await make_databases(1)
    await _table(pg, database, 0)
    seen = """CREATE FUNCTION seen(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
        IF current_setting('lock_timeout') <> '%s' THEN RAISE 'lock_timeout %%', current_setting('lock_timeout');
        END IF; RETURN n; END $$"""
    await engine.execute(pg, database, seen % own)
    async with engine.running(_registry(project, pg, [database])) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": 1}, view.failures
    assert await engine.fetch(pg, database, "SELECT * FROM limits") == [(own,)]


@WAYS
async def test_who_keeps_a_concurrent_build_waiting_is_told(
    project: Path, pg: Server, make_databases: MakeDatabases, execution: Way
) -> None:
    environments.add_revision(project, "delta", "alpha", CONCURRENT.format("", "a"))
    (database,) = await make_databases(1)
    await _table(pg, database, 0)
    async with engine.running(_registry(project, pg, [database], execution), lock_timeout_seconds=0.1) as running:
        with structlog.testing.capture_logs() as logs:
            async with engine.locked_table(pg, database, "mine", "ROW EXCLUSIVE"):
                view, _ = await running.service.start_rollout(engine.head())
                await until(lambda: [line for line in logs if line["event"] == "migration_waits"] != [])
            await running.service.finished(view.rollout.id)
        assert (await running.service.rollout(view.rollout.id)).counts == {"succeeded": 1}
        assert not running.of(MigrationRetried), "it keeps nobody waiting, so it waits without a limit"
        (told,) = [line for line in logs if line["event"] == "migration_waits"]
        assert (told["tenant"], told["track"], told["log_level"]) == ("t000", "app", "warning")
        assert "backend " in told["blocked_by"]
        assert "idle in transaction" in told["blocked_by"]


@WAYS
@pytest.mark.parametrize("condition", ["", "IF NOT EXISTS "])
async def test_what_a_failed_build_left_is_named_and_is_not_taken_for_an_index_by_the_next_attempt(
    project: Path, pg: Server, make_databases: MakeDatabases, execution: Way, condition: str
) -> None:
    body = CONCURRENT.replace("INDEX CONC", "UNIQUE INDEX CONC").format(condition, "a")
    environments.add_revision(project, "delta", "alpha", body)
    (database,) = await make_databases(1)
    await _table(pg, database, 0)
    async with engine.running(_registry(project, pg, [database], execution)) as running:
        view = await running.rollout()
        assert view.counts == {"failed": 1}
        first = await _failure(running, view)
        assert (first.kind, first.revision, first.code) == ("half_applied", "delta", "23505")
        assert "public.mine_a" in first.message
        assert first.remedy == "DROP INDEX CONCURRENTLY public.mine_a; then correct the cause and retry"
        assert await _valid(pg, database) == {"mine_a": False}
        await engine.execute(pg, database, "TRUNCATE mine")

        await running.service.retry(view.rollout.id, by="test")
        await running.service.finished(view.rollout.id)
        second = await _failure(running, await running.service.rollout(view.rollout.id))
        assert (second.kind, second.revision) == ("invalid_index", "delta")
        assert "public.mine_a is there, but invalid" in second.message
        assert second.remedy == "DROP INDEX CONCURRENTLY public.mine_a; then retry"

        await engine.execute(pg, database, "DROP INDEX CONCURRENTLY public.mine_a")
        await running.service.retry(view.rollout.id, by="test")
        await running.service.finished(view.rollout.id)
        assert (await running.service.rollout(view.rollout.id)).counts == {"succeeded": 1}
        assert await _valid(pg, database) == {"mine_a": True}


@WAYS
async def test_an_index_that_is_there_and_whole_is_no_half_applied_revision(
    project: Path, pg: Server, make_databases: MakeDatabases, execution: Way
) -> None:
    environments.add_revision(project, "delta", "alpha", CONCURRENT.format("", "a"))
    (database,) = await make_databases(1)
    await _table(pg, database)
    await engine.execute(pg, database, "CREATE INDEX mine_a ON mine (a)")
    async with engine.running(_registry(project, pg, [database], execution)) as running:
        view = await running.rollout()
        failed = await _failure(running, view)
        assert (failed.kind, failed.code) == ("failed", "42P07")
        assert "DROP INDEX" not in (failed.remedy or "")


@WAYS
async def test_an_index_that_somebody_is_building_is_waited_for(
    project: Path, pg: Server, make_databases: MakeDatabases, execution: Way
) -> None:
    """IF NOT EXISTS would take it for done while it is not, and a name that is taken would be a failure."""
    environments.add_revision(project, "delta", "alpha", CONCURRENT.format("IF NOT EXISTS ", "a"))
    (database,) = await make_databases(1)
    await _table(pg, database)
    building = await asyncpg.connect(pg.url(database), server_settings={"application_name": "anna"})
    reading = await asyncpg.connect(pg.url(database))
    transaction = reading.transaction()
    await transaction.start()
    await reading.execute("INSERT INTO mine VALUES (1)")  # a build waits for this one
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(building.execute, "CREATE INDEX CONCURRENTLY mine_a ON mine (a)")

        async def is_there() -> bool:
            return "mine_a" in await _valid(pg, database)

        await until(is_there)
        async with engine.running(_registry(project, pg, [database], execution)) as running:
            view, _ = await running.service.start_rollout(engine.head())
            await until(lambda: any("is building index public.mine_a" in it.message for it in _retried(running)))
            await transaction.rollback()
            await running.service.finished(view.rollout.id)
            assert (await running.service.rollout(view.rollout.id)).counts == {"succeeded": 1}
    await building.close()
    await reading.close()
    assert await _valid(pg, database) == {"mine_a": True}


def _retried(running: engine.Engine) -> list[MigrationRetried]:
    return running.of(MigrationRetried)


async def test_a_killed_build_is_told_before_the_next_attempt(
    project: Path, pg: Server, make_databases: MakeDatabases
) -> None:
    """The process that ran env.py dies in the middle; the server ends the statement and keeps the index."""
    body = """
    import threading
    if not os.path.exists({flag!r}):
        open({flag!r}, "w").close()
        threading.Timer(1.0, os.kill, (os.getpid(), 9)).start()
    with op.get_context().autocommit_block():
        op.execute("CREATE INDEX CONCURRENTLY mine_a ON mine (slow(a))")
    """
    environments.read_url_from_environ(project)
    flag = str(project / "died")
    environments.add_revision(project, "delta", "alpha", body.format(flag=flag))
    (database,) = await make_databases(1)
    await _table(pg, database, 100)
    registry = _registry(project, pg, [database])
    isolated = replace(registry.tracks["app"], isolation="process", environment={"DATABASE_URL": "{url}"})
    registry = replace(registry, tracks={"app": isolated})
    with structlog.testing.capture_logs() as lines:
        async with engine.running(registry) as running:
            view = await running.rollout()
    assert view.counts == {"failed": 1}
    (finished,) = running.of(MigrationFinished)
    assert (finished.kind, finished.remedy) == ("invalid_index", "DROP INDEX CONCURRENTLY public.mine_a; then retry")
    (line,) = [line for line in lines if line["event"] == "invalid_indexes"]
    assert (line["log_level"], line["indexes"]) == ("warning", ["public.mine_a"])
    assert line["remedy"].startswith("DROP INDEX CONCURRENTLY public.mine_a")


@WAYS
async def test_another_tenants_invalid_index_of_that_name_is_none_of_ours(
    project: Path, pg: Server, make_databases: MakeDatabases, execution: Way
) -> None:
    environments.add_revision(project, "delta", "alpha", CONCURRENT.format("", '\\"A\\"').replace("mine", "notes"))
    (database,) = await make_databases(1)
    for schema in ("one", "two"):
        await engine.execute(
            pg,
            database,
            f"CREATE SCHEMA {schema}",
            f"CREATE TABLE {schema}.alembic_version (version_num varchar(32) PRIMARY KEY)",
            f'CREATE TABLE {schema}.notes ("A" int)',
        )
    await engine.execute(pg, database, "INSERT INTO one.notes VALUES (1), (1)")
    with pytest.raises(asyncpg.UniqueViolationError):
        await engine.execute(pg, database, 'CREATE UNIQUE INDEX CONCURRENTLY notes_a ON one.notes ("A")')
    registry = _registry(project, pg, [database], execution)
    targets = tuple(Target(name, "app", "pg", database, schema=name) for name in ("one", "two"))
    async with engine.running(replace(registry, targets=targets)) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": 1, "failed": 1}
        assert (await _failure(running, view, "one")).remedy == "DROP INDEX CONCURRENTLY one.notes_a; then retry"
