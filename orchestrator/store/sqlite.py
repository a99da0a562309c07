"""The store in an SQLite file: each unit of work in one thread, from its BEGIN to its COMMIT."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from sqlalchemy import Connection, Engine, QueuePool, create_engine, event
from sqlalchemy.exc import OperationalError

from orchestrator.store.place import Place

T = TypeVar("T")

POOL_SIZE = 10
BUSY_SECONDS = 10.0
# SQLite's own wait for the file cannot be interrupted: it is kept short, and ours goes on.
BUSY_TURN_SECONDS = 0.25
INTERRUPT_SECONDS = 0.05

PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    # With WAL a killed process loses nothing; only a power cut may take the last commits, never the file's integrity.
    "PRAGMA synchronous = NORMAL",
    "PRAGMA foreign_keys = ON",
    f"PRAGMA busy_timeout = {BUSY_TURN_SECONDS * 1000:.0f}",
)


class SQLiteEngine:
    """Runs units of work, plain functions of a connection, in threads of their own."""

    def __init__(self, place: Place) -> None:
        # In memory there is one connection, and it may serve one at a time: shared, a reader's rollback would take a
        # writer's transaction with it.
        self._path = place.path
        size = POOL_SIZE if place.path else 1
        self._threads = anyio.CapacityLimiter(size)
        self._engine = create_engine(
            place.url,
            poolclass=QueuePool,
            pool_size=size,
            max_overflow=0,
            connect_args={"timeout": BUSY_SECONDS, "isolation_level": None, "check_same_thread": False},
        )
        event.listen(self._engine, "connect", _prepare)

    async def run(self, work: Callable[[Connection], T], *, writes: bool) -> T:
        """Run one transaction. A cancelled one is interrupted and its thread's end waited for; if that comes after the
        commit, the change is there."""
        unit = _Unit(self._engine, "BEGIN IMMEDIATE" if writes else "BEGIN", self._path)
        error: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(unit.watch)
            try:
                answer = await anyio.to_thread.run_sync(unit.run, work, limiter=self._threads)
            except Exception as exc:  # not through the task group, which would wrap it
                error = exc
            finally:
                unit.ended = True
                tasks.cancel_scope.cancel()
        if error is not None:
            raise error
        return answer

    async def dispose(self) -> None:
        await anyio.to_thread.run_sync(self._engine.dispose)


class _Unit:
    """One transaction in its thread, and who interrupts it from the loop."""

    def __init__(self, engine: Engine, begin: str, path: Path | None) -> None:
        self._engine, self._begin, self._path = engine, begin, path
        self._driver: Any = None
        self._lock = threading.Lock()
        self._interrupted = False
        self.ended = False

    def run(self, work: Callable[[Connection], T]) -> T:
        with self._engine.connect() as connection:
            self._driver = connection.connection.dbapi_connection
            try:
                with connection.begin():
                    self._start(connection)
                    self._check_file(connection)
                    return work(connection)
            finally:
                with self._lock:
                    self._driver = None  # somebody else's from now on

    def _check_file(self, connection: Connection) -> None:
        """A file that was deleted takes all that is written to it, and keeps nothing. Raises FileNotFoundError."""
        if self._path is None:
            return
        opened = connection.connection.record_info
        assert opened is not None
        status = self._path.stat()
        if opened.setdefault("inode", status.st_ino) != status.st_ino:
            raise FileNotFoundError(errno.ENOENT, "it was replaced by another file", str(self._path))

    def _start(self, connection: Connection) -> None:
        """Begin at once as what it is: one that begins by reading and then writes fails when another wrote between."""
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                connection.exec_driver_sql(self._begin)
                return
            except OperationalError as exc:
                busy = str(getattr(exc.orig, "sqlite_errorname", "")).startswith("SQLITE_BUSY")
                if not busy or self._interrupted or time.monotonic() >= deadline:
                    raise

    async def watch(self) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            self._interrupted = True
            with anyio.CancelScope(shield=True):
                while not self.ended:
                    with self._lock:
                        if self._driver is not None:
                            self._driver.interrupt()
                    await anyio.sleep(INTERRUPT_SECONDS)


def _prepare(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    for pragma in PRAGMAS:
        cursor.execute(pragma)
    cursor.close()
