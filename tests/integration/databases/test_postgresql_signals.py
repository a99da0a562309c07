"""What a PostgreSQL server tells of its load, and what it hides."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import anyio
import asyncpg
import pytest
from sqlalchemy.engine import make_url

from orchestrator.databases import postgresql_signals, signals
from orchestrator.databases.base import Limits, Place
from orchestrator.databases.embedded import EmbeddedServer, Server
from orchestrator.databases.postgresql_signals import PostgreSQLSignals
from orchestrator.errors import TargetUnreachableError
from orchestrator.registry.model import Target
from tests import engine, standby
from tests.engine import until
from tests.servers import MakeDatabases
from tests.standby import Pair

MEBIBYTE = 1024**2


def place(server: Server, database: str = "postgres", user: tuple[str, str] | None = None) -> Place:
    url = make_url(server.url(database))
    if user is not None:
        url = url.set(username=user[0], password=user[1])
    return Place(Target("acme", "app", "pg", database), url, Limits())


@asynccontextmanager
async def role(server: Server) -> AsyncIterator[tuple[str, str]]:
    """Name and password of a role that may log in and nothing more."""
    name, password = f"plain_{secrets.token_hex(3)}", secrets.token_hex(8)
    await engine.execute(server, "postgres", f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
    try:
        yield name, password
    finally:
        await engine.execute(server, "postgres", f"DROP ROLE {name}")


async def one(session: PostgreSQLSignals, signal: str, databases: Collection[str] = ()) -> signals.Reading:
    (reading,) = await session.read([signal], databases)
    assert reading.signal == signal
    return reading


async def write(server: Server, mebibytes: int) -> None:
    """As much of the log, whatever it compresses."""
    await engine.execute(
        server,
        "postgres",
        "CREATE TABLE IF NOT EXISTS filler (text text)",
        f"INSERT INTO filler SELECT md5(random()::text) FROM generate_series(1, {mebibytes * 16_000})",
    )


async def test_a_standby_that_does_not_replay_is_behind_in_bytes_and_in_seconds(pair: Pair) -> None:
    await pair.caught_up()
    lags = [signals.LAG_SECONDS, signals.LAG_BYTES]
    async with postgresql_signals.opened(place(pair.primary)) as session:

        async def near() -> bool:
            in_seconds, in_bytes = await session.read(lags, ())
            assert in_bytes.value is not None
            assert in_seconds.value is not None
            return in_bytes.value < MEBIBYTE and in_seconds.value < 1

        await until(near)
        await pair.pause()
        try:
            await write(pair.primary, 4)

            async def far() -> bool:
                in_seconds, in_bytes = await session.read(lags, ())
                assert in_bytes.value is not None
                assert in_seconds.value is not None
                assert standby.NAME in in_bytes.said
                # The server's own measure stands still with the replay: what grows is ours.
                return in_bytes.value > 3 * MEBIBYTE and in_seconds.value > 2

            await until(far)
        finally:
            await pair.resume()
        await pair.caught_up()
        await until(near)


async def test_a_slot_that_nobody_reads_counts_as_a_standby(pair: Pair) -> None:
    await engine.execute(pair.primary, "postgres", "SELECT pg_create_physical_replication_slot('forgotten', true)")
    try:
        async with postgresql_signals.opened(place(pair.primary)) as session:
            await write(pair.primary, 2)

            async def behind() -> bool:
                reading = await one(session, signals.LAG_BYTES)
                return (reading.value or 0) > MEBIBYTE and "'forgotten' (inactive)" in reading.said

            await until(behind)
    finally:
        await engine.execute(pair.primary, "postgres", "SELECT pg_drop_replication_slot('forgotten')")


async def test_without_pg_monitor_nothing_that_is_hidden_is_taken_for_none(pair: Pair) -> None:
    somebody = await asyncpg.connect(pair.primary.url("postgres"))
    wanted = [signals.LAG_BYTES, signals.LAG_SECONDS, signals.ACTIVE, signals.OLDEST, signals.ARCHIVE, signals.BLOCKED]
    try:
        async with role(pair.primary) as user:
            async with postgresql_signals.opened(place(pair.primary, user=user)) as session:
                readings = {reading.signal: reading for reading in await session.read(wanted, ["postgres"])}
            # All may see locks, and how far archiving has come.
            assert readings.pop(signals.BLOCKED).value == 0
            assert len(readings) == 5
            for reading in readings.values():
                assert reading.value is None, reading
                assert f"grant pg_monitor to {user[0]}" in reading.said

            await engine.execute(pair.primary, "postgres", f"GRANT pg_monitor TO {user[0]}")
            async with postgresql_signals.opened(place(pair.primary, user=user)) as session:
                for reading in await session.read(wanted, ["postgres"]):
                    assert reading.value is not None, reading
    finally:
        await somebody.close()


async def test_what_waits_for_archiving_is_counted(pair: Pair) -> None:
    async with postgresql_signals.opened(place(pair.primary)) as session:
        before = (await one(session, signals.ARCHIVE)).value
        assert before is not None
        await write(pair.primary, 1)
        await engine.execute(pair.primary, "postgres", "SELECT pg_switch_wal()")

        async def more() -> bool:
            return ((await one(session, signals.ARCHIVE)).value or 0) > before

        await until(more)


async def test_sessions_are_others_and_only_those_that_wait_are_blocked(pair: Pair) -> None:
    await engine.execute(pair.primary, "postgres", "CREATE TABLE IF NOT EXISTS wanted (id int)")
    url = pair.primary.url("postgres")
    holder = await asyncpg.connect(url)
    ours = await asyncpg.connect(url, server_settings={"application_name": "orchestrator migration acme"})
    waiting = await asyncpg.connect(url)
    try:
        async with postgresql_signals.opened(place(pair.primary)) as session:
            assert (await one(session, signals.BLOCKED)).value == 0
            assert (await one(session, signals.ACTIVE)).value == 0
            async with holder.transaction(), anyio.create_task_group() as tasks:
                await holder.execute("LOCK TABLE wanted")
                await ours.execute("SELECT pg_advisory_lock(1)")
                tasks.start_soon(waiting.execute, "SELECT * FROM wanted")

                async def blocked() -> bool:
                    # Ours is a session, too, and counts neither as active nor as blocked.
                    return (await one(session, signals.BLOCKED)).value == 1

                await until(blocked)
                assert (await one(session, signals.ACTIVE)).value == 1
                await holder.execute("ROLLBACK; BEGIN")  # lets go
    finally:
        for connection in (holder, ours, waiting):
            await connection.close()


async def test_the_oldest_transaction_is_looked_for_where_backfills_run(
    pair: Pair, make_databases: MakeDatabases
) -> None:
    here, elsewhere = await make_databases(2, server=pair.primary)
    idle = await asyncpg.connect(pair.primary.url(here), server_settings={"application_name": "report"})
    ours = await asyncpg.connect(
        pair.primary.url(here), server_settings={"application_name": "orchestrator migration acme"}
    )
    try:
        await ours.execute("BEGIN")
        async with postgresql_signals.opened(place(pair.primary)) as session:
            assert (await one(session, signals.OLDEST, [here])).value == 0
            await idle.execute("BEGIN")

            async def older() -> bool:
                reading = await one(session, signals.OLDEST, [here])
                assert "report, idle in transaction" in reading.said
                return (reading.value or 0) > 0.3

            await until(older)
            assert (await one(session, signals.OLDEST, [elsewhere])).value == 0
            await idle.execute("CREATE TABLE t (); PREPARE TRANSACTION 'two phases'")
            try:

                async def prepared() -> bool:
                    reading = await one(session, signals.OLDEST, [here])
                    assert "'two phases'" in reading.said
                    return (reading.value or 0) > 0.3

                await until(prepared)
            finally:
                await idle.execute("ROLLBACK PREPARED 'two phases'")
    finally:
        await idle.close()
        await ours.close()


async def test_a_signal_that_the_server_does_not_know_hides_no_other(pg: Server) -> None:
    async with postgresql_signals.opened(place(pg)) as session:
        readings = {one.signal: one for one in await session.read(["weather", signals.BLOCKED], ())}
    assert readings["weather"].value is None
    assert "weather" in readings["weather"].said
    assert readings[signals.BLOCKED].value is not None


async def test_a_session_that_is_ended_is_an_error_and_not_a_reading() -> None:
    async with EmbeddedServer(name="mortal") as server, postgresql_signals.opened(place(server)) as session:
        await engine.execute(
            server,
            "postgres",
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{signals.SESSION}'",
        )
        with pytest.raises(TargetUnreachableError):
            await session.read([signals.BLOCKED], ())
