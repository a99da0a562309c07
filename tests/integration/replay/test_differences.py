"""Ways in which env.py and replay would differ without a word: each is run by env.py, or told."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.databases.embedded import Server
from orchestrator.events import PlanJudged, ReplayRefused
from tests import engine, environments
from tests.integration.replay.test_replay import registry_of, replaying
from tests.servers import MakeDatabases

TABLES = ["alpha", "beta"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    environments.make_project(tmp_path / "project")
    environments.add_tables(tmp_path / "project", TABLES)
    return tmp_path / "project"


def change_env_py(project: Path, before: str, after: str) -> None:
    env = project / "alembic" / "env.py"
    text = env.read_text()
    assert before in text
    env.write_text(text.replace(before, after))


async def judged_online(project: Path, pg: Server, databases: list[str], **track: object) -> str:
    """Why all of them, one after another, are brought to head by env.py."""
    async with engine.running(registry_of(project, pg, databases, **track), max_concurrent=1) as running:
        assert (await running.rollout()).executions == {"online": len(databases)}
        (judged,) = running.of(PlanJudged)
        return str(judged.reason)


async def test_the_isolation_that_env_py_gives_its_engine_is_noticed(
    project: Path, pg: Server, make_databases: MakeDatabases
) -> None:
    change_env_py(project, "poolclass=pool.NullPool", "poolclass=pool.NullPool, isolation_level='REPEATABLE READ'")
    reason = await judged_online(project, pg, await make_databases(5))
    assert reason == "env.py's sessions have transaction_isolation = repeatable read, ours read committed"


async def test_an_encoding_of_env_pys_own_is_noticed_where_the_server_takes_bytes_as_they_come(
    project: Path, pg: Server, make_databases: MakeDatabases
) -> None:
    (template,) = await make_databases(1)
    bare = "TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'"
    await engine.execute(pg, "postgres", f"DROP DATABASE {template}", f"CREATE DATABASE {template} {bare}")
    encoding = "connect_args={'client_encoding': 'latin1'}"
    change_env_py(project, "poolclass=pool.NullPool", f"poolclass=pool.NullPool, {encoding}")
    reason = await judged_online(project, pg, await make_databases(5, template=template))
    assert reason == "env.py's sessions have client_encoding = LATIN1, ours UTF8"


async def let_go_in(pg: Server, database: str) -> None:
    """A function that is there already, and lets go of the target's lock: no text that calls it tells so."""
    await engine.provision(pg, database)
    lets_go = "CREATE FUNCTION let_go() RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_unlock_all()"
    await engine.execute(pg, database, "CREATE TABLE mine (a int)", f"{lets_go}; RETURN 1; END $$")
    await engine.execute(pg, database, "INSERT INTO mine VALUES (0)")


async def test_a_target_is_not_committed_without_its_lock(
    project: Path, pg: Server, make_databases: MakeDatabases
) -> None:
    environments.add_revision(project, "delta", "beta", "op.execute('UPDATE mine SET a = let_go()')")
    (database,) = await make_databases(1)
    await let_go_in(pg, database)
    async with replaying(project, pg, [database]) as running:
        view = await running.rollout(select="tenant=t000")
        assert view.executions == {"fallback": 1}
        (told,) = running.of(ReplayRefused)
        assert told.message == "something that was replayed has let go of the lock that the migration holds"
    assert await engine.fetch(pg, database, "SELECT count(*) FROM applied") == [(len(TABLES),)], "each revision once"


async def test_the_version_table_is_not_moved_without_the_lock_after_what_was_committed(
    project: Path, pg: Server, make_databases: MakeDatabases
) -> None:
    """What stands outside of transactions is done; only a person knows whether it may be done again."""
    environments.use_transaction_per_migration(project)
    body = "with op.get_context().autocommit_block():\n    op.execute('UPDATE mine SET a = a + let_go()')"
    environments.add_revision(project, "delta", "beta", body)
    (database,) = await make_databases(1)
    await let_go_in(pg, database)
    async with replaying(project, pg, [database]) as running:
        view = await running.rollout(select="tenant=t000")
        failure = (await running.migrations(view))["t000"].failure
        assert failure is not None
        assert (failure.kind, failure.revision) == ("half_applied", "delta")
        assert "let go of the lock that the migration holds" in failure.message
    assert await engine.fetch(pg, database, "SELECT a FROM mine") == [(1,)], "done once"
    assert await engine.fetch(pg, database, "SELECT version_num FROM alembic_version") == [("beta",)]


async def test_what_a_server_says_of_compiled_sql_shows_no_secret(
    project: Path, pg: Server, make_databases: MakeDatabases
) -> None:
    """The row that it refuses holds one, which SQL need not do."""
    environments.add_revision(project, "delta", "beta", "op.execute('ALTER TABLE mine ALTER a TYPE int USING a::int')")
    databases = await make_databases(2)
    await engine.provision(pg, *databases)
    for database in databases:
        await engine.execute(pg, database, "CREATE TABLE mine (a text)", "INSERT INTO mine VALUES ('hunter2-secret')")
    environment = {"isolation": "process", "environment": {"CRYPT_KEY": "hunter2-secret"}}
    async with replaying(project, pg, databases, **environment) as running:
        view = await running.rollout(select="tenant=t000")
        (told,) = running.of(ReplayRefused)
        assert told.message == 'invalid input syntax for type integer: "***"'
        failure = (await running.migrations(view))["t000"].failure
        assert failure is not None
        assert "hunter2" not in failure.message


async def test_sql_that_comes_out_otherwise_than_it_was_reviewed_is_not_replayed(
    project: Path, pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    """The fifth rendering and the sixth, which are the rollout's own, agree with each other."""
    runs = tmp_path / "runs"
    body = f"""
    with __builtins__['open']({str(runs)!r}, 'a') as file:
        file.write('.')
        number = file.tell()
    op.execute(f"INSERT INTO applied VALUES ('{{'reviewed' if number < 5 else 'another'}}')")
    """
    environments.add_revision(project, "delta", "beta", body)
    (database,) = await make_databases(1)
    only = {"select": "tenant=t000"}
    async with replaying(project, pg, [database]) as running:
        made = await running.service.plan(engine.head(**only))
        view = await running.rollout(plan_digest=made.digest, **only)
        assert view.executions == {"online": 1}
        assert runs.read_text() == "......."  # and once by env.py
        (judged,) = running.of(PlanJudged)
        assert (judged.reason, judged.differs) == ("its SQL is not what the rollout's plan has shown", True)


async def test_sql_that_was_reviewed_is_replayed(project: Path, pg: Server, make_databases: MakeDatabases) -> None:
    (database,) = await make_databases(1)
    only = {"select": "tenant=t000"}
    async with replaying(project, pg, [database]) as running:
        made = await running.service.plan(engine.head(**only))
        assert (await running.rollout(plan_digest=made.digest, **only)).executions == {"replay": 1}


ADAPTER = """
import datetime
from psycopg.types.datetime import DateDumper

class Endless(DateDumper):
    def dump(self, obj):
        return b"infinity" if obj == datetime.date.max else super().dump(obj)

def adapt(connection):
    connection.connection.dbapi_connection.adapters.register_dumper(datetime.date, Endless)
"""


async def test_an_adapter_of_the_projects_own_is_noticed(
    project: Path, pg: Server, make_databases: MakeDatabases
) -> None:
    (project / "lib.py").write_text(ADAPTER)
    adapting = "connection=connection, **(__import__('lib').adapt(connection) or {})"
    change_env_py(project, "connection=connection", adapting)
    reason = await judged_online(project, pg, await make_databases(5))
    assert reason.startswith("values of type date are sent by an adapter of somebody else's")


async def test_what_a_function_leaves_in_the_session_is_noticed(
    project: Path, pg: Server, make_databases: MakeDatabases
) -> None:
    """It is there already: no text of the history tells."""
    environments.use_transaction_per_migration(project)
    environments.add_revision(project, "delta", "beta", "op.execute('UPDATE mine SET a = moves()')")
    databases = await make_databases(5)
    await engine.provision(pg, *databases)
    for database in databases:
        moves = "SELECT set_config('timezone', 'Asia/Tokyo', false)"
        function = f"CREATE FUNCTION moves() RETURNS text LANGUAGE sql AS $$ {moves} $$"
        await engine.execute(pg, database, function, "CREATE TABLE mine (a text)", "INSERT INTO mine VALUES ('')")
    reason = await judged_online(project, pg, databases)
    assert reason == "a revision leaves TimeZone = Asia/Tokyo (set for the session) in its session"


async def test_what_env_py_sets_to_what_the_first_databases_have_is_not_left_out_on_the_next(
    project: Path, pg: Server, make_databases: MakeDatabases
) -> None:
    moment = "INSERT INTO moments VALUES ('2026-01-01')"
    body = f"op.execute('CREATE TABLE moments (at timestamptz)')\nop.execute({moment!r})"
    environments.add_revision(project, "delta", "beta", body)
    env = project / "alembic" / "env.py"
    pinned = "poolclass=pool.NullPool, connect_args={'options': '-c TimeZone=UTC'}"
    env.write_text(env.read_text().replace("poolclass=pool.NullPool", pinned))
    databases = await make_databases(5)
    for number, database in enumerate(databases):
        zone = "UTC" if number < 4 else "Asia/Tokyo"
        await engine.execute(pg, database, f"ALTER DATABASE \"{database}\" SET TimeZone = '{zone}'")
    reason = await judged_online(project, pg, databases)
    assert reason == "env.py's sessions have TimeZone = UTC (set for the session), ours UTC"
    found = {str(await engine.fetch(pg, one, "SELECT at AT TIME ZONE 'UTC' FROM moments")) for one in databases}
    assert len(found) == 1
