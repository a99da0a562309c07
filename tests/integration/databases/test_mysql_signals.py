"""What a MariaDB server tells of its load, and what it hides."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import anyio
import pytest
from sqlalchemy.engine import make_url

from orchestrator.databases import mysql_signals, signals
from orchestrator.databases.base import Limits, Place
from orchestrator.databases.mysql_signals import MySQLSignals
from orchestrator.errors import TargetUnreachableError
from orchestrator.registry.model import Target
from tests import mariadb
from tests.engine import until
from tests.mariadb import MakeMySQLDatabases, MySQLServer

ALL = (signals.THREADS, signals.REPLICAS, signals.HISTORY, signals.BLOCKED)


def place(server: MySQLServer, database: str, user: tuple[str, str] | None = None) -> Place:
    url = make_url(server.url(database))
    if user is not None:
        url = url.set(username=user[0], password=user[1])
    return Place(Target("acme", "app", "maria", database), url, Limits())


@pytest.fixture
async def plain(mysql: MySQLServer) -> AsyncIterator[tuple[str, str]]:
    """Name and password of an account that may use tenants' databases and nothing more."""
    name, password = f"plain_{secrets.token_hex(3)}", secrets.token_hex(8)
    await mariadb.execute(
        mysql, "", f"CREATE USER {name} IDENTIFIED BY '{password}'", f"GRANT ALL ON `tenant%`.* TO {name}"
    )
    yield name, password
    await mariadb.execute(mysql, "", f"DROP USER {name}")


async def one(session: MySQLSignals, signal: str) -> float:
    (reading,) = await session.read([signal], ())
    assert reading.value is not None, reading
    return reading.value


async def test_all_signals_are_told_to_an_account_without_privileges(
    mysql: MySQLServer, make_mysql_databases: MakeMySQLDatabases, plain: tuple[str, str]
) -> None:
    [database] = await make_mysql_databases(1)
    async with mysql_signals.opened(place(mysql, database, plain)) as session:
        readings = {reading.signal: reading for reading in await session.read([*ALL, "weather"], ())}
    assert readings.pop("weather").value is None
    assert sorted(readings) == sorted(ALL)
    assert all(reading.value is not None for reading in readings.values()), readings
    assert readings[signals.REPLICAS].value == 0


async def test_threads_that_work_wait_and_leave_old_rows_are_counted(
    mysql: MySQLServer, make_mysql_databases: MakeMySQLDatabases
) -> None:
    [database] = await make_mysql_databases(1)
    await mariadb.execute(mysql, database, "CREATE TABLE t (id int PRIMARY KEY, n int)", "INSERT INTO t VALUES (1, 0)")
    async with (
        mysql_signals.opened(place(mysql, database)) as session,
        mariadb.session(mysql, database) as holder,
        mariadb.session(mysql, database) as reader,
        mariadb.session(mysql, database) as waiting,
    ):
        before, history = await one(session, signals.THREADS), await one(session, signals.HISTORY)
        async with reader.cursor() as snapshot, holder.cursor() as cursor, waiting.cursor() as other:
            await snapshot.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
            for number in range(30):
                await mariadb.execute(mysql, database, f"UPDATE t SET n = {number}")

            async def long() -> bool:
                return await one(session, signals.HISTORY) > history + 20

            await until(long)
            await cursor.execute("UPDATE t SET n = -1")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(other.execute, "UPDATE t SET n = -2")

                async def waits() -> bool:
                    return await one(session, signals.BLOCKED) == 1 and await one(session, signals.THREADS) > before

                await until(waits)
                await cursor.execute("ROLLBACK")


async def test_a_server_with_replicas_does_not_pass_for_one_without_lag(
    mysql: MySQLServer, make_mysql_databases: MakeMySQLDatabases, monkeypatch: pytest.MonkeyPatch
) -> None:
    [database] = await make_mysql_databases(1)
    async with mysql_signals.opened(place(mysql, database)) as session:
        rows = session._rows

        async def attached(question: str) -> object:
            return (
                [{"Variable_name": "Slaves_connected", "Value": "2"}] if "Slaves" in question else await rows(question)
            )

        monkeypatch.setattr(session, "_rows", attached)
        readings = {reading.signal: reading for reading in await session.read(ALL, ())}
    assert readings[signals.REPLICAS].value is None
    assert "(2)" in readings[signals.REPLICAS].said
    assert "probe" in readings[signals.REPLICAS].said
    assert readings[signals.THREADS].value is not None


@pytest.mark.parametrize(
    ("row", "seconds"),
    [
        ({"Seconds_Behind_Master": 7, "Master_Host": "m"}, 7.0),
        ({"Seconds_Behind_Source": 0}, 0.0),
        ({"Seconds_Behind_Master": None}, None),
    ],
)
def test_what_a_replica_says_of_itself(row: dict[str, object], seconds: float | None) -> None:
    assert mysql_signals.behind(row) == seconds


async def test_a_session_that_is_ended_is_an_error_and_not_a_reading(
    mysql: MySQLServer, make_mysql_databases: MakeMySQLDatabases
) -> None:
    [database] = await make_mysql_databases(1)
    async with mysql_signals.opened(place(mysql, database)) as session:
        for number, *_ in await mariadb.sessions_on(mysql, [database]):
            await mariadb.execute(mysql, "", f"KILL {number}")
        with pytest.raises(TargetUnreachableError):
            await session.read(ALL, ())
