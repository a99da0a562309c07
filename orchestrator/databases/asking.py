"""Asks a database one question in a session of its own, on every kind of it."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import asyncpg

from orchestrator.databases import connecting, mysql_connecting, questions, schemas
from orchestrator.databases.base import Place
from orchestrator.databases.questions import Rows
from orchestrator.errors import TargetUnreachableError

SESSION = "orchestrator check"
# So much longer than we wait may the server take: MySQL answers a SLEEP that it cuts short with 1, which is true there.
LONGER_SECONDS = 1.0


class Asker:
    """Sends single statements, each in a session of its own that may only read."""

    def __init__(self) -> None:
        # Our own: a file system that hangs keeps its threads, and must not take those of everybody else.
        self._threads = anyio.CapacityLimiter(4)

    async def ask(self, place: Place, statement: str) -> Rows:
        """The first two rows. The answer takes at most `place.limits.connect` seconds, with connecting; the server
        itself gives the statement up soon after. Whatever it does in its transaction is rolled back.

        Raises TargetError, as `databases.base.Guard.ask` does.
        """
        dialect = place.url.get_backend_name()
        try:
            with anyio.fail_after(place.limits.connect):
                if dialect == "sqlite":
                    return await self._ask_file(place, statement)
                return await (_ask_postgresql if dialect == "postgresql" else _ask_mysql)(place, statement)
        except TimeoutError as exc:
            raise _too_slow(place) from exc

    async def _ask_file(self, place: Place, statement: str) -> Rows:
        gone = threading.Event()
        work = partial(_ask_file, place, statement, gone)
        try:
            return await anyio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._threads)
        finally:
            gone.set()


async def _ask_postgresql(place: Place, statement: str) -> Rows:
    path = schemas.search_path(place.target)
    settings = {"default_transaction_read_only": "on", **({} if path is None else {"search_path": path})}
    async with connecting.connected(place, SESSION, settings) as connection:
        with connecting.bounded(place):
            await _find_schema(connection, place)
        return await questions.of_postgresql(connection, place, statement, _seconds(place))


async def _find_schema(connection: asyncpg.Connection, place: Place) -> None:
    """A search path passes over a schema that is not there: other tables would be asked."""
    if place.target.schema is None or await connection.fetchval(f"SELECT {schemas.proof(place.target)}") is not None:
        return
    raise schemas.forbidden(place) if await schemas.exists(connection, place.target) else schemas.missing(place)


async def _ask_mysql(place: Place, statement: str) -> Rows:
    async with mysql_connecting.connected(place, SESSION) as connection:
        ours = mysql_connecting.is_mariadb(connection)
        with mysql_connecting.bounded(place, LONGER_SECONDS):
            return await questions.of_mysql(connection, place, statement, _seconds(place), mariadb=ours)


def _ask_file(place: Place, statement: str, gone: threading.Event) -> Rows:
    path, limits = Path(place.url.database or ""), place.limits
    try:
        if not path.is_file():
            raise TargetUnreachableError(f"there is no database file {path}", kind="missing_database")
        uri = f"{path.resolve().as_uri()}?mode=ro"
        wait = min(limits.lock_timeout, limits.connect)
        with closing(sqlite3.connect(uri, uri=True, timeout=wait, isolation_level=None)) as connection:
            return questions.of_sqlite(connection, place, statement, _seconds(place), gone)
    except (sqlite3.Error, OSError) as exc:
        raise TargetUnreachableError(f"cannot ask database file {path}: {exc}", kind="unusable") from exc


def _seconds(place: Place) -> float:
    return place.limits.connect + LONGER_SECONDS


def _too_slow(place: Place) -> TargetUnreachableError:
    return TargetUnreachableError(
        f"database {place.name} gave no answer within {place.limits.connect:g} s", kind="slow", retriable=True
    )
