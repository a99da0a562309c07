"""Decides when each backfill's next batch goes, and how large it is: all that run in this process."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

import anyio
import structlog

from orchestrator.backfill import orders
from orchestrator.backfill.model import Answer, Go, Report, Stop, Wait
from orchestrator.backfill.orders import Who
from orchestrator.backfill.steering import Order, Scope
from orchestrator.backfill.view import Underway
from orchestrator.databases.base import Limits
from orchestrator.errors import TargetError
from orchestrator.events import Event
from orchestrator.events import now as utc_now
from orchestrator.execute.holding import BUDGET, DUTY, Cause
from orchestrator.execute.loads import Load, Ruling
from orchestrator.execute.probing import Probes
from orchestrator.execute.sampling import OPENERS, Open
from orchestrator.execute.turns import Run
from orchestrator.registry.model import Registry, Target

# An ask blocks for so long at most; who is held asks again after so long.
LONGEST_SECONDS = 1.0
HELD_SECONDS = 0.5

log = structlog.get_logger(__name__)

Stopping = Callable[[], Stop | None]


class Throttle:
    """All backfills of this process, by shard."""

    def __init__(
        self,
        registry: Callable[[], Registry],
        limits: Limits,
        publish: Callable[[Event], None],
        on_deadline: Callable[[str, str], None],
        *,
        openers: Mapping[str, Open] = OPENERS,
        moment: Callable[[], datetime] = utc_now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_deadline` is told of a rollout one of whose backfills was held for too long, and why. `moment` is the
        clock of people, by which hours go; `clock` one that never goes back, in seconds."""
        self._registry, self._limits, self._probes = registry, limits, Probes(limits)
        self._publish, self._on_deadline = publish, on_deadline
        self._openers, self._moment, self._clock = openers, moment, clock
        self._loads: dict[str, Load] = {}
        self._orders: tuple[Order, ...] = ()
        self._throttled: defaultdict[tuple[str, str], float] = defaultdict(float)

    @asynccontextmanager
    async def turn(self, rollout: str, target: Target, stop: Stopping) -> AsyncIterator[Turn]:
        """While a target's migration may hold backfills. `stop` is asked before each batch, and while one waits: what
        it gives ends the backfill there. The shard's signals are read from the first turn to the last."""
        load = self._loads.get(target.shard)
        if load is None:
            load = self._loads[target.shard] = Load(
                target.shard, self._registry, self._limits, self._probes, self._openers, self._publish, self._clock
            )
        turn = Turn(self, load, rollout, target, stop, self._moment())
        load.turns.add(turn)
        reason = "its migration ended"
        try:
            yield turn
        except TargetError as exc:
            reason = exc.message
            raise
        finally:
            turn.leave(reason)
            load.turns.discard(turn)
            if not load.turns:
                del self._loads[target.shard]
                with anyio.CancelScope(shield=True):
                    await load.close()

    def order(self, order: Order) -> int:
        """It counts from now on; how many backfills that run it concerns. See `orders.refusal` for what cannot be."""
        concerned = self.concerned(order.scope)
        self._replace((*self._orders, order))
        return concerned

    def restore(self, kept: Iterable[Order]) -> None:
        """The orders that were kept, in the place of all that there are."""
        self._replace(tuple(kept))

    def concerned(self, scope: Scope) -> int:
        """How many backfills that run now a scope covers."""
        return sum(
            scope.covers(run.rollout, run.target.shard, run.target.tenant, run.backfill.revision)
            for run in self._runs()
        )

    def underway(self) -> Sequence[Underway]:
        now = self._clock()
        return [run.view(now) for run in self._runs()]

    def throttled_seconds(self) -> Mapping[tuple[str, str], float]:
        """By shard and reason: how long backfills were held, each by itself, since this process began."""
        return dict(self._throttled)

    @property
    def orders(self) -> tuple[Order, ...]:
        return self._orders

    def _runs(self) -> Iterable[Run]:
        for load in self._loads.values():
            for turn in load.turns:
                if turn.run is not None:
                    yield turn.run

    def _replace(self, given: Sequence[Order]) -> None:
        """Forget what counts no more: an abort concerns what runs when it is given."""
        since = min((turn.since for load in self._loads.values() for turn in load.turns), default=None)
        aborts = [one for one in given if one.action == "abort" and since is not None and one.at >= since]
        self._orders = (*orders.remaining(given), *aborts)
        for load in self._loads.values():
            load.woken()

    def _counted(self, shard: str) -> Callable[[str, float], None]:
        def count(reason: str, seconds: float) -> None:
            self._throttled[shard, reason] += seconds

        return count


class Turn:
    """One target's migration, as its backfills ask."""

    def __init__(
        self, throttle: Throttle, load: Load, rollout: str, target: Target, stop: Stopping, since: datetime
    ) -> None:
        self._throttle, self._load, self._stop = throttle, load, stop
        self.rollout, self.target, self.since = rollout, target, since
        self.run: Run | None = None
        # Its signals are read from now on: when the first backfill asks, they are known.
        self._ruling: Ruling | None = None
        self._ruled("")

    @property
    def ruling(self) -> Ruling | None:
        """What it goes by, as of its last question."""
        return self._ruling

    async def ask(self, report: Report) -> Answer:
        """What the loop may do. Blocks for about a second at most."""
        throttle = self._throttle
        now = throttle._clock()
        ends = now + LONGEST_SECONDS
        run = self._heard(report, now)
        if report.progress.finished:
            self._load.budget.leave(run.flow)
            run.finish(now, throttle._moment())
            self.run = None
            return Go(run.pace.size)
        while isinstance(answer := self._decide(run, now), Wait) and now < ends:
            await self._load.wait(min(answer.seconds, ends - now))
            now = throttle._clock()
        if isinstance(answer, Stop):
            self._load.budget.leave(run.flow)
            run.give_up(answer.kind, answer.reason, now, throttle._moment())
            self.run = None
        return Wait(min(answer.seconds, HELD_SECONDS)) if isinstance(answer, Wait) else answer

    def leave(self, reason: str) -> None:
        """Its migration is over."""
        if self.run is not None:
            self._load.budget.leave(self.run.flow)
            self.run.give_up("failed", reason, self._throttle._clock(), self._throttle._moment())
            self.run = None

    def _heard(self, report: Report, now: float) -> Run:
        throttle, load, run = self._throttle, self._load, self.run
        moment = throttle._moment()
        if run is not None and run.backfill != report.backfill:
            self.leave("another one has begun")
            run = None
        ruling = self._ruled(report.backfill.revision)
        if run is None:
            counted = throttle._counted(load.shard)
            run = self.run = Run(
                self.rollout,
                self.target,
                report,
                ruling.standing.rules,
                load.readings,
                load.shared,
                throttle._publish,
                counted,
                now,
                moment,
            )
        if report.last is not None:
            load.settle(run.flow, report.last, now)
        run.hear(report, now, moment)
        return run

    def _ruled(self, revision: str) -> Ruling:
        who = Who(self.rollout, self.target.shard, self.target.tenant, revision, self.since)
        self._ruling = self._load.ruling(self._ruling, self._throttle._orders, who)
        return self._ruling

    def _decide(self, run: Run, now: float) -> Answer:
        throttle, load = self._throttle, self._load
        ruling, moment = self._ruled(run.backfill.revision), throttle._moment()
        run.adjust(ruling.standing.rules)
        if (stop := self._stop() or run.stop or ruling.aborted()) is not None:
            return stop
        if causes := load.causes(run, ruling, now, moment):
            load.budget.leave(run.flow)  # its share is for the others meanwhile
            run.hold(causes, now, moment)
            self._look_at_deadline(run, now)
            return Wait(HELD_SECONDS)
        if run.rest_until > now:
            run.hold([Cause(run.rest, _RESTS[run.rest], routine=True)], now, moment)
            return Wait(run.rest_until - now)
        size, seconds = load.draw(run.flow, run.pace.size, ruling, now)
        if seconds > 0:
            run.hold([Cause(BUDGET, load.budget_text(), routine=True)], now, moment)
            return Wait(seconds)
        run.hold((), now, moment)
        run.overdue = False
        run.start(size)
        return Go(size)

    def _look_at_deadline(self, run: Run, now: float) -> None:
        since, most = run.holding.signals_since, run.rules.deadline_seconds
        if since is None or run.overdue or now - since < most:
            return
        run.overdue = True
        said = f"the backfill of {run.backfill.table} on {run.target.key} was held for more than {most:g} s"
        self._throttle._on_deadline(run.rollout, f"{said}: {run.holding.signals()}")


_RESTS = {
    DUTY: "a pause between batches, as `duty` says",
    "refused": "a pause after a batch that the server refused",
}
