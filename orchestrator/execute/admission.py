"""Let a share's migrations in: each with a slot, while the rollout goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio

from orchestrator.errors import TargetError, TargetUnreachableError
from orchestrator.execute.pending import Pending
from orchestrator.execute.rooms import HeadRooms
from orchestrator.execute.slots import Only, Part, Slots, Wanted
from orchestrator.registry.model import Registry
from orchestrator.rollout.ports import Control, Share
from orchestrator.rollout.state import Migration

# A server without room may keep us waiting for minutes: who waits is called back as the rollout is paused or ends.
LOOK_SECONDS = 0.5


class Admission:
    """What stands between a share's migrations and their start."""

    def __init__(
        self,
        share: Share,
        part: Part,
        slots: Slots,
        rooms: HeadRooms,
        registry: Callable[[], Registry],
        control: Control,
    ) -> None:
        self._share, self._part, self._slots, self._rooms = share, part, slots, rooms
        self._registry, self._control = registry, control
        self._waiting: set[anyio.CancelScope] = set()
        known = registry().by_key
        self._databases = {m.key: known[m.key].database if m.key in known else m.place for m in share.migrations}
        self._pending = Pending((migration, self._databases[migration.key]) for migration in share.migrations)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """While the share is driven: mind the server's head-room, and what becomes of the rollout."""
        keys = [migration.key for migration in self._share.migrations]
        async with self._rooms.driven(self._share.shard, self._registry, keys), anyio.create_task_group() as tasks:
            tasks.start_soon(self._call_back)
            yield
            tasks.cancel_scope.cancel()

    async def next(self) -> Migration | None:
        """The migration that starts next, with a slot for it; None when no further one may start."""
        database = await self._enter(self._pending) if self._pending else None
        return None if database is None else self._pending.take(database)

    async def again(self, migration: Migration) -> bool:
        """Wait for a slot for a migration that started before; False when it may not go on."""
        return await self._enter(Only(self._databases[migration.key])) is not None

    def leave(self, migration: Migration) -> None:
        """Give a slot back."""
        self._release(self._databases[migration.key])

    def note(self, exc: TargetError) -> None:
        """What a target was told may be of use to the others."""
        self._rooms.note(self._registry(), self._share.shard, exc)

    @property
    def refusal(self) -> TargetUnreachableError | None:
        """Why no target is to be tried at present, though it may start."""
        return self._rooms.refusal(self._share.shard)

    async def _enter(self, wanted: Wanted) -> str | None:
        """Wait for a slot and for permission, both at once."""
        while await self._control.admit():
            database = await self._acquire(wanted)
            if database is None:
                continue  # called back
            if self._control.admits:
                return database
            self._release(database)
        return None

    async def _acquire(self, wanted: Wanted) -> str | None:
        shard = self._share.shard
        self._slots.limit(shard, self._rooms.limits(self._registry(), shard))
        with anyio.CancelScope() as scope:
            self._waiting.add(scope)
            try:
                return await self._slots.acquire(self._part, shard, wanted)
            finally:
                self._waiting.discard(scope)
        return None

    def _release(self, database: str) -> None:
        self._slots.release(self._part, self._share.shard, database)

    async def _call_back(self) -> None:
        while True:
            await anyio.sleep(LOOK_SECONDS)
            if not self._control.admits:
                for scope in self._waiting:
                    scope.cancel()
