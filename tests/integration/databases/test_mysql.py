"""The lock of a target on MariaDB, and what its sessions are told and must prove."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from asyncmy.connection import Connection
from sqlalchemy.engine import URL, make_url

from orchestrator.databases import mysql_connecting, mysql_sessions
from orchestrator.databases.base import Limits, Place
from orchestrator.databases.mysql import MySQL
from orchestrator.databases.mysql_connecting import ask, connected
from orchestrator.databases.quoting import backquoted
from orchestrator.databases.watching import lost
from orchestrator.errors import TargetLockedError, TargetUnreachableError, WrongDatabaseError
from orchestrator.registry.model import Target
from orchestrator.sessions import SessionRules
from tests import mariadb
from tests.command import environ
from tests.engine import until
from tests.mariadb import MakeMySQLDatabases, MySQLServer
from tests.processes import frozen

ODD_NAMES = ["Capital Case", "it's", "back`quote", 'double"quote', "per%cent %s", "ünï", "x" * 64]


def _place(mysql: MySQLServer, database: str, **limits: float) -> Place:
    url = make_url(mysql.url("x")).set(database=database)
    return Place(Target("acme", "app", "maria", database), url, Limits(**limits))


async def _migrating(rules: SessionRules, connection: Any) -> tuple[Any, ...]:
    """Do as `history.session` does on each connection of env.py."""
    for statement in rules.setup:
        await ask(connection, statement)
    (row,) = await ask(connection, rules.query)
    return row


@pytest.fixture
async def database(make_mysql_databases: MakeMySQLDatabases) -> str:
    (name,) = await make_mysql_databases(1)
    return name


async def test_two_guards_of_one_target_exclude_each_other_and_two_of_one_database_do_not(
    mysql: MySQLServer, database: str
) -> None:
    place = _place(mysql, database, lock_wait=0.2)
    other = Place(Target("acme", "other", "maria", database, version_table="other"), place.url, place.limits)
    async with MySQL().guard(place):
        with pytest.raises(TargetLockedError, match=r"connection \d+ \(orchestrator@127.0.0.1, Sleep for") as told:
            async with MySQL().guard(place):
                pass
        assert not told.value.retriable
        async with MySQL().guard(other):
            pass
    async with MySQL().guard(place):
        pass


async def test_the_lock_is_had_as_soon_as_its_holder_lets_go(mysql: MySQLServer, database: str) -> None:
    place = _place(mysql, database)
    entered = anyio.Event()

    async def wait() -> None:
        async with MySQL().guard(place):
            entered.set()

    async with anyio.create_task_group() as tasks:
        async with MySQL().guard(place):
            tasks.start_soon(wait)
            await anyio.sleep(0.2)
            assert not entered.is_set()
        with anyio.fail_after(60):
            await entered.wait()


async def test_a_killed_client_lets_go_of_the_lock(mysql: MySQLServer, database: str) -> None:
    place = _place(mysql, database)
    program = (
        "import sys, anyio\nfrom tests.integration.databases.test_mysql import _place, MySQL, MySQLServer\n"
        "async def main():\n    async with MySQL().guard(_place(MySQLServer(sys.argv[1]), sys.argv[2])):\n"
        "        print('held', flush=True)\n        await anyio.sleep(60)\nanyio.run(main)"
    )
    command = [sys.executable, "-c", program, mysql.dsn, database]
    async with await anyio.open_process(command, stderr=None, env=environ()) as process:
        assert process.stdout is not None
        assert (await process.stdout.receive()).strip() == b"held"
        with pytest.raises(TargetLockedError):
            async with MySQL().guard(_place(mysql, database, lock_wait=0.0)):
                pass
        process.kill()
    async with MySQL().guard(place):
        pass


async def test_a_guard_that_was_ended_is_lost(mysql: MySQLServer, database: str) -> None:
    async with MySQL().guard(_place(mysql, database)) as guard:
        assert await guard.blockers([]) is None
        (holder,) = await mariadb.sessions_on(mysql, [database])
        await mariadb.execute(mysql, "", f"KILL {holder[0]}")
        with pytest.raises(TargetUnreachableError) as told:
            await guard.blockers([])
        assert guard.lost.is_set()
        assert told.value.retriable
        with pytest.raises(TargetUnreachableError, match="held the lock was lost"):
            await guard.heads()


async def test_a_guard_that_is_ended_while_it_asks_is_lost_at_once(mysql: MySQLServer, database: str) -> None:
    place = _place(mysql, database)
    async with (
        MySQL().guard(place) as guard,
        mariadb.session(mysql, database) as holder,
        anyio.create_task_group() as tasks,
    ):
        await mariadb.execute(mysql, database, "CREATE TABLE alembic_version (version_num varchar(32))")
        await ask(holder, "LOCK TABLES alembic_version WRITE")

        async def read() -> None:
            with pytest.raises(TargetUnreachableError):
                await guard.heads()

        tasks.start_soon(read)
        waiting = "SELECT ID FROM information_schema.PROCESSLIST WHERE STATE LIKE 'Waiting for %lock'"
        found: list[tuple[Any, ...]] = []

        async def waits() -> bool:
            found.extend(await mariadb.fetch(mysql, "", waiting))
            return bool(found)

        await until(waits)
        await mariadb.execute(mysql, "", f"KILL {found[0][0]}")
        with anyio.fail_after(60):
            await guard.lost.wait()


@pytest.mark.skipif("TEST_MYSQL_DSN" in os.environ, reason="it stops the server")
async def test_a_frozen_server_does_not_hold_the_guard_for_ever(mysql: MySQLServer, database: str) -> None:
    async with MySQL().guard(_place(mysql, database, connect=0.5)) as guard:
        ((file,),) = await mariadb.fetch(mysql, "", "SELECT @@pid_file")
        server = int(await anyio.Path(file).read_text())
        with frozen(server):
            with anyio.fail_after(60), pytest.raises(TargetUnreachableError, match=r"no answer within 0.5 s"):
                await guard.blockers([])
            assert guard.lost.is_set(), "the driver gave the session up, and so the lock"
            with anyio.fail_after(60), pytest.raises(TargetUnreachableError):
                await MySQL().read_heads(_place(mysql, database, connect=0.5))


async def test_an_idle_limit_of_the_server_does_not_end_the_guard(mysql: MySQLServer, database: str) -> None:
    async with connected(_place(mysql, database), "test") as connection:
        ((before,),) = await ask(connection, "SELECT @@global.wait_timeout")
        await ask(connection, "SET GLOBAL wait_timeout = 1")
        try:
            async with MySQL().guard(_place(mysql, database)) as guard:
                await anyio.sleep(1.5)
                assert await guard.heads() is None
        finally:
            await ask(connection, f"SET GLOBAL wait_timeout = {before}")


async def test_a_session_must_prove_where_it_is_and_that_the_lock_is_held(
    mysql: MySQLServer, database: str, make_mysql_databases: MakeMySQLDatabases
) -> None:
    (elsewhere,) = await make_mysql_databases(1)
    place = _place(mysql, database)
    async with connected(place, "one") as one, connected(_place(mysql, elsewhere), "two") as two:
        async with MySQL().guard(place) as guard:
            rules = guard.rules
            row = await _migrating(rules, one)
            assert rules.mismatch(row) is None
            assert row[-1] == one.thread_id()
            assert rules.mismatch(await _migrating(rules, two)) == f"database {elsewhere!r}"
            settings = "@@lock_wait_timeout, @@innodb_lock_wait_timeout, @@wait_timeout, @@max_statement_time"
            assert await ask(one, f"SELECT {settings}") == [(2, 2, 28800, 3600.0)]
        assert "lock is no longer held" in str(rules.mismatch(await _migrating(rules, one)))


async def test_what_a_killed_run_left_working_is_ended_before_anything_starts(
    mysql: MySQLServer, database: str
) -> None:
    place = _place(mysql, database)
    other = Place(Target("acme", "other", "maria", database, version_table="other"), place.url, place.limits)
    async with connected(place, "orphan") as orphan, connected(other, "of another") as unrelated:
        async with MySQL().guard(place) as guard:
            await _migrating(guard.rules, orphan)
        async with MySQL().guard(other) as guard:
            await _migrating(guard.rules, unrelated)
            async with anyio.create_task_group() as tasks:

                async def sleep() -> None:
                    with pytest.raises(Exception, match=r"Lost connection|killed|gone away"):
                        await ask(orphan, "SELECT SLEEP(600)")

                tasks.start_soon(sleep)
                await until(lambda: _is_at_work(mysql, database))
                async with MySQL().guard(place):
                    assert not await _is_at_work(mysql, database)
            assert await ask(unrelated, "SELECT 1") == [(1,)]


async def _is_at_work(mysql: MySQLServer, database: str) -> bool:
    return any(str(row[3]).startswith("SELECT SLEEP") for row in await mariadb.sessions_on(mysql, [database]))


async def test_a_connection_of_a_pool_is_no_longer_known_for_the_target_it_served_before(
    mysql: MySQLServer, database: str
) -> None:
    place = _place(mysql, database)
    other = Place(Target("acme", "other", "maria", database, version_table="other"), place.url, place.limits)
    async with connected(place, "pooled") as pooled:
        async with MySQL().guard(place) as guard:
            await _migrating(guard.rules, pooled)
        async with MySQL().guard(other) as guard:
            await _migrating(guard.rules, pooled)
            async with MySQL().guard(place):
                assert await ask(pooled, "SELECT 1") == [(1,)]


async def test_more_connections_than_can_be_ended_later_are_refused(mysql: MySQLServer, database: str) -> None:
    place = _place(mysql, database)
    async with anyio.create_task_group() as tasks, MySQL().guard(place) as guard:
        done = anyio.Event()
        seen: list[str | None] = []

        async def one() -> None:
            async with connected(place, "many") as connection:
                seen.append(guard.rules.mismatch(await _migrating(guard.rules, connection)))
                await done.wait()

        for number in range(mysql_sessions.MARKS + 1):
            tasks.start_soon(one)
            await until(lambda number=number: len(seen) > number)  # type: ignore[misc]
        done.set()
    assert seen[:-1] == [None] * mysql_sessions.MARKS
    assert seen[-1] is not None


async def test_backends_are_ended_without_the_guards_own_session_and_no_others(
    mysql: MySQLServer, database: str
) -> None:
    place = _place(mysql, database)
    async with (
        connected(place, "migrates") as migrates,
        connected(place, "application") as application,
        MySQL().guard(place) as guard,
    ):
        await _migrating(guard.rules, migrates)
        await guard.end_backends([migrates.thread_id(), application.thread_id()])
        left = [row[0] for row in await mariadb.sessions_on(mysql, [database])]
        assert migrates.thread_id() not in left
        assert application.thread_id() in left


@pytest.mark.parametrize(
    ("locking", "waiting", "releasing"),
    [
        ("SELECT * FROM t", "ALTER TABLE t ADD COLUMN x int", "COMMIT"),
        ("SELECT * FROM t FOR UPDATE", "UPDATE t SET id = 2", "COMMIT"),
        ("LOCK TABLES t WRITE", "SELECT * FROM t", "UNLOCK TABLES"),
    ],
)
async def test_who_keeps_a_migration_waiting_is_told(
    locking: str, waiting: str, releasing: str, mysql: MySQLServer, database: str
) -> None:
    place = _place(mysql, database, lock_timeout=60)
    await mariadb.execute(mysql, database, "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    async with mariadb.session(mysql, database) as holder, connected(place, "migrates") as migrates:
        await ask(holder, locking)
        async with MySQL().guard(place) as guard, anyio.create_task_group() as tasks:
            number = (await _migrating(guard.rules, migrates))[-1]
            tasks.start_soon(ask, migrates, waiting)
            found: list[str] = []

            async def told() -> bool:
                # InnoDB's tables of locks are a copy, made anew only when nobody has read it for a tenth of a second.
                await anyio.sleep(0.3)
                found.append(await guard.blockers([number]) or "")
                return f"connection {holder.thread_id()} (orchestrator@" in found[-1]

            await until(told)
            await ask(holder, releasing)


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_odd_names_are_taken_as_they_are(name: str, mysql: MySQLServer) -> None:
    await mariadb.create_databases(mysql, [name])
    try:
        target = Target("acme", "app", "maria", name, version_table=f"{name[:60]} v")
        place = Place(target, make_url(mysql.url("x")).set(database=name), Limits())
        table = backquoted(target.version_table)
        async with MySQL().guard(place) as guard, connected(place, "migrates") as migrates:
            assert guard.rules.mismatch(await _migrating(guard.rules, migrates)) is None
            assert await guard.heads() is None
            await ask(migrates, f"CREATE TABLE {table} (version_num varchar(32))")
            await ask(migrates, f"INSERT INTO {table} VALUES ('b'), ('a')")
            await ask(migrates, f"CREATE VIEW v AS SELECT * FROM {table}")
            assert await guard.heads() == await MySQL().read_heads(place) == ("a", "b")
            assert set(await guard.tables()) == {target.version_table, "v"}
    finally:
        await mariadb.drop_databases(mysql, [name])


async def test_a_version_table_in_another_database_is_read_there(
    mysql: MySQLServer, database: str, make_mysql_databases: MakeMySQLDatabases
) -> None:
    (versions,) = await make_mysql_databases(1)
    target = Target("acme", "app", "maria", database, version_table_schema=versions)
    place = Place(target, _place(mysql, database).url, Limits())
    assert await MySQL().read_heads(place) is None
    await mariadb.execute(
        mysql,
        versions,
        "CREATE TABLE alembic_version (version_num varchar(32))",
        "INSERT INTO alembic_version VALUES ('a')",
    )
    assert await MySQL().read_heads(place) == ("a",)


async def _guarded_heads(place: Place) -> object:
    async with MySQL().guard(place) as guard:
        return await guard.heads()


@pytest.mark.parametrize("during", ["read", "guard"])
async def test_a_locked_version_table_is_told(during: str, mysql: MySQLServer, database: str) -> None:
    place = _place(mysql, database, lock_timeout=0.2)
    await mariadb.execute(mysql, database, "CREATE TABLE alembic_version (version_num varchar(32))")
    async with mariadb.session(mysql, database) as holder:
        await ask(holder, "LOCK TABLES alembic_version WRITE")
        read = MySQL().read_heads if during == "read" else _guarded_heads
        with anyio.fail_after(60), pytest.raises(TargetLockedError, match=r"version table of .* is locked") as told:
            await read(place)
    assert (told.value.code, told.value.retriable) == ("1205", True)


@pytest.mark.parametrize(
    ("change", "kind", "code", "remedy", "retriable"),
    [
        ({"password": "wrong"}, "authentication", "1045", "user and password", False),
        ({"database": "nobody's `database`"}, "missing_database", "1049", "create the database", False),
        ({"port": 1}, "unreachable", "2003", "host and port", True),
        ({"host": "db..internal"}, "unreachable", None, "host", False),
        ({"query": {"ssl_ca": "/nowhere/ca.pem"}}, "configuration", None, "files that it names", False),
        ({"query": {"compresss": "1"}}, "configuration", None, "options", False),
    ],
)
async def test_what_is_wrong_with_a_connection_is_told_with_what_to_do(
    change: dict[str, Any], kind: str, code: str | None, remedy: str, retriable: bool, mysql: MySQLServer, database: str
) -> None:
    place = _place(mysql, database)
    url: URL = place.url.set(**change)
    with pytest.raises(TargetUnreachableError) as told:
        await MySQL().read_heads(Place(place.target, url, place.limits))
    assert (told.value.kind, told.value.code, told.value.retriable) == (kind, code, retriable)
    assert remedy in str(told.value.remedy)
    assert str(place.url.password) not in told.value.message


@pytest.fixture
async def plain(mysql: MySQLServer) -> AsyncIterator[dict[str, Any]]:
    """Name and password of a user without any privilege."""
    name, password = f"plain_{secrets.token_hex(3)}", secrets.token_urlsafe(12)
    await mariadb.execute(mysql, "", f"CREATE USER {name}@'%' IDENTIFIED BY '{password}'")
    yield {"username": name, "password": password}
    await mariadb.execute(mysql, "", f"DROP USER {name}@'%'")


async def _plainly(mysql: MySQLServer, given: Place, plain: dict[str, Any]) -> Place:
    """The place, for a user who may do all in its database and nothing else."""
    name = backquoted(given.target.database)
    await mariadb.execute(mysql, "", f"GRANT ALL ON {name}.* TO {plain['username']}@'%'")
    return Place(given.target, given.url.set(**plain), given.limits)


async def test_a_user_who_may_not_use_the_database_is_told(
    mysql: MySQLServer, database: str, plain: dict[str, Any]
) -> None:
    place = _place(mysql, database)
    with pytest.raises(TargetUnreachableError, match="Access denied") as told:
        await MySQL().read_heads(Place(place.target, place.url.set(**plain), place.limits))
    assert (told.value.kind, told.value.code) == ("permission", "1044")


async def test_a_user_without_any_privilege_beyond_its_database_can_guard_and_clean_up(
    mysql: MySQLServer, database: str, plain: dict[str, Any]
) -> None:
    given = _place(mysql, database, lock_wait=0.2)
    place = await _plainly(mysql, given, plain)
    await mariadb.execute(mysql, database, "CREATE TABLE t (id int)")
    async with connected(place, "orphan") as orphan, connected(given, "of an administrator") as privileged:
        async with MySQL().guard(place) as guard:
            await _migrating(guard.rules, orphan)
            assert await guard.blockers([orphan.thread_id()]) is None
        async with MySQL().guard(place):
            left = [row[0] for row in await mariadb.sessions_on(mysql, [database])]
            assert orphan.thread_id() not in left
        async with MySQL().guard(given) as guard:
            await _migrating(guard.rules, privileged)
            with pytest.raises(TargetLockedError, match=r"of a user whose sessions we may not see"):
                async with MySQL().guard(place):
                    pass


async def test_nothing_starts_beside_a_leftover_that_may_not_be_ended(
    mysql: MySQLServer, database: str, plain: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mysql_sessions, "CLEANUP_SECONDS", 0.3)
    given = _place(mysql, database)
    place = await _plainly(mysql, given, plain)
    async with connected(given, "of an administrator") as orphan:
        async with MySQL().guard(given) as guard:
            await _migrating(guard.rules, orphan)
        with pytest.raises(TargetLockedError, match=rf"do not end: connections {orphan.thread_id()}") as told:
            async with MySQL().guard(place):
                pass
        assert told.value.retriable


async def test_a_proxy_is_refused(mysql: MySQLServer, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One greets with a number of its own."""
    monkeypatch.setattr(Connection, "thread_id", lambda self: 1)
    with pytest.raises(WrongDatabaseError, match="goes through a proxy") as told:
        async with MySQL().guard(_place(mysql, database)):
            pass
    assert "`direct_url`" in str(told.value.remedy)


async def test_a_way_that_leads_to_another_database_is_refused(
    mysql: MySQLServer, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a proxy may do that takes the database from elsewhere."""
    place = _place(mysql, database)
    wrong = Place(place.target, place.url.set(database="mysql"), place.limits)
    monkeypatch.setattr("orchestrator.databases.mysql.connected", lambda given, name: connected(wrong, name))
    with pytest.raises(WrongDatabaseError, match="leads to database 'mysql'"):
        async with MySQL().guard(place):
            pass


async def test_a_guard_that_says_nothing_for_long_is_kept_by_asking(
    mysql: MySQLServer, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that thinks for longer than the server keeps a silent session must not lose its lock."""
    monkeypatch.setattr(mysql_connecting, "_SILENT_SECONDS", 2)
    place = _place(mysql, database)
    async with MySQL().guard(place) as guard:
        with anyio.move_on_after(4):
            await lost(guard, [])
        assert not guard.lost.is_set()
        assert await guard.heads() is None
        with pytest.raises(TargetLockedError):
            async with MySQL().guard(_place(mysql, database, lock_wait=0.1)):
                pass
