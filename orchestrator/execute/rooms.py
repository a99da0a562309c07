"""Ask servers that migrations run on for their head-room, and limit what starts on them by it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import structlog

from orchestrator.databases import refusals
from orchestrator.databases.occupancy import Occupancy, is_full
from orchestrator.errors import TargetError, TargetUnreachableError
from orchestrator.events import Event, ShardLimitChanged, ShardThrottled
from orchestrator.execute import headroom
from orchestrator.execute.classify import is_server_down
from orchestrator.execute.headroom import Room
from orchestrator.execute.slots import Limits, Slots
from orchestrator.registry.model import Registry, Shard, Target, TargetKey

# A server is asked this often, and oftener when it has refused a connection or has none to spare.
ASK_EVERY_SECONDS = 3.0
ASK_AGAIN_SECONDS = 1.0
# Without an answer for so long, targets find out for themselves.
ASK_SECONDS = 5.0
# One database may be missing or full: then others are asked for.
TRIES = 3
# So long a server may have no connection to spare before its targets are given up.
PATIENCE_SECONDS = 600.0

Ask = Callable[[Registry, Target], Awaitable[Occupancy | None]]

log = structlog.get_logger(__name__)


@dataclass(eq=False, slots=True)
class _Watch:
    """What is known of one shard's server. `guessed`: the room is not what it was last asked for. `dry`: since when a
    database, or with None the server, has no room. `told` and `allowed`: what was last told of its limit."""

    shard: str
    shares: int = 0
    room: Room = headroom.ASKING
    guessed: bool = True
    asked_at: float | None = None
    urgent: bool = False
    cursor: int = 0
    dry: dict[str | None, float] = field(default_factory=dict)
    cause: str = ""
    told: int | None = None
    allowed: int = 0
    woken: anyio.Event = field(default_factory=anyio.Event)
    lock: anyio.Lock = field(default_factory=anyio.Lock)

    def due(self, now: float) -> float:
        """Seconds until the server is to be asked."""
        if self.asked_at is None:
            return 0.0
        soon = self.urgent or self.room.migrations == 0
        return self.asked_at + (ASK_AGAIN_SECONDS if soon else ASK_EVERY_SECONDS) - now


class HeadRooms:
    """The head-room of all shards that are driven. One for the process, beside its slots."""

    def __init__(self, slots: Slots, ask: Ask, publish: Callable[[Event], None]) -> None:
        """`ask` may raise TargetError; it returns None where there is no server."""
        self._slots, self._ask_of, self._publish = slots, ask, publish
        self._watches: dict[str, _Watch] = {}

    def limits(self, registry: Registry, name: str) -> Limits:
        """What the registry allows now and the server bears, as far as is known."""
        shard = registry.shards.get(name)
        if shard is None:
            return Limits(1)
        watch = self._watches.get(name)
        if watch is None or not watch.shares or None in self._overdue(watch):
            return headroom.UNKNOWN.limits(shard)
        limits = watch.room.limits(shard)
        tried = {database: 1 for database in self._overdue(watch) if database is not None}
        return Limits(limits.shard, limits.per_database, {**limits.databases, **tried})

    def refusal(self, name: str) -> TargetUnreachableError | None:
        """Why targets of the shard are not to be tried: its server has had no connection to spare for too long."""
        watch = self._watches.get(name)
        if watch is None or None not in self._overdue(watch):
            return None
        kind, remedy, _ = refusals.FULL
        return TargetUnreachableError(
            f"not tried: shard {name} has had no connection to spare for {PATIENCE_SECONDS:g} s ({watch.room.reason})",
            kind=kind,
            remedy=remedy,
        )

    def note(self, registry: Registry, name: str, exc: TargetError) -> None:
        """A target was refused a connection, perhaps: then no other starts until the server is asked, which is soon."""
        if is_full(exc) and (watch := self._watches.get(name)) is not None:
            watch.room, watch.guessed, watch.urgent = headroom.refused(exc.message), True, True
            self._slots.limit(name, self.limits(registry, name))
            watch.woken.set()
            watch.woken = anyio.Event()

    @asynccontextmanager
    async def driven(
        self, name: str, registry: Callable[[], Registry], keys: Sequence[TargetKey]
    ) -> AsyncIterator[None]:
        """While migrations run on the shard: ask its server again and again, through one of these targets."""
        watch = self._watches.setdefault(name, _Watch(name))
        if not watch.shares:
            watch.dry = {}  # patience begins anew, whatever was known before
            if watch.due(anyio.current_time()) <= 0:
                watch.room, watch.guessed = headroom.ASKING, True
        watch.shares += 1
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._keep, watch, registry, keys)
                yield
                tasks.cancel_scope.cancel()
        finally:
            watch.shares -= 1
            if not watch.shares:
                self._tell(watch, registry().shards.get(name), headroom.UNKNOWN)

    async def _keep(self, watch: _Watch, registry: Callable[[], Registry], keys: Sequence[TargetKey]) -> None:
        while True:
            async with watch.lock:  # several rollouts may be on the shard
                if watch.due(anyio.current_time()) <= 0:
                    await self._ask(watch, registry(), keys)
            with anyio.move_on_after(max(0.0, watch.due(anyio.current_time()))):
                await watch.woken.wait()

    async def _ask(self, watch: _Watch, registry: Registry, keys: Sequence[TargetKey]) -> None:
        shard = registry.shards.get(watch.shard)
        found: Room | None = None
        if shard is not None:
            with anyio.move_on_after(ASK_SECONDS):
                found = await self._answer(watch, registry, shard, keys)
        watch.asked_at, watch.urgent = anyio.current_time(), False
        if found is not None or watch.guessed:
            watch.room, watch.guessed = found or headroom.UNKNOWN, False
        dry = [name for name, most in watch.room.databases.items() if not most]
        empty = [*dry, *([None] if watch.room.migrations == 0 else [])]
        watch.dry = {name: watch.dry.get(name, watch.asked_at) for name in empty}
        self._slots.limit(watch.shard, self.limits(registry, watch.shard))
        self._tell(watch, shard, watch.room)

    async def _answer(self, watch: _Watch, registry: Registry, shard: Shard, keys: Sequence[TargetKey]) -> Room | None:
        """What the server says, or that it refuses to; None when nobody could be asked."""
        full: TargetError | None = None
        for _ in range(min(TRIES, len(keys))):
            target = registry.by_key.get(keys[watch.cursor % len(keys)])
            try:
                if target is not None and target.shard == shard.name:
                    occupancy = await self._ask_of(registry, target)
                    if occupancy is None:
                        return headroom.UNKNOWN
                    return headroom.room(occupancy, shard.reserve_connections, self._slots.running(shard.name))
            except TargetError as exc:
                full = exc if is_full(exc) else full
                if is_server_down(exc):
                    break
            except Exception:
                log.exception("asking_for_head_room_crashed", shard=shard.name)
                return None
            watch.cursor += 1
        return headroom.refused(full.message) if full is not None else None

    def _overdue(self, watch: _Watch) -> set[str | None]:
        now = anyio.current_time()
        return {name for name, since in watch.dry.items() if now - since >= PATIENCE_SECONDS}

    def _tell(self, watch: _Watch, shard: Shard | None, found: Room) -> None:
        """Tell of what has changed since it was told last."""
        if shard is None:  # the registry no longer has it: what was told of it is over
            if watch.cause:
                self._publish(ShardLimitChanged(shard=watch.shard, limit=watch.allowed, allowed=watch.allowed))
            watch.cause, watch.told = "", None
            return
        cause, reason = headroom.throttled(found, shard)
        limit, before = found.limits(shard).shard, watch.told
        if cause and cause != watch.cause:
            self._publish(ShardThrottled(shard=shard.name, limit=limit, allowed=shard.max_concurrent, reason=reason))
        if limit != (shard.max_concurrent if before is None else before) or (watch.cause and not cause):
            self._publish(
                ShardLimitChanged(
                    shard=shard.name, limit=limit, allowed=shard.max_concurrent, reason=reason if cause else None
                )
            )
        watch.cause, watch.told, watch.allowed = cause, limit if cause else None, shard.max_concurrent
