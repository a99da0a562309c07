"""Asks a database one question and changes nothing there, on every kind of it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import anyio
import anyio.to_thread
import asyncpg

from orchestrator.databases import connecting, mysql_connecting, schemas
from orchestrator.databases.base import Place
from orchestrator.errors import TargetLockedError, TargetUnreachableError

SESSION = "orchestrator check"
# Rows that are read: one more than an answer may have.
ROWS = 2
# How many steps of SQLite's machine pass between two looks at the clock.
_STEPS = 10_000

Rows = Sequence[tuple[object, ...]]


class Asker:
    """Sends single statements, each in a session of its own that may only read."""

    def __init__(self) -> None:
        # Our own: a file system that hangs keeps its threads, and must not take those of everybody else.
        self._threads = anyio.CapacityLimiter(4)

    async def ask(self, place: Place, statement: str) -> Rows:
        """The first two rows. The answer takes at most `place.limits.connect` seconds, with connecting; the server
        itself gives the statement up soon after. Whatever it does in its transaction is rolled back.

        Raises TargetError.
        """
        dialect = place.url.get_backend_name()
        try:
            with anyio.fail_after(place.limits.connect):
                if dialect == "sqlite":
                    return await anyio.to_thread.run_sync(
                        _ask_file, place, statement, abandon_on_cancel=True, limiter=self._threads
                    )
                return await (_ask_postgresql if dialect == "postgresql" else _ask_mysql)(place, statement)
        except TargetLockedError as exc:  # which speaks of a version table
            raise _locked(place) from exc
        except TimeoutError as exc:
            raise _too_slow(place) from exc


async def _ask_postgresql(place: Place, statement: str) -> Rows:
    path = schemas.search_path(place.target)
    settings = {"default_transaction_read_only": "on", **({} if path is None else {"search_path": path})}
    async with connecting.connected(place, SESSION, settings) as connection:
        with connecting.bounded(place):
            await _find_schema(connection, place)
            # Never committed: it is rolled back with the session. Prepared, so no second statement can follow.
            await connection.transaction(readonly=True).start()
            cursor = await connection.cursor(statement)
            return [tuple(row) for row in await cursor.fetch(ROWS)]


async def _find_schema(connection: asyncpg.Connection, place: Place) -> None:
    """A search path passes over a schema that is not there: other tables would be asked."""
    if place.target.schema is None or await connection.fetchval(f"SELECT {schemas.proof(place.target)}") is not None:
        return
    raise schemas.forbidden(place) if await schemas.exists(connection, place.target) else schemas.missing(place)


async def _ask_mysql(place: Place, statement: str) -> Rows:
    # Longer than we wait: MySQL answers a SLEEP that it cuts short with 1, which is true there.
    seconds = place.limits.connect + 1
    async with mysql_connecting.connected(place, SESSION) as connection:
        ours = mysql_connecting.is_mariadb(connection)
        limit = f"max_statement_time = {seconds:.3f}" if ours else f"max_execution_time = {seconds * 1000:.0f}"
        with mysql_connecting.bounded(place):
            for made_ready in (
                f"SET SESSION sql_select_limit = {ROWS}, {limit}",
                "SET SESSION TRANSACTION READ ONLY",
            ):
                await mysql_connecting.ask(connection, made_ready)
            # The driver lets several statements through, one of which might commit. What is prepared is but one.
            await mysql_connecting.ask(connection, "SET @orchestrator_check = %s", statement)
            await mysql_connecting.ask(connection, "PREPARE orchestrator_check FROM @orchestrator_check")
            await mysql_connecting.ask(connection, "START TRANSACTION READ ONLY")
            # Never committed: it is rolled back with the session.
            return (await mysql_connecting.ask(connection, "EXECUTE orchestrator_check"))[:ROWS]


def _ask_file(place: Place, statement: str) -> Rows:
    path, limits = Path(place.url.database or ""), place.limits
    deadline = time.monotonic() + limits.connect
    try:
        if not path.is_file():
            raise TargetUnreachableError(f"there is no database file {path}", kind="missing_database")
        uri = f"{path.resolve().as_uri()}?mode=ro"
        wait = min(limits.lock_timeout, limits.connect)
        with closing(sqlite3.connect(uri, uri=True, timeout=wait, isolation_level=None)) as connection:
            connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
            connection.execute("BEGIN")  # in which no VACUUM INTO is possible either
            return connection.execute(statement).fetchmany(ROWS)
    except sqlite3.OperationalError as exc:
        if time.monotonic() > deadline:
            raise _too_slow(place) from exc
        raise _unusable(path, exc) from exc
    except (sqlite3.Error, sqlite3.Warning, OSError) as exc:
        raise _unusable(path, exc) from exc


def _unusable(path: Path, exc: Exception) -> TargetUnreachableError:
    return TargetUnreachableError(f"cannot ask database file {path}: {exc}", kind="unusable")


def _locked(place: Place) -> TargetUnreachableError:
    return TargetUnreachableError(
        f"another session keeps locked what is asked for in database {place.name}", kind="busy", retriable=True
    )


def _too_slow(place: Place) -> TargetUnreachableError:
    return TargetUnreachableError(
        f"database {place.name} gave no answer within {place.limits.connect:g} s", kind="slow", retriable=True
    )
