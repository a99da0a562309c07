"""Connections to the store: how they are set up, and how one unit of work runs on one of them."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio
from sqlalchemy import Connection, NullPool
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from orchestrator.store.faults import store_error
from orchestrator.store.place import Place
from orchestrator.store.sqlite import SQLiteEngine

T = TypeVar("T")
Run = Callable[[Connection], T]

STATEMENT_SECONDS = 60.0
POOL_SIZE = 10


class Connections:
    """The store's engine. Every failure leaves it as a StoreError that names the store, never its password.

    Units of work are plain functions of a connection. On PostgreSQL they run on the loop, which does other work while
    they wait; on SQLite each runs in a thread, from its BEGIN to its COMMIT: statements are so short there that handing
    each of them to a thread costs several times what it does. Not `pooled` (PostgreSQL only): each connection is its
    own, outside all transactions, and shows as `purpose` on the server. `idle_seconds` (PostgreSQL only): a
    process that is frozen between two statements keeps what its transaction holds no longer than that. `errors` counts
    the StoreErrors of reads and writes.
    """

    def __init__(
        self, place: Place, *, purpose: str = "store", pooled: bool = True, idle_seconds: float = STATEMENT_SECONDS
    ) -> None:
        self.place = place
        self.errors: Counter[str] = Counter(read=0, write=0)
        self._database: _PostgreSQL | SQLiteEngine = (
            _PostgreSQL(place, purpose, pooled, idle_seconds) if place.postgresql else SQLiteEngine(place)
        )

    async def read(self, run: Run[T]) -> T:
        """Run one read to its end, whoever is cancelled meanwhile: a cancelled one would cost its connection."""
        return await self.telling(self._read(run), "read")

    async def write(self, run: Run[T]) -> T:
        """Run one transaction: committed when this returns. A cancelled one may be committed all the same, and a
        StoreError because the connection was lost in the commit itself leaves open whether the change is there."""
        return await self.telling(self._database.run(run, writes=True), "write")

    async def connect(self) -> AsyncConnection:
        """A connection to PostgreSQL that the caller closes."""
        if not isinstance(self._database, _PostgreSQL):
            raise TypeError("an SQLite store has no sessions of its own")
        return await self.telling(self._database.engine.connect())

    async def telling(self, work: Awaitable[T], operation: str | None = None) -> T:
        """Await work on a connection of `connect`, its failures told as all others; an operation's are counted."""
        try:
            return await work
        except Exception as exc:
            if told := store_error(exc, self.place):
                if operation is not None:
                    self.errors[operation] += 1
                raise told from exc
            raise

    async def dispose(self) -> None:
        with anyio.CancelScope(shield=True):
            await self._database.dispose()

    async def _read(self, run: Run[T]) -> T:
        with anyio.fail_after(STATEMENT_SECONDS, shield=True):
            return await self._database.run(run, writes=False)


class _PostgreSQL:
    def __init__(self, place: Place, purpose: str, pooled: bool, idle_seconds: float) -> None:
        self.engine = _make_engine(place, purpose, pooled, idle_seconds)

    async def run(self, run: Run[T], *, writes: bool) -> T:
        """A pooled connection may have died while it lay idle: what failed by that before its commit is run again.

        Reads and writes begin alike here: rows are locked as they are asked for.
        """
        ready = False
        for again in (True, False):
            try:
                async with self.engine.begin() as connection:
                    answer = await connection.run_sync(run)
                    ready = True
                return answer
            except SQLAlchemyError as exc:
                if ready or not again or not getattr(exc, "connection_invalidated", False):
                    raise
        raise AssertionError("not reached")

    async def dispose(self) -> None:
        await self.engine.dispose()


def _make_engine(place: Place, purpose: str, pooled: bool, idle_seconds: float) -> AsyncEngine:
    settings = {
        "application_name": f"orchestrator {purpose} {socket.gethostname()}:{os.getpid()}",
        "idle_in_transaction_session_timeout": f"{idle_seconds * 1000:.0f}ms",
        # A session that its machine left without a word holds its locks for a minute, not for two hours.
        "tcp_keepalives_idle": "30",
        "tcp_keepalives_interval": "10",
        "tcp_keepalives_count": "3",
    }
    arguments: dict[str, Any] = {
        # asyncpg reads libpq's options from a DSN only; the rest comes from the URL and goes first.
        "dsn": f"postgresql://?{place.options}" if place.options else None,
        "timeout": place.connect_seconds,
        "command_timeout": STATEMENT_SECONDS,
        "server_settings": settings,
    }
    alone: dict[str, Any] = {"poolclass": NullPool, "isolation_level": "AUTOCOMMIT"}
    pool: dict[str, Any] = {"pool_size": POOL_SIZE // 2, "max_overflow": POOL_SIZE // 2} if pooled else alone
    return create_async_engine(place.url, connect_args=arguments, **pool)
