"""The driver lock: one process at a time drives the rollouts of a store, and another is refused.

An SQLite file's ends with its process, however that ends: the kernel sees to it. The last word on a target is still the
lock in the tenant's own database.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from orchestrator.errors import StoreError
from orchestrator.store.faults import cannot_open
from orchestrator.store.fence import Fence
from orchestrator.store.leadership import Candidate, standing
from orchestrator.store.place import Place
from orchestrator.store.process import Identity

SAID_LIMIT = 200


def driver_lock(
    place: Place, me: Identity, fence: Fence, lease_seconds: float, on_lost: Callable[[str], None]
) -> AbstractAsyncContextManager[object]:
    """Hold the lock for the length of a block. Raises StoreError naming the holder if another process has it.

    On PostgreSQL it is the lead of `store.leadership`, and can be lost: then `on_lost` is called once, with the reason,
    and nothing may be started any more. An SQLite file's lock cannot be lost; a store in memory needs none.
    """
    if place.postgresql:
        return _lead(place, me, fence, lease_seconds, on_lost)
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
async def _lead(
    place: Place, me: Identity, fence: Fence, lease_seconds: float, on_lost: Callable[[str], None]
) -> AsyncIterator[Candidate]:
    async with standing(place, me, fence, lease_seconds, on_lost) as candidate:
        await candidate.tried.wait()
        if not candidate.elected.is_set():
            said = f"{candidate.holder}, for {candidate.left_seconds:.0f} s more if it says nothing"
            raise taken(place, said if candidate.holder else "it has just let go")
        yield candidate
