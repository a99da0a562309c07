"""One shard's load while backfills run there: its signals, its budget, and what these hold."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import anyio

from orchestrator.backfill import orders, rules
from orchestrator.backfill.budget import Budget
from orchestrator.backfill.model import Ran, Refused
from orchestrator.backfill.orders import Standing, Who
from orchestrator.backfill.rules import Hours
from orchestrator.backfill.signals import LOST, Held, Readings
from orchestrator.backfill.steering import Order
from orchestrator.execute.holding import FIRST, HOURS, PAUSED, Cause, Shared
from orchestrator.execute.runs import Run
from orchestrator.execute.sampling import Sampler, Wanted
from orchestrator.execute.surroundings import Surroundings
from orchestrator.registry.backfills import DEFAULT_RULES, Rules, Threshold
from orchestrator.registry.model import Target

# A first reading that takes longer is lost.
FIRST_SECONDS = 5.0
# What a batch may have of a budget is found out this often.
SHARES_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Ruling:
    """What one backfill goes by; made anew where the registry's rules or the orders are others (`given`, `orders`)."""

    given: Rules
    orders: tuple[Order, ...]
    who: Who
    standing: Standing
    rows_per_second: float | None
    of_server: Mapping[str, Threshold]
    of_table: Mapping[str, Threshold]
    # Whether its thresholds are those of the whole shard.
    shared: bool


class Member(Protocol):
    """A turn, as its shard sees it."""

    target: Target
    run: Run | None
    ruling: Ruling | None


class Load:
    """Its signals are read from the first turn to the last: see `end`."""

    def __init__(self, shard: str, around: Surroundings) -> None:
        self.shard, self._around = shard, around
        self.turns: set[Member] = set()
        self.readings, self.budget = Readings(), Budget(None, around.clock())
        self.shared = Shared(shard, around.publish)
        self._rules, self._dialect = DEFAULT_RULES, ""
        self._opening: tuple[Rules, Hours] | None = None
        self._missing: dict[str, float] = {}
        self._shares: tuple[float | None, float, int | None] | None = None
        self._changed = anyio.Event()
        self._sampler = Sampler(
            self.readings, self._wanted, around.registry, around.limits, around.probes, around.openers, around.clock
        )
        # Not in a task group of a turn: the first may end long before the last, and one's failure is not the others'.
        self._sampling = asyncio.create_task(self._sampler.run(), name=f"signals of {shard}")

    def end(self) -> asyncio.Task[None]:
        """The last turn has left; the task ends when the session on the server has."""
        self._sampling.cancel()
        return self._sampling

    def wake(self) -> None:
        """Who waits is to look again: an order may concern it."""
        self._changed.set()
        self._changed = anyio.Event()

    async def wait(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self._changed.wait()

    def ruling(self, known: Ruling | None, who: Who) -> Ruling:
        given_orders = self._around.orders
        shard = self._around.registry().shards.get(self.shard)
        if shard is not None:  # one that a reload has taken away keeps to what it had
            self._rules, self._dialect = shard.backfill, shard.dialect
        if known is not None and known.given is self._rules and known.orders is given_orders and known.who == who:
            return known
        standing = orders.standing(given_orders, self._rules, who)
        of_shard = orders.of_shard(given_orders, self._rules, self.shard)
        return Ruling(
            self._rules,
            given_orders,
            who,
            standing,
            of_shard.rows_per_second,
            rules.of_server(standing.rules, self._dialect),
            rules.of_table(standing.rules, self._dialect),
            standing.rules.thresholds == of_shard.thresholds,
        )

    def causes(self, run: Run, ruling: Ruling, now: float, moment: datetime) -> Sequence[Cause]:
        """All that holds it, but for pauses between batches."""
        found = [self._of_signal(one, ruling.shared) for one in run.signals.holds(ruling.of_server, now)]
        if not any(cause.reason == LOST for cause in found):
            found += self._unread(ruling.of_server, ruling.shared, now)
        found += run.table_holds(ruling.of_table, now)
        found += self.paused(ruling)
        opening = self._hours(ruling.standing.rules, moment)
        if not opening.open:
            found.append(Cause(HOURS, rules.told(ruling.standing.rules, opening), shared=True))
        return found

    def paused(self, ruling: Ruling) -> Sequence[Cause]:
        """None, or the one order that holds it."""
        order = ruling.standing.paused
        return [] if order is None else [Cause(PAUSED, f"paused by {ordered(order)}")]

    def draw(self, run: Run, ruling: Ruling, now: float) -> tuple[int, float]:
        """The rows that its next batch may have, and the seconds after which to ask again; 0.0: it may go."""
        self.budget.change(ruling.rows_per_second, now)
        self.budget.join(run.flow, now)
        largest = self._largest(ruling.rows_per_second, now)
        size = run.pace.size if largest is None else min(run.pace.size, largest)
        seconds = self.budget.ask(run.flow, size, now)
        run.given = None if seconds > 0 else size
        return size, seconds

    def _largest(self, rows_per_second: float | None, now: float) -> int | None:
        """Of several hundred backfills each asks twice a second, and to know the shares all have to be looked at."""
        known = self._shares
        if known is None or known[0] != rows_per_second or now - known[1] >= SHARES_SECONDS:
            known = self._shares = (rows_per_second, now, self.budget.largest(now))
        return known[2]

    def settle(self, run: Run, last: Ran | Refused | None, now: float) -> None:
        """What came of the rows that it was given: nothing, where somebody kept it from its batch after all."""
        if run.given is not None:
            self.budget.settle(run.flow, run.given, last.seen if isinstance(last, Ran) else 0, now)
            run.given = None

    def budget_text(self) -> str:
        rate, number = self.budget.rows_per_second or 0.0, len(self.turns)
        return f"the shard's {rate:,.0f} rows a second are used up; shared by {number} targets"

    def _wanted(self) -> Wanted:
        rulings = [turn.ruling for turn in self.turns if turn.ruling is not None]
        names = {name for ruling in rulings for name in ruling.of_server}
        probes = {probe for ruling in rulings for probe in ruling.standing.rules.probes}
        signals = names - {probe.name for probe in probes}
        return Wanted(signals, probes, [turn.target for turn in self.turns])

    def _of_signal(self, held: Held, shared: bool) -> Cause:
        whose = self._sampler.said.get(held.reason)
        return Cause(held.reason, f"{held.text} ({whose})" if whose else held.text, shared=shared, signal=True)

    def _unread(self, thresholds: Mapping[str, Threshold], shared: bool, now: float) -> Sequence[Cause]:
        """Nobody begins blind: before its first reading, a signal holds. For a moment, that is no more than a start."""
        missing = sorted(thresholds.keys() - self.readings.values().keys())
        if not missing:
            return ()
        since = min(self._missing.setdefault(name, now) for name in missing)
        why = next((self._sampler.said[name] for name in missing if self._sampler.said.get(name)), "")
        text = f"{', '.join(missing)} of the shard {'has' if len(missing) == 1 else 'have'} not been read yet"
        if not why and now - since < FIRST_SECONDS:
            return [Cause(FIRST, text, routine=True)]
        return [Cause(LOST, f"{text}: {why}" if why else text, shared=shared, signal=True)]

    def _hours(self, chosen: Rules, moment: datetime) -> Hours:
        """Asked of the calendar only when it can have changed."""
        if self._opening is not None:
            known, opening = self._opening
            if known.hours is chosen.hours and (opening.until is None or moment < opening.until):
                return opening
        opening = rules.opening(chosen, moment)
        self._opening = (chosen, opening)
        return opening


def ordered(order: Order) -> str:
    return f"{order.by}: {order.reason}" if order.reason else order.by
