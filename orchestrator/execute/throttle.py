"""Decides when each backfill's next batch goes, and how large it is: all that run in this process."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from orchestrator.backfill import effects, orders
from orchestrator.backfill.effects import Effect
from orchestrator.backfill.model import Progress
from orchestrator.backfill.records import Record
from orchestrator.backfill.steering import Order
from orchestrator.backfill.view import Underway
from orchestrator.errors import TargetError
from orchestrator.execute.holding import FIRST, REFUSED
from orchestrator.execute.loads import Load, Member
from orchestrator.execute.runs import Run
from orchestrator.execute.surroundings import Surroundings
from orchestrator.execute.turns import Stopping, Turn
from orchestrator.execute.untold import finished
from orchestrator.registry.model import Target


class Throttle:
    """All backfills of this process, by shard. Everything here runs on the event loop's thread."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._loads: dict[str, Load] = {}
        self._turns: dict[tuple[str, str, str], Turn] = {}
        self._ending: set[asyncio.Task[None]] = set()

    @contextmanager
    def turn(self, rollout: str, target: Target, stop: Stopping) -> Iterator[Turn]:
        """From a migration's first question to its end. `stop` tells why its rollout keeps it from going on; it is
        asked before batches, and while one waits. The shard's signals are read from the first turn to the last."""
        load = self._loads.get(target.shard)
        if load is None:
            load = self._loads[target.shard] = Load(target.shard, self._around)
        turn = Turn(self._around, load, rollout, target, stop)
        load.turns.add(turn)
        place = rollout, target.tenant, target.track
        self._turns[place] = turn
        reason = "its migration ended before its last row"
        try:
            yield turn
        except TargetError as exc:
            reason = exc.message
            raise
        finally:
            turn.leave(reason)
            load.turns.discard(turn)
            if self._turns.get(place) is turn:
                del self._turns[place]
            if not load.turns:
                del self._loads[target.shard]
                self._end(load)

    async def left(self, rollout: str, target: Target) -> Sequence[Record]:
        return await self._around.left(rollout, target.tenant, target.track)

    def found_finished(self, record: Record, progress: Progress) -> None:
        for event in finished(record, progress):
            self._around.publish(event)

    async def kept(self) -> None:
        await self._around.kept()

    def _end(self, load: Load) -> None:
        ending = load.end()
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    def on_deadline(self, tell: Callable[[str, str], object]) -> None:
        """Tell of a rollout one of whose backfills was held for too long, and why, here from now on."""
        self._around.on_deadline = tell

    async def closed(self) -> None:
        """Wait until the sessions of shards without turns are closed; seconds, where their servers do not answer."""
        while self._ending:
            await asyncio.wait(set(self._ending))

    def order(self, order: Order) -> Effect:
        """It counts from now on; what it comes to. See `orders.refusal` for what cannot be."""
        comes_to = effects.effect(self._around.orders, order, self.underway())
        if order.action == "abort":  # of what runs now; whatever begins later knows nothing of it
            for run in self._runs():
                if orders.concerns(order, run.who):
                    run.aborted = order
        self._count((*self._around.orders, order))
        return comes_to

    def restore(self, kept: Iterable[Order]) -> None:
        """The orders that stand, the oldest first, in the place of all that there are."""
        self._count(tuple(kept))

    def _count(self, given: Sequence[Order]) -> None:
        self._around.orders = tuple(orders.remaining(given))
        for load in self._loads.values():
            load.wake()

    @property
    def orders(self) -> Sequence[Order]:
        """Those that count."""
        return self._around.orders

    def underway(self) -> Sequence[Underway]:
        """A backfill is among them before its start is told, and until its end has been."""
        now = self._around.clock()
        return [run.view(now) for run in self._runs()]

    def of(self, rollout: str, tenant: str, track: str) -> Underway | None:
        """As `underway`, of one target."""
        turn = self._turns.get((rollout, tenant, track))
        return None if turn is None or turn.run is None else turn.run.view(self._around.clock())

    def throttled_seconds(self) -> Mapping[tuple[str, str], float]:
        """By shard and reason: how long backfills were held, each by itself, since this process began."""
        return dict(self._around.throttled)

    def signals(self) -> Mapping[tuple[str, str], float]:
        """By shard and signal: what was read last, on the shards where backfills run."""
        return {(shard, name): n for shard, load in self._loads.items() for name, n in load.readings.values().items()}

    def in_progress(self) -> Mapping[str, int]:
        """Backfills that run or wait, by shard; those that wait for their first batch, too."""
        return {shard: sum(turn.run is not None for turn in load.turns) for shard, load in self._loads.items()}

    def resting(self) -> Mapping[str, int]:
        """By rollout: how many targets' backfills wait for what somebody has said, for hours, a budget or a signal."""
        held = (
            run.rollout
            for run in self._runs()
            if any(hold.reason not in (REFUSED, FIRST) for hold in run.holding.shown(self._around.clock()))
        )
        return Counter(held)

    def _members(self) -> Iterable[Member]:
        for load in self._loads.values():
            yield from load.turns

    def _runs(self) -> Iterable[Run]:
        return (turn.run for turn in self._members() if turn.run is not None)
