"""The driver lock: one process at a time drives the rollouts of a store.

It ends with its process, however that ends: the kernel and the server see to it. The last word on a target is still
the lock in the tenant's own database.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path

import anyio
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from orchestrator.errors import StoreError
from orchestrator.store.connections import Connections
from orchestrator.store.faults import cannot_open
from orchestrator.store.lifetime import beside
from orchestrator.store.place import Place

KEYS = {"first": 0x6F726368, "second": 0}
CHECK_SECONDS = 2.0
ANSWER_SECONDS = 5.0
SAID_LIMIT = 200

ACQUIRE = text("SELECT pg_try_advisory_lock(:first, :second)")
RELEASE = text("SELECT pg_advisory_unlock_all()")
BACKEND = text("SELECT pg_backend_pid()")
# `objsubid` 2 marks locks of two keys; another user's application_name is shown to superusers only.
HOLDER = text(
    """
    SELECT activity.pid, activity.application_name, activity.client_addr::text AS address
    FROM pg_locks AS held JOIN pg_stat_activity AS activity USING (pid)
    WHERE held.locktype = 'advisory' AND held.granted AND held.objsubid = 2
      AND held.classid::bigint = :first AND held.objid::bigint = :second
      AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    """
)


def driver_lock(place: Place, on_lost: Callable[[], None]) -> AbstractAsyncContextManager[None]:
    """Hold the lock for the length of a block. Raises StoreError naming the holder if another process has it.

    On PostgreSQL the lock can be lost with its connection: then `on_lost` is called once, within seconds, and nothing
    may be started any more. An SQLite file's lock cannot be lost; a store in memory needs none.
    """
    if place.postgresql:
        return _session_lock(place, on_lost)
    return _file_lock(place.path)


def taken(place: object, holder: str) -> StoreError:
    return StoreError(
        f"another process drives the rollouts of the store ({place}): {holder}",
        remedy="trigger the rollout there with `orchestrator rollout start`, or use another ORCHESTRATOR_STORE_URL",
    )


@asynccontextmanager
async def _file_lock(path: Path | None) -> AsyncIterator[None]:
    if path is None:
        yield
        return
    file = _open(path)
    try:
        _acquire(file, path)
        yield
    finally:
        os.close(file)


def _open(path: Path) -> int:
    """Open the lock file next to the database itself, wherever links lead: one database, one lock."""
    real = Path(os.path.realpath(path))
    try:
        return os.open(real.with_name(real.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as exc:
        fault = cannot_open(real)
        raise StoreError(
            f"the lock of the store ({path}) cannot be opened: {exc.strerror}", remedy=fault.remedy
        ) from exc


def _acquire(file: int, path: Path) -> None:
    """The file stays when the lock is released: to remove it would let two processes lock two files of one name."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        said = os.pread(file, SAID_LIMIT, 0).decode(errors="replace").strip()
        raise taken(path, said or "it does not say who it is") from exc
    os.ftruncate(file, 0)
    os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)


@asynccontextmanager
async def _session_lock(place: Place, on_lost: Callable[[], None]) -> AsyncIterator[None]:
    connections = Connections(place, purpose="driver", pooled=False)
    try:
        session = Session(await connections.connect(), on_lost)
        try:
            await connections.telling(session.acquire(place))
            async with beside(session.watch, session.stop):
                yield
        finally:
            await session.release()
    finally:
        await connections.dispose()


class Session:
    """The server session that holds the lock."""

    def __init__(self, connection: AsyncConnection, on_lost: Callable[[], None]) -> None:
        self._connection = connection
        self._on_lost = on_lost
        self._backend = 0
        self._stopped = anyio.Event()

    async def acquire(self, place: Place) -> None:
        self._backend = await self._connection.scalar(BACKEND)
        if not await self._connection.scalar(ACQUIRE, KEYS):
            holder = (await self._connection.execute(HOLDER, KEYS)).first()
            raise taken(place, described(*holder) if holder else "it has just let go")

    async def watch(self) -> None:
        """Ask again and again whether the session still lives, until stopped or until it does not."""
        while await self._is_alive():
            with anyio.move_on_after(CHECK_SECONDS):
                await self._stopped.wait()
                return
        await self._connection.invalidate()
        self._on_lost()

    async def _is_alive(self) -> bool:
        """Another backend's answer means a pooler between us and the server, which may give the lock's to others."""
        try:
            with anyio.fail_after(ANSWER_SECONDS, shield=True):
                return bool(await self._connection.scalar(BACKEND) == self._backend)
        except (SQLAlchemyError, OSError):
            return False

    async def stop(self) -> None:
        self._stopped.set()

    async def release(self) -> None:
        """Unlock first: the server ends a closed session at its leisure, and the next process should not wait."""
        with anyio.move_on_after(ANSWER_SECONDS, shield=True):
            if not self._connection.invalidated:
                with suppress(SQLAlchemyError, OSError):
                    await self._connection.execute(RELEASE)
            await self._connection.close()


def described(pid: int, application: str | None, address: str | None) -> str:
    """
    >>> described(4711, "orchestrator driver db1:99", "10.0.0.7/32")
    'session 4711 (orchestrator driver db1:99) from 10.0.0.7'
    """
    name = f" ({application})" if application else ""
    return f"session {pid}{name}" + (f" from {address.partition('/')[0]}" if address else "")
