"""Writes to the store how far backfills are: what a standby shows, and what is left after a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Protocol

import anyio
import structlog

from orchestrator.backfill.changes import changed, ended
from orchestrator.backfill.records import UNFINISHED, Key, Record, State, key_of, standing
from orchestrator.backfill.steering import Order
from orchestrator.backfill.view import Underway
from orchestrator.errors import LeadershipLostError, OrchestratorError
from orchestrator.events import (
    BackfillEvent,
    BackfillFinished,
    BackfillHoldEvent,
    BackfillProgressed,
    BackfillStarted,
    BackfillStopped,
    Event,
    RolloutEvent,
    RolloutStateChanged,
    now,
)
from orchestrator.rollout.state import FINISHED
from orchestrator.store.backfills import Field, StoreBackfills
from orchestrator.store.lifetime import beside

# Progress is written this often, and so much is lost of it with the process: the checkpoints on the targets count.
EVERY_SECONDS = 5.0
# What begins, ends or is held is written at once; so long it is waited for others, so that 500 make one transaction.
GATHER_SECONDS = 0.5
CLOSE_SECONDS = 10.0

# Of what nobody is at: anything but `finished`.
LEFT: Sequence[State] = (*UNFINISHED, "stopped")

Place = tuple[str, str, str]  # rollout, tenant, track

log = structlog.get_logger(__name__)


class Throttle(Protocol):
    """Whoever decides about batches. A backfill is among those `underway` before its start is told, and until its end
    is."""

    def underway(self) -> Sequence[Underway]: ...

    def of(self, rollout: str, tenant: str, track: str) -> Underway | None:
        """The one that this target is at."""
        ...

    @property
    def orders(self) -> Sequence[Order]:
        """Those that count."""
        ...

    def order(self, order: Order) -> object:
        """Let it count from now on."""
        ...

    def restore(self, kept: Iterable[Order]) -> None:
        """The orders that stand, in the place of all that there are: when the process begins to lead."""
        ...


class Idle:
    """Of a process that runs no backfills."""

    @property
    def orders(self) -> Sequence[Order]:
        return ()

    def underway(self) -> Sequence[Underway]:
        return ()

    def of(self, rollout: str, tenant: str, track: str) -> None:
        return None

    def order(self, order: Order) -> None:
        pass

    def restore(self, kept: Iterable[Order]) -> None:
        pass


class Keeper:
    """Give `publish` to who tells of backfills: what is durable is told once it is written, the rest at once."""

    def __init__(
        self,
        records: StoreBackfills,
        publish: Callable[[Event], object],
        throttle: Throttle | None = None,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self.throttle: Throttle = throttle or Idle()
        self._records, self._publish, self._clock = records, publish, clock
        self._known: dict[Key, Record] = {}
        self._ended: dict[Key, Record] = {}
        self._left: dict[Place, dict[Key, Record]] = {}
        self._events: list[RolloutEvent] = []
        self._more = anyio.Event()
        self._written_at = float("-inf")
        self._one_at_a_time = anyio.Lock()

    def publish(self, event: Event) -> None:
        """On the event loop's thread; never blocks."""
        if isinstance(event, BackfillEvent):
            self._follow(event)
        if isinstance(event, BackfillEvent) and not isinstance(event, BackfillProgressed):
            self._events.append(event)
            self._more.set()
            return
        if isinstance(event, BackfillHoldEvent):
            self._more.set()
        self._publish(event)

    def _follow(self, event: BackfillEvent) -> None:
        key = Key(event.rollout, event.tenant, event.track, event.revision, event.direction, event.ordinal)  # type: ignore[arg-type]
        if isinstance(event, BackfillStarted):
            self._ended.pop(key, None)
        elif isinstance(event, BackfillFinished | BackfillStopped):
            if (view := self._view(key)) is not None:
                self._ended[key] = ended(view, event)
            self._left.get(_place(key), {}).pop(key, None)

    def _view(self, key: Key) -> Underway | None:
        view = self.throttle.of(key.rollout, key.tenant, key.track)
        if view is not None and key_of(view) == key:
            return view
        known = self._known.get(key) or self._left.get(_place(key), {}).get(key)
        return None if known is None else known.view

    def forget(self, event: Event) -> None:
        """Subscribe this to the bus. A rollout that has ended has no backfills whose end may be published yet."""
        if isinstance(event, RolloutStateChanged) and event.state in FINISHED:
            self._left = {place: found for place, found in self._left.items() if place[0] != event.rollout}

    async def left(self, rollout: str, tenant: str, track: str) -> Sequence[Record]:
        """The backfills of a target that nobody is at now, and that have not come to their end as far as the store
        knows: the end of any of them may be published from now on. Raises StoreError."""
        await self.catch_up()
        only: Mapping[Field, str] = {"rollout": rollout, "tenant": tenant, "track": track}
        found = await self._records.listed(only=only, states=LEFT)
        self._left[rollout, tenant, track] = {record.key: record for record in found}
        return found

    async def run(self) -> None:
        """Write until cancelled. Raises StoreError: what cannot be recorded is not done."""
        while True:
            with anyio.move_on_after(EVERY_SECONDS):
                await self._more.wait()
                await anyio.sleep(GATHER_SECONDS)
            try:
                await self.flush()
            except LeadershipLostError:  # which ends the process, and all that is underway in it
                return

    async def catch_up(self) -> None:
        """Return when what has begun or ended is written. Where another process leads by now, it knows better."""
        if self._events or self._one_at_a_time.locked():  # what is on its way is not there yet
            with suppress(LeadershipLostError):
                async with self._one_at_a_time:
                    if self._events:  # else who wrote meanwhile has written ours, too
                        await self._write()

    async def close(self) -> None:
        """Write all that is left to be written, for some seconds at most. To be called while the process has the lead
        still, when nothing runs any more."""
        with anyio.move_on_after(CLOSE_SECONDS, shield=True):
            try:
                await self.flush(all_of_it=True)
            except OrchestratorError as exc:  # the lead was lost, say: whoever has it now tells of them
                log.warning("backfills_not_kept", message=exc.message)

    async def flush(self, *, all_of_it: bool = False) -> None:
        """Write what begins, has ended or is held otherwise, and, when it is time or all is asked for, all progress."""
        async with self._one_at_a_time:
            await self._write(all_of_it=all_of_it)

    async def _write(self, *, all_of_it: bool = False) -> None:
        """While `_one_at_a_time` is held."""
        self._more = anyio.Event()
        due = all_of_it or anyio.current_time() - self._written_at >= EVERY_SECONDS
        events, self._events = self._events, []
        current = {key_of(view): standing(view) for view in self.throttle.underway()}
        ended = dict(self._ended)  # others end while these are written
        records = changed(self._known, {**current, **ended}, self._clock(), progress=due)
        try:
            await self._records.save(records, events)
        except OrchestratorError:  # whoever writes next fails in the same way, or has it written
            self._events = [*events, *self._events]
            self._more.set()
            raise
        if due:
            self._written_at = anyio.current_time()
        self._known.update({record.key: record for record in records})
        self._ended = {k: record for k, record in self._ended.items() if k in current or ended.get(k) is not record}
        self._known = {k: record for k, record in self._known.items() if not record.finished_at or k in self._ended}

    @asynccontextmanager
    async def keeping(self) -> AsyncIterator[None]:
        """Write while the block runs, and what is left at its end."""
        scope = anyio.CancelScope()

        async def run() -> None:
            with scope:
                await self.run()

        async def stop() -> None:
            scope.cancel()
            await self.close()

        async with beside(run, stop):
            yield


def _place(key: Key) -> Place:
    return key.rollout, key.tenant, key.track
