"""What a MariaDB server tells of its load, and what it hides."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from functools import partial

import anyio
import pytest
from sqlalchemy.engine import make_url

from orchestrator.databases import mysql_signals, signals
from orchestrator.databases.base import Limits, Place
from orchestrator.databases.mysql_signals import MySQLSignals
from orchestrator.errors import TargetUnreachableError
from orchestrator.execute.probing import Probes
from orchestrator.registry.backfills import ProbeSignal, Threshold
from orchestrator.registry.model import Check, Shard, Target
from tests import engine, mariadb
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

            async def long() -> bool:
                """Rows of before may be purged meanwhile, those of now may not."""
                await mariadb.execute(mysql, database, "UPDATE t SET n = n + 1")
                return await one(session, signals.HISTORY) > history + 20

            await until(long)
            await cursor.execute("UPDATE t SET n = -1")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(other.execute, "UPDATE t SET n = -2")

                async def waits() -> bool:
                    return await one(session, signals.BLOCKED) == 1 and await one(session, signals.THREADS) > before

                await until(waits)
                await cursor.execute("ROLLBACK")


async def test_a_replica_tells_its_lag_and_its_source_only_that_there_is_one() -> None:
    async with mariadb.server("--server-id=1", "--log-bin=log") as source, mariadb.server("--server-id=2") as replica:
        [(file, position, *_)] = await mariadb.fetch(source, "", "SHOW MASTER STATUS")
        at = make_url(source.dsn)
        where = f"MASTER_HOST='{at.host}', MASTER_PORT={at.port}, MASTER_USER='{at.username}'"
        secret = f"MASTER_PASSWORD='{at.password}', MASTER_LOG_FILE='{file}', MASTER_LOG_POS={position}"
        await mariadb.execute(replica, "", f"CHANGE MASTER TO {where}, {secret}", "START SLAVE")
        ask = partial(mysql_signals.replica_lag, place(replica, ""))

        async def near() -> bool:
            return (await ask()).value == 0

        await until(near)
        async with mysql_signals.opened(place(source, "")) as session:
            readings = {reading.signal: reading for reading in await session.read(ALL, ())}
        assert readings[signals.REPLICAS].value is None
        assert "(1)" in readings[signals.REPLICAS].said
        assert "probe" in readings[signals.REPLICAS].said
        assert readings[signals.THREADS].value is not None

        # What the replica cannot apply for a lock of somebody's there, it is behind with.
        await mariadb.execute(source, "", "CREATE DATABASE saas", "CREATE TABLE saas.t (id int PRIMARY KEY)")

        async def arrived() -> bool:
            question = "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'saas'"
            return bool(await mariadb.fetch(replica, "", question))

        await until(arrived)
        async with mariadb.session(replica, "saas") as holder, holder.cursor() as cursor:
            await cursor.execute("LOCK TABLE t WRITE")
            await mariadb.execute(source, "saas", "INSERT INTO t VALUES (1)")

            async def far() -> bool:
                return ((await ask()).value or 0) >= 2

            await until(far)
            shards = [Shard("replica", make_url(replica.url("x")).set(database=None))]
            check = Check("behind", "sql", "SHOW REPLICA STATUS", shard="replica")
            asked = ProbeSignal(check, Threshold.over(1.0))
            registry = engine.registry_of([], shards, [])
            near_by = Target("acme", "app", "elsewhere", "acme")
            assert await Probes(Limits()).ask(registry, asked, near_by) >= 2
            await cursor.execute("UNLOCK TABLES")
        await until(near)
        await mariadb.execute(replica, "", "STOP SLAVE SQL_THREAD")
        stopped = await ask()
        assert stopped.value is None
        assert "stands still: start its replication" in stopped.said


async def test_a_server_that_is_no_replica_has_no_lag_of_one(mysql: MySQLServer) -> None:
    reading = await mysql_signals.replica_lag(place(mysql, ""))
    assert reading.value is None
    assert "no replica" in reading.said


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
