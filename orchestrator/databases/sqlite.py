"""SQLite: one file per tenant.

The lock is an operating-system lock on a file beside the database: the kernel releases it when the process dies,
however it dies, and unlike a transaction held open it does not keep env.py's own connection from writing.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from urllib.parse import quote

import anyio
import anyio.to_thread

from orchestrator.databases import catalogs, questions, singly, sqlite_catalog, sqlite_errors, sqlite_replay
from orchestrator.databases.base import Found, Place, heads_of, one_by_one
from orchestrator.databases.polling import backoff
from orchestrator.databases.quoting import dotted, quoted
from orchestrator.databases.refusals import lock_held
from orchestrator.databases.sqlite_dumps import SQLiteDumper
from orchestrator.databases.sqlite_opening import WHERE, opened, unusable
from orchestrator.databases.sqlite_replay import SQLiteReplayer
from orchestrator.databases.threads import interruptible
from orchestrator.errors import MigrationFailedError
from orchestrator.plan.catalog import Catalog
from orchestrator.plan.compiled import Compiled, Online
from orchestrator.registry.model import Heads
from orchestrator.sessions import SessionRules

_TABLES = """SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite!_%' ESCAPE '!'
    ORDER BY name"""


class SQLite:
    """`databases.base.Database` for SQLite files."""

    def script(self, place: Place, compiled: Compiled) -> tuple[str | Online, ...]:
        return singly.texts(compiled, sqlite_replay.table_of(place))

    async def server(self, place: Place) -> str:
        if place.target.version_table_schema is not None:
            raise MigrationFailedError("its version table is in another file, which env.py attaches")
        return sqlite3.sqlite_version

    async def read_heads(self, place: Place) -> Heads | None:
        return await anyio.to_thread.run_sync(_read_heads, place)

    async def read_many(self, places: Sequence[Place], found: Found) -> None:
        await one_by_one(self, places, found)

    async def catalog(self, place: Place, beside: Sequence[Place]) -> Catalog:
        return await anyio.to_thread.run_sync(_catalog, place, beside)

    async def occupancy(self, place: Place) -> None:
        return None

    def looking(self, place: Place) -> SessionRules:
        return _rules(place, _where(place))

    @asynccontextmanager
    async def guard(self, place: Place) -> AsyncIterator[SQLiteGuard]:
        guard = SQLiteGuard(place, await anyio.to_thread.run_sync(_where, place))
        await guard.lock()
        try:
            yield guard
        finally:
            guard.unlock()


class SQLiteGuard:
    """`databases.base.Guard`. A file lock cannot be lost, and SQLite has no backends to end."""

    def __init__(self, place: Place, file: str) -> None:
        self._place, self._file = place, file
        self._lock_file = _lock_file(place, file)
        self._descriptor: int | None = None
        self.lost = anyio.Event()

    @property
    def replayer(self) -> SQLiteReplayer | None:
        """Of version tables in another file only env.py knows, which attaches it."""
        if self._place.target.version_table_schema is not None:
            return None
        return SQLiteReplayer(self._place, self._file, self.ask)

    @property
    def rules(self) -> SessionRules:
        return _rules(self._place, self._file)

    async def lock(self) -> None:
        """Raises TargetLockedError after `limits.lock_wait`; TargetUnreachableError when no lock file can be made."""
        try:
            self._descriptor = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with anyio.fail_after(self._place.limits.lock_wait):
                for pause in backoff(0.025, 1.0):
                    try:
                        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        return
                    except BlockingIOError:
                        await anyio.sleep(pause)
        except BaseException as exc:
            self.unlock()
            if isinstance(exc, TimeoutError):
                raise lock_held(self._place, self._lock_file.name) from None
            if isinstance(exc, OSError):
                raise unusable(self._place, exc) from exc
            raise

    def unlock(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    async def heads(self) -> Heads | None:
        return await anyio.to_thread.run_sync(_read_heads, self._place)

    async def tables(self) -> tuple[str, ...]:
        return await anyio.to_thread.run_sync(_tables, self._place)

    async def make_schema(self) -> None:
        return None

    @property
    def dumper(self) -> SQLiteDumper:
        return SQLiteDumper(self._place, self._file)

    async def ask(self, question: str, seconds: float) -> Sequence[tuple[object, ...]]:
        return await interruptible(partial(_answer, self._place, question, seconds))

    async def count(self, table: str, seconds: float) -> int | None:
        return await questions.counted(lambda: self.ask(f"SELECT count(*) FROM {dotted(table)}", seconds))

    async def blockers(self, backends: Sequence[int]) -> str | None:
        return None

    @property
    def patience(self) -> None:
        return None

    async def give_way(self, backends: Sequence[int], note: Callable[[str | None], None]) -> None:
        return None

    async def invalid_indexes(self) -> tuple[str, ...]:
        return ()

    async def end_backends(self, backends: Sequence[int]) -> None:
        return None


def _lock_file(place: Place, file: str) -> Path:
    table = quote(place.target.version_table, safe=" ")  # it may hold what no file's name can
    return Path(file).with_name(f".{Path(file).name}.{table}.lock")


def _rules(place: Place, file: str) -> SessionRules:
    timeout = f"PRAGMA busy_timeout = {place.limits.lock_timeout * 1000:.0f}"
    return SessionRules("sqlite", WHERE, (file,), place.name, setup=(timeout,), state=sqlite_replay.STATE)


def _where(place: Place) -> str:
    """The database's file as SQLite itself names it, links resolved."""
    with opened(place) as connection:
        return str(connection.execute(WHERE).fetchone()[0])


def _read_heads(place: Place) -> Heads | None:
    with opened(place) as connection:
        return _heads(connection, place)


def _heads(connection: sqlite3.Connection, place: Place) -> Heads | None:
    try:
        rows = connection.execute(f"SELECT version_num FROM {quoted(place.target.version_table)}").fetchall()
    except sqlite3.OperationalError as exc:
        if sqlite_errors.has_no_table(exc):
            return None
        raise
    return heads_of(place, (row[0] for row in rows))


def _catalog(place: Place, beside: Sequence[Place]) -> Catalog:
    """In one transaction, so all of one moment; but that of a revision whose DDL is committed bit by bit."""
    tables = catalogs.tables_of(place, beside)
    with opened(place) as connection:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("BEGIN")
        heads = _heads(connection, place), tuple([(one.target.track, _heads(connection, one) or ()) for one in beside])
        lines = sqlite_catalog.lines(connection, tables)
        if _is_locked(_lock_file(place, str(connection.execute(WHERE).fetchone()[0]))):
            raise catalogs.changing(place, "it is being migrated")
    return catalogs.catalog(place, "sqlite", heads, heads, lines, tables)


def _is_locked(file: Path) -> bool:
    """Whether a guard holds the lock, by a moment's share in it: a guard that comes just then asks again."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _tables(place: Place) -> tuple[str, ...]:
    with opened(place) as connection:
        rows = connection.execute(_TABLES).fetchall()
    return place.neighbours().leave([row[0] for row in rows])


def _answer(place: Place, question: str, seconds: float, gone: threading.Event) -> Sequence[tuple[object, ...]]:
    with opened(place) as connection:
        return questions.of_sqlite(connection, place, question, seconds, gone)
