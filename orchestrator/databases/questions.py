"""Questions of the operator's to a target: answered by two rows at most, and never by a change."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import asyncpg
from asyncmy.connection import Connection
from asyncmy.errors import MySQLError

from orchestrator.databases import sqlite_errors
from orchestrator.databases.base import Place
from orchestrator.databases.connecting import FOREIGN, unreachable
from orchestrator.databases.mysql_connecting import ask
from orchestrator.errors import MigrationFailedError, TargetError, TargetLockedError

ROWS = 2
# The kind of the error when what must hold after a migration does not, or cannot be asked.
VERIFY = "verify"
# PostgreSQL's class 42: the statement itself is wrong, so its message tells of the statement. Others may quote data.
_OF_THE_STATEMENT = ("42", "3F", "25006")
# Of those, what the server finds only when it already reads: a name in a row that is cast to a table would be told.
_WHILE_READING = ("42501", "25006")
_OF_THE_STATEMENT_MYSQL = frozenset({1046, 1049, 1054, 1064, 1142, 1146, 1305, 1370, 1792})
NO_TABLE = frozenset({"42P01", "3F000", "1146", "1049", "no such table"})
_TOO_LONG_MYSQL = frozenset({1969, 3024})
_LOCKED_MYSQL = frozenset({1205, 3572})
_INSTRUCTIONS = 10_000
# Of asyncpg, for values that Python has none for. Its messages may show them; its session stays whole.
_UNREADABLE = (ValueError, OverflowError)
_NO_VALUE = "its answer holds a value that cannot be read, as a date before the year 1"

Rows = Sequence[tuple[object, ...]]


async def of_postgresql(connection: asyncpg.Connection[Any], place: Place, question: str, seconds: float) -> Rows:
    """See `databases.base.Guard.ask`. The protocol takes one statement: none can follow that ends the transaction."""
    longest = seconds + place.limits.connect
    about: tuple[str, ...] = _OF_THE_STATEMENT
    try:
        with anyio.fail_after(longest):
            async with _taken_back(connection):
                await connection.execute(f"SET LOCAL statement_timeout = {max(1, round(seconds * 1000))}")
                cursor = await connection.cursor(question, timeout=longest)
                about = _WHILE_READING
                return [tuple(row) for row in await cursor.fetch(ROWS, timeout=longest)]
    except asyncpg.LockNotAvailableError as exc:
        raise _locked(place, exc.sqlstate) from exc
    except asyncpg.QueryCanceledError as exc:
        raise _too_long(seconds, exc.sqlstate) from exc
    except asyncpg.PostgresError as exc:
        code = exc.sqlstate or ""
        if code.startswith(("08", "57")):
            raise unreachable(place, exc) from exc
        raise _refused(str(exc), code, shown=code.startswith(about)) from exc
    except asyncpg.InterfaceError as exc:
        if connection.is_closed():
            raise unreachable(place, exc) from exc
        raise _refused(str(exc), None, shown=True) from exc  # a statement that gives no rows, say
    except _UNREADABLE as exc:
        raise _refused(_NO_VALUE, None, shown=True) from exc
    except FOREIGN as exc:
        raise unreachable(place, exc) from exc


@asynccontextmanager
async def _taken_back(connection: asyncpg.Connection[Any]) -> AsyncIterator[None]:
    """A transaction that reads only, and of which nothing stays: neither a setting nor a notification."""
    transaction = connection.transaction(readonly=True)
    await transaction.start()
    try:
        yield
    finally:
        await transaction.rollback()


async def of_mysql(connection: Connection, place: Place, question: str, seconds: float, *, mariadb: bool) -> Rows:
    """As above. Prepared, since the driver would send several statements at once."""
    limit = f"max_statement_time = {seconds:g}" if mariadb else f"max_execution_time = {seconds * 1000:.0f}"
    name = limit.partition(" ")[0]
    try:
        await ask(connection, "SET SESSION TRANSACTION READ ONLY")
        await ask(connection, f"SET SESSION {limit}, sql_select_limit = {ROWS}")
        await ask(connection, f"SET @orchestrator_asks = CONVERT(0x{question.encode().hex()} USING utf8mb4)")
        await ask(connection, "PREPARE orchestrator_asks FROM @orchestrator_asks")
        return (await ask(connection, "EXECUTE orchestrator_asks"))[:ROWS]
    except MySQLError as exc:
        number = exc.args[0] if exc.args and isinstance(exc.args[0], int) else 0
        if number in _LOCKED_MYSQL:
            raise _locked(place, str(number)) from exc
        if number in _TOO_LONG_MYSQL:
            raise _too_long(seconds, str(number)) from exc
        if not connection.connected or 2000 <= number < 3000 or number in (1317, 1927):
            raise
        said = str(exc.args[1]) if len(exc.args) > 1 else str(exc)
        raise _refused(said, str(number), shown=number in _OF_THE_STATEMENT_MYSQL) from exc
    finally:
        if connection.connected:
            with suppress(MySQLError):  # where nothing was prepared
                await ask(connection, "DEALLOCATE PREPARE orchestrator_asks")
            with suppress(MySQLError):
                await ask(connection, f"SET SESSION {name} = DEFAULT, sql_select_limit = DEFAULT")
                await ask(connection, "SET SESSION TRANSACTION READ WRITE")


def of_sqlite(
    connection: sqlite3.Connection, place: Place, question: str, seconds: float, gone: threading.Event
) -> Rows:
    """As above; blocks, until `gone` is set at the latest."""
    ends = time.monotonic() + seconds
    connection.set_progress_handler(lambda: gone.is_set() or time.monotonic() > ends, _INSTRUCTIONS)
    try:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("BEGIN")  # within which no VACUUM INTO writes a file either
        return [tuple(row) for row in connection.execute(question).fetchmany(ROWS)]
    except (sqlite3.Error, sqlite3.Warning) as exc:
        if sqlite_errors.is_busy(exc):
            raise _locked(place, None) from exc
        if sqlite_errors.is_interrupted(exc):
            raise _too_long(seconds, None) from exc
        code = "no such table" if sqlite_errors.has_no_table(exc) else None
        raise _refused(str(exc), code, shown=_tells_of_the_statement(connection, question, exc)) from exc


def _tells_of_the_statement(connection: sqlite3.Connection, question: str, exc: Exception) -> bool:
    """Rather than of a row that it reads: so it does when the same is said where nothing is read."""
    if sqlite_errors.of_the_file(exc):
        return True
    try:
        connection.execute(f"EXPLAIN {question}")
    except (sqlite3.Error, sqlite3.Warning) as again:
        return str(again) == str(exc)
    return False


async def counted(asking: Callable[[], Any]) -> int | None:
    """The count that a question for one gives; None where there is no such table. Raises as the question does."""
    try:
        rows: Rows = await asking()
    except TargetError as exc:
        if exc.kind == VERIFY and exc.code in NO_TABLE:
            return None
        raise
    return int(str(rows[0][0]))


def _locked(place: Place, code: str | None) -> TargetLockedError:
    return TargetLockedError(
        f"a question to {place.name} waited in vain for a table that another session keeps locked",
        code=code,
        remedy="end that session or its transaction, or retry at a quieter time",
        retriable=True,
    )


def _too_long(seconds: float, code: str | None) -> MigrationFailedError:
    return MigrationFailedError(
        f"it took longer than {seconds:g} s",
        kind=VERIFY,
        code=code,
        remedy="give it more time with `timeout`, or ask for less",
    )


def _refused(said: str, code: str | None, *, shown: bool) -> MigrationFailedError:
    first = said.strip().splitlines()[0] if said.strip() else ""
    text = first if shown else f"error {code}" if code else "an error whose text may hold data"
    return MigrationFailedError(
        f"it cannot be asked: {text}", kind=VERIFY, code=code, remedy="correct the SQL, or the database, then retry"
    )
