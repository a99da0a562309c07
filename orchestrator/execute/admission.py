"""Let a share's migrations in: each with a slot, while the rollout goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio

from orchestrator.errors import TargetError, TargetUnreachableError
from orchestrator.execute.gate import Gate, Group
from orchestrator.execute.gated import Gated, OnlyOpen
from orchestrator.execute.rooms import HeadRooms
from orchestrator.execute.slots import Part, Slots, Wanted
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
        gate: Gate,
    ) -> None:
        self._gate, self._retrying = gate, list[Migration]()
        self._share, self._part, self._slots, self._rooms = share, part, slots, rooms
        self._registry, self._control = registry, control
        self._waiting: set[anyio.CancelScope] = set()
        known = registry().by_key
        self._databases = {m.key: known[m.key].database if m.key in known else m.place for m in share.migrations}
        placed = [(migration, self._databases[migration.key]) for migration in share.migrations]
        self._pending = Gated(placed, self._group, self._is_open, lambda: registry().digest)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """While the share is driven: mind the server's head-room, and what becomes of the rollout."""
        await self._gate.refresh()
        keys = [migration.key for migration in self._share.migrations]
        async with self._rooms.driven(self._share.shard, self._registry, keys), anyio.create_task_group() as tasks:
            tasks.start_soon(self._call_back)
            yield
            tasks.cancel_scope.cancel()
        await self._control.hold(self._share.shard, [], None)  # nobody waits here any more

    async def next(self) -> Migration | None:
        """The migration that starts next, with a slot for it; None when no further one may start."""
        while self._pending:
            database = await self._enter(self._pending)
            if database is None:
                return None
            if (migration := self._pending.take(database)) is not None:
                return migration
            self._release(database)  # its hours have just ended
        return None

    async def again(self, migration: Migration) -> bool:
        """Wait for its hours and a slot, for a migration that started before; False when it may not go on."""
        wanted = OnlyOpen(self._databases[migration.key], lambda: self._group(migration), self._is_open)
        self._retrying.append(migration)
        try:
            return await self._enter(wanted) is not None
        finally:
            self._retrying.remove(migration)

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

    def _group(self, migration: Migration) -> Group:
        registry = self._registry()
        return self._gate.group(registry, registry.by_key.get(migration.key), self._share.rollout, migration)

    def _is_open(self, group: Group) -> bool:
        return self._gate.opens(self._registry(), group, overrides=self._control.overrides)

    async def _call_back(self) -> None:
        while True:
            if not self._control.admits:
                for scope in self._waiting:
                    scope.cancel()
            await self._look_at_the_clock()
            await anyio.sleep(LOOK_SECONDS)

    async def _look_at_the_clock(self) -> None:
        """Let those in whose hours have come, and tell what the others wait for."""
        await self._gate.refresh()
        self._slots.look_again()
        registry = self._registry()
        counts = [*self._pending.counts(), *((self._group(one), 1) for one in self._retrying)]
        held = [] if self._control.overrides else self._gate.held(registry, self._share.shard, counts)
        frozen = self._gate.freeze if any(count for _, count in counts) else None
        await self._control.hold(self._share.shard, held, frozen)
