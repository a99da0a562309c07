"""Replay on MariaDB: sent as it is shown, and where the server takes nothing back, told as env.py's failures are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
import yaml

from orchestrator.databases import mysql_replay
from orchestrator.events import MigrationRetried, PlanJudged, ReplayRefused
from orchestrator.registry.model import Target
from orchestrator.rollout.state import MigrationState, RolloutState
from tests import command, engine, environments, mariadb
from tests.daemon import Daemon
from tests.engine import until
from tests.integration.replay.conftest import TABLES
from tests.integration.replay.fleets import Fleet, ways
from tests.integration.replay.test_others import LETS, comes_to_the_same, listening
from tests.integration.replay.test_sql import sql_of
from tests.mariadb import MakeMySQLDatabases, MySQLServer

HALF = """
op.create_table("half", sa.Column("id", sa.Integer, primary_key=True))
op.execute("INSERT INTO half VALUES (1)")
op.execute("ALTER TABLE nowhere ADD COLUMN x int")
op.execute("CREATE TABLE never (id int)")
"""


@pytest.fixture
async def fleet(mysql: MySQLServer, make_mysql_databases: MakeMySQLDatabases) -> Fleet:
    return Fleet(mysql, await make_mysql_databases(2))


def write_registry(folder: Path, fleet: Fleet, config: Path, **track: object) -> None:
    assert isinstance(fleet.server, MySQLServer)
    content = {
        "tracks": {"app": {"config": str(config), "execution": "replay", **track}},
        "shards": {"maria": {"url": fleet.server.url("").rstrip("/")}},
        "tenants": [{"id": f"t{n:03}", "shard": "maria", "database": name} for n, name in enumerate(fleet.databases)],
    }
    (folder / "tenants.yaml").write_text(yaml.safe_dump(content))


@asynccontextmanager
async def logged(mysql: MySQLServer) -> AsyncIterator[list[list[str]]]:
    """At its end, the statements of each session, in order."""
    found: list[list[str]] = []
    log = "SET GLOBAL log_output = 'TABLE', GLOBAL general_log = {}"
    await mariadb.execute(mysql, "", "TRUNCATE mysql.general_log", log.format(1))
    try:
        yield found
    finally:
        await mariadb.execute(mysql, "", log.format(0))
    rows = await mariadb.fetch(
        mysql,
        "",
        "SELECT thread_id, CONVERT(argument USING utf8mb4) FROM mysql.general_log WHERE command_type = 'Query'",
    )
    sessions: dict[int, list[str]] = {}
    for thread, text in rows:
        sessions.setdefault(thread, []).append(text)
    found += sessions.values()


AWKWARD = r"""
op.execute("INSERT INTO applied VALUES ('50 % of \\\\ it''s; -- %s ? %%')")
t = sa.table("applied", sa.column("revision", sa.String(40)))
op.execute(t.insert().values(revision="it's % \\ ? \"x\" `"))
op.get_bind().execute(sa.text("UPDATE applied SET revision = :a WHERE revision LIKE '50 %%'"), {"a": "b\\s %"})
op.create_table("o`d%d \\ t", sa.Column("a b%", sa.String(9), server_default="\\ % '", comment="100 % \\ it's"))
op.execute("CREATE PROCEDURE p()\nBEGIN\n\tDECLARE m int; # it's\n\tSET m = 2;\nEND")
"""


async def test_the_server_gets_what_was_shown_and_makes_of_it_what_env_py_would(
    project: Path, fleet: Fleet, tmp_path: Path, mysql: MySQLServer
) -> None:
    environments.add_revision(project, "delta", "gamma", AWKWARD)
    write_registry(tmp_path, fleet, project / "alembic.ini")
    shown = await sql_of(tmp_path)
    async with logged(mysql) as sessions, fleet.replaying(project) as running:
        view = await running.rollout(select="tenant=t000")
        assert view.executions == {"replay": 1}, view.failures
    # What comes before is the session's own: its settings, its mark, and the proof of where it leads.
    (sent,) = [texts[texts.index(shown[0]) :] for texts in sessions if shown[0] in texts]
    assert sent == shown
    async with fleet.running(project, execution="online") as running:
        assert (await running.rollout(select="tenant=t001")).executions == {"online": 1}
    assert await fleet.content(fleet.databases[0]) == await fleet.content(fleet.databases[1])


ROWS = """t = op.create_table("t", sa.Column("id", sa.Integer, primary_key=True), sa.Column("a", sa.String(20)))
op.bulk_insert(t, [{"id": 3, "a": "it's \\ % ("}, {"id": 2, "a": "), ("}, {"id": None, "a": None}])
op.execute("INSERT INTO t (a) VALUES ('after')")
op.bulk_insert(sa.table("t", sa.column("a", sa.String(20))), [{"a": "x"}, {"a": "y"}])
op.execute("INSERT INTO t (a) VALUES (concat('first ', LAST_INSERT_ID()))")"""


async def test_rows_that_drivers_send_in_one_statement_get_the_same_numbers(tmp_path: Path, fleet: Fleet) -> None:
    environments.make_project(tmp_path / "rows")
    environments.add_revision(tmp_path / "rows", "rows", None, ROWS)
    assert await comes_to_the_same(fleet, tmp_path / "rows") == ["online", "replay"]


async def test_what_fails_half_way_is_told_as_it_is_of_env_py_and_not_tried_by_it(project: Path, fleet: Fleet) -> None:
    environments.add_revision(project, "delta", "gamma", HALF)
    told = []
    for number, execution in enumerate(("replay", "online")):
        registry = fleet.registry(project, execution=execution)
        other = Target("other", "app", "shard", "not there")
        async with engine.running(replace(registry, targets=(*registry.targets, other))) as running:
            view = await running.rollout(select=f"tenant=t00{number}")
            assert view.counts == {"failed": 1}
            migration = (await running.migrations(view))[f"t00{number}"]
            assert migration.execution == execution
            assert migration.failure is not None
            told.append(migration.failure)
            assert running.of(ReplayRefused) == []
            again = (await running.migrations(await running.rollout(select=f"tenant=t00{number}")))[f"t00{number}"]
            assert again.failure is not None
            assert (again.failure.kind, again.attempts) == ("half_applied", 1), "in the next rollout as well"
    assert told[0].message.partition("\n")[2] == told[1].message.partition("\n")[2]
    assert "The server does not take DDL back" in told[0].message
    assert "2 of its statements stay" in told[0].message
    assert "The version table still says gamma" in told[0].message
    assert replace(told[0], message="") == replace(told[1], message="")
    assert "nowhere' doesn't exist" in told[0].message.splitlines()[0]
    for database in fleet.databases:
        assert await fleet.heads(database) == ["gamma"]
        assert {"half", "never"} & await fleet.tables(database) == {"half"}


async def test_data_that_is_rolled_back_is_given_to_env_py(project: Path, fleet: Fleet) -> None:
    body = "op.execute(\"INSERT INTO applied VALUES ('delta')\")\nop.execute('INSERT INTO nowhere VALUES (1)')"
    environments.add_revision(project, "delta", "gamma", body)
    async with fleet.replaying(project) as running:
        view = await running.rollout(select="tenant=t000")
        failure = (await running.migrations(view))["t000"].failure
        assert failure is not None
        assert (failure.kind, failure.code, failure.revision) == ("failed", "1146", "delta")
        assert len(running.of(ReplayRefused)) == 1
    rows = await fleet.fetch(fleet.databases[0], "SELECT revision FROM applied ORDER BY 1")
    assert [row[0] for row in rows] == TABLES


async def test_what_an_engine_without_transactions_keeps_is_not_done_twice(project: Path, fleet: Fleet) -> None:
    environments.add_revision(
        project, "kept", "gamma", "op.create_table('kept', sa.Column('a', sa.Integer), mysql_engine='MyISAM')"
    )
    long = "op.execute(\"INSERT INTO applied VALUES ('delta is longer than forty characters, and refused')\")"
    environments.add_revision(project, "delta", "kept", f"op.execute('INSERT INTO kept VALUES (1)')\n{long}")
    listening(project, "lets_long", LETS["mysql"])
    async with fleet.replaying(project) as running:
        view = await running.rollout(select="tenant=t000")
        failure = (await running.migrations(view))["t000"].failure
        assert failure is not None
        assert (failure.kind, failure.revision) == ("half_applied", "delta")
        assert "1 of its statements stay (INSERT INTO kept VALUES (1))" in failure.message
        assert running.of(ReplayRefused) == []
    assert await fleet.fetch(fleet.databases[0], "SELECT a FROM kept") == [(1,)]


LOSES = """from pymysql import cursors
from pymysql.err import OperationalError
sent = cursors.Cursor.execute
def execute(self, query, *arguments):
    found = sent(self, query, *arguments)
    if query == {sql!r}:
        raise OperationalError(2013, "Lost connection to MySQL server during query")
    return found
cursors.Cursor.execute = execute"""


@pytest.mark.parametrize("execution", ["replay", "online"])
async def test_ddl_whose_end_is_not_known_is_not_sent_again(
    execution: str, project: Path, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has done it, and the network loses the answer."""
    sql = "ALTER TABLE alpha ADD INDEX (id)"
    environments.add_revision(project, "delta", "gamma", f"op.execute({sql!r})")
    if execution == "online":
        listening(project, "loses", "pass")
        (project / "loses.py").write_text(LOSES.format(sql=sql))
    send = mysql_replay._Sending._send

    async def unanswered(self: Any, one: Any) -> None:
        await send(self, one)
        if one.text == sql:
            raise self._explained(one, EOFError())

    monkeypatch.setattr(mysql_replay._Sending, "_send", unanswered)
    registry = fleet.registry(project, execution=execution, isolation="process")
    other = Target("other", "app", "shard", "not there")
    async with engine.running(replace(registry, targets=(*registry.targets, other))) as running:
        view = await running.rollout(select="tenant=t000")
        migration = (await running.migrations(view))["t000"]
        assert migration.failure is not None
        assert (migration.failure.kind, migration.execution) == ("half_applied", execution)
        assert f"1 of its statements stay (perhaps {sql})" in migration.failure.message
    assert len(await fleet.fetch(fleet.databases[0], "SHOW INDEX FROM alpha WHERE Key_name <> 'PRIMARY'")) == 1


async def sleeping(fleet: Fleet) -> list[int]:
    assert isinstance(fleet.server, MySQLServer)
    return [row[0] for row in await mariadb.sessions_on(fleet.server, fleet.databases) if "SLEEP" in str(row[3])]


async def some_sleep(fleet: Fleet) -> bool:
    return bool(await sleeping(fleet))


async def test_a_replay_that_is_cancelled_ends_on_the_server(project: Path, fleet: Fleet) -> None:
    environments.add_revision(project, "delta", "gamma", "op.execute('SELECT SLEEP(600)')")
    with anyio.fail_after(60):
        async with fleet.replaying(project) as running:
            await running.service.start_rollout(engine.head(select="tenant=t000"))
            await until(lambda: some_sleep(fleet))
            running.service._tasks.cancel_scope.cancel()
    assert await sleeping(fleet) == []
    assert await fleet.heads(fleet.databases[0]) == ["gamma"]


@pytest.mark.parametrize("whose", ["its own", "the guard's"])
async def test_a_session_that_is_ended_where_nothing_stays_is_taken_up_again(
    whose: str, project: Path, fleet: Fleet, mysql: MySQLServer
) -> None:
    environments.add_revision(project, "delta", "gamma", "op.execute('SELECT SLEEP(3)')")
    async with fleet.replaying(project) as running:
        view, _ = await running.service.start_rollout(engine.head(select="tenant=t000"))
        await until(lambda: some_sleep(fleet))
        (ours,) = await sleeping(fleet)
        others = [row[0] for row in await mariadb.sessions_on(mysql, fleet.databases) if row[0] != ours]
        for session in [ours] if whose == "its own" else others:
            await mariadb.execute(mysql, "", f"KILL {session}")
        await until(lambda: bool(running.of(MigrationRetried)))
        assert ours not in await sleeping(fleet)
        await running.service.finished(view.rollout.id)
        after = await running.service.rollout(view.rollout.id)
        assert after.counts == {"succeeded": 1}, after.failures
    assert await fleet.heads(fleet.databases[0]) == ["delta"]


@pytest.mark.parametrize("whose", ["its own", "the guard's"])
async def test_a_session_that_is_ended_where_something_stays_is_looked_at_by_a_person(
    whose: str, project: Path, fleet: Fleet, mysql: MySQLServer
) -> None:
    body = "op.create_table('half', sa.Column('id', sa.Integer))\nop.execute('SELECT SLEEP(5)')"
    environments.add_revision(project, "delta", "gamma", body)
    async with fleet.replaying(project) as running:
        view, _ = await running.service.start_rollout(engine.head(select="tenant=t000"))
        await until(lambda: some_sleep(fleet))
        (ours,) = await sleeping(fleet)
        others = [row[0] for row in await mariadb.sessions_on(mysql, fleet.databases) if row[0] != ours]
        for session in [ours] if whose == "its own" else others:
            await mariadb.execute(mysql, "", f"KILL {session}")
        await running.service.finished(view.rollout.id)
        migration = (await running.migrations(view))["t000"]
        assert migration.failure is not None
        assert (migration.failure.kind, migration.failure.revision, migration.attempts) == ("half_applied", "delta", 1)
        assert "1 of its statements stay (CREATE TABLE half ( id INTEGER ))" in migration.failure.message


@pytest.mark.parametrize("execution", ["replay", "online"])
async def test_killed_in_the_middle_it_is_ended_and_looked_at_by_a_person(
    execution: str, project: Path, fleet: Fleet, tmp_path: Path
) -> None:
    body = (
        "op.create_table('half', sa.Column('id', sa.Integer))\n"
        "op.execute('UPDATE gate SET n = n + SLEEP(n * 600)')\nop.execute('DROP TABLE half')"
    )
    environments.add_revision(project, "delta", "gamma", body)
    write_registry(tmp_path, fleet, project / "alembic.ini", execution=execution)
    only, database = {"select": "tenant=t000"}, fleet.databases[0]
    daemon = Daemon(tmp_path / "tenants.yaml", f"sqlite:///{tmp_path}/store.db")
    await daemon.start()
    first = (await daemon.post_rollout(to="gamma", **only)).json()
    assert (await daemon.ended(first["id"]))["state"] == "succeeded"
    await fleet.execute(database, "CREATE TABLE gate (n int)", "INSERT INTO gate VALUES (1)")
    rollout = (await daemon.post_rollout(**only)).json()
    await until(lambda: some_sleep(fleet))
    daemon.kill()
    async with daemon:
        failed = await daemon.ended(rollout["id"])
        assert await sleeping(fleet) == [], "what was left behind was ended"
        (told,) = failed["failures"]
        assert (told["count"], "half_applied" in str(told)) == (1, True)
        assert "the process that migrated it ended in the middle" in str(told)
        await fleet.execute(database, "DROP TABLE half", "UPDATE gate SET n = 0")
        assert (await daemon.call("POST", f"/api/v1/rollouts/{rollout['id']}/retry")).status_code == 200
        assert (await daemon.ended(rollout["id"]))["state"] == "succeeded"
    assert await fleet.heads(database) == ["delta"]
    assert "half" not in await fleet.tables(database)


async def test_a_migration_that_was_replayed_when_the_daemon_died_is_taken_up_when_a_person_says_so(
    project: Path, fleet: Fleet, tmp_path: Path
) -> None:
    environments.add_revision(project, "delta", "gamma", "op.execute(\"INSERT INTO applied VALUES ('delta')\")")
    store = f"sqlite:///{tmp_path}/store.db"
    registry = fleet.registry(project, execution="replay")
    async with engine.running(registry, store_url=store) as running:
        await running.rollout("gamma")
        rollout = (await running.service.start_rollout(engine.head()))[0].rollout
        await running.service.finished(rollout.id)
        migrations = await running.service.migrations(rollout.id)
        assert {migration.execution for migration in migrations} == {"replay"}
        left = [replace(migrations[0], state=MigrationState.RUNNING), migrations[1]]
        await fleet.execute(fleet.databases[0], "UPDATE alembic_version SET version_num = 'gamma'")
        await fleet.execute(fleet.databases[0], "DELETE FROM applied WHERE revision = 'delta'")
        opened = replace(rollout, state=RolloutState.RUNNING, finished_at=None)
        await running.parts.store.ledger.reopen(opened, left)
    async with engine.running(registry, store_url=store) as running:
        await running.service.resume_active()
        await running.service.finished(rollout.id)
        failed = (await running.service.migrations(rollout.id))[0]
        assert failed.failure is not None
        assert failed.failure.kind == "half_applied"
        await running.service.retry(rollout.id, by="a person")
        await running.service.finished(rollout.id)
        migration = (await running.service.migrations(rollout.id))[0]
        assert (migration.state, migration.execution) == (MigrationState.SUCCEEDED, "replay")


async def test_a_lock_held_by_somebody_else_is_waited_for_in_turns_and_its_holder_named(
    project: Path, fleet: Fleet, mysql: MySQLServer
) -> None:
    environments.add_revision(project, "delta", "gamma", "op.execute('ALTER TABLE alpha ADD b int')")
    database = fleet.databases[0]
    async with fleet.replaying(project) as running:
        await running.rollout("gamma", select="tenant=t000")
        async with mariadb.session(mysql, database) as human, human.cursor() as cursor:
            await cursor.execute("SELECT * FROM alpha")
            view, _ = await running.service.start_rollout(engine.head(select="tenant=t000"))
            await until(lambda: len(running.of(MigrationRetried)) > 0)
            retried = running.of(MigrationRetried)[0]
            assert retried.reason == "contention"
            assert "Lock wait timeout" in retried.message
            assert f"held by connection {human.thread_id()} (" in retried.message
            await human.rollback()
        await running.service.finished(view.rollout.id)
        assert ways(running)["t000"] == "replay"
        assert running.of(ReplayRefused) == []


async def test_a_statement_that_takes_too_long_would_do_so_again(project: Path, fleet: Fleet) -> None:
    environments.add_revision(project, "delta", "gamma", "op.execute('UPDATE applied SET revision = SLEEP(600)')")
    async with fleet.replaying(project, {"statement_timeout_seconds": 1}) as running:
        view = await running.rollout(select="tenant=t000")
        migration = (await running.migrations(view))["t000"]
        assert migration.failure is not None
        assert (migration.failure.code, migration.failure.revision, migration.attempts) == ("1969", "delta", 1)
        assert running.of(ReplayRefused) == []
    assert await fleet.heads(fleet.databases[0]) == ["gamma"]


@pytest.mark.parametrize("mode", ["NO_BACKSLASH_ESCAPES", "ANSI_QUOTES"])
async def test_a_server_that_reads_quotes_otherwise_is_left_to_env_py(
    mode: str, project: Path, tmp_path: Path, mysql: MySQLServer, make_mysql_databases: MakeMySQLDatabases
) -> None:
    fleet = Fleet(mysql, await make_mysql_databases(2))
    ((before,),) = await mariadb.fetch(mysql, "", "SELECT @@GLOBAL.sql_mode")
    await mariadb.execute(mysql, "", f"SET GLOBAL sql_mode = '{before},{mode}'")
    try:
        async with fleet.replaying(project) as running:
            assert (await running.rollout(select="tenant=t000")).executions == {"online": 1}
        write_registry(tmp_path, fleet, project / "alembic.ini")
        done = await command.run("plan", "--select", "tenant=t001", cwd=tmp_path)
        said = " ".join(done.out.split())
        assert mode in said, said
        assert "in which quotes are read otherwise" in said
    finally:
        await mariadb.execute(mysql, "", f"SET GLOBAL sql_mode = '{before}'")


@pytest.mark.parametrize("scheme", ["mysql", "mariadb"])
async def test_sql_that_hangs_on_the_server_is_rendered_for_the_server(
    scheme: str, project: Path, mysql: MySQLServer, make_mysql_databases: MakeMySQLDatabases
) -> None:
    body = """
    op.create_table("d", sa.Column("a", sa.String(40), server_default=sa.func.uuid()), sa.Column("u", sa.Uuid()),
        sa.Column("offset", sa.Integer), sa.Column("rank", sa.Integer),
        sa.Column("at", sa.DateTime, server_default=sa.func.now()))
    op.create_check_constraint("ck", "d", "a <> 'x'")
    op.drop_constraint("ck", "d", type_="check")
    """
    environments.add_revision(project, "delta", "gamma", body)
    fleet = Fleet(mysql, await make_mysql_databases(5), scheme)
    async with fleet.running(project) as running:
        view = await running.rollout()
        assert view.executions == {"online": 2, "replay": 3}, view.failures
        assert [one.reason for one in running.of(PlanJudged)] == [None]


@pytest.mark.parametrize("template", ["generic", "async"])
async def test_a_driver_that_sets_up_its_session_otherwise_is_found_out(
    template: environments.Template, tmp_path: Path, mysql: MySQLServer, make_mysql_databases: MakeMySQLDatabases
) -> None:
    project = tmp_path / "other"
    environments.make_project(project, template)
    environments.add_tables(project, TABLES)
    env = project / "alembic" / "env.py"
    options: dict[str, Any] = {"init_command": "SET time_zone = '+05:00'"}
    pool = "poolclass=pool.NullPool"
    assert pool in env.read_text()
    fleet = Fleet(mysql, await make_mysql_databases(5))
    async with fleet.running(project) as running:
        assert (await running.rollout("alpha")).executions == {"online": 2, "replay": 3}
    env.write_text(env.read_text().replace(pool, f"{pool}, connect_args={options!r}"))
    async with fleet.running(project) as running:
        assert (await running.rollout()).executions == {"online": 5}
        assert "env.py's sessions have time_zone = +05:00, ours " in running.of(PlanJudged)[0].reason
