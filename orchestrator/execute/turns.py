"""One target's migration, as its backfills ask whether their next batch may go."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.backfill.model import Answer, Backfill, Go, Report, Stop, Wait
from orchestrator.backfill.orders import Who
from orchestrator.backfill.steering import Order
from orchestrator.execute.holding import BUDGET, DUTY, REFUSED, ROLLOUT, WRITERS, Cause
from orchestrator.execute.loads import Load, Ruling, ordered
from orchestrator.execute.runs import Run
from orchestrator.execute.surroundings import Surroundings
from orchestrator.registry.model import Target
from orchestrator.rollout.interruptions import Interruption

# An ask blocks for so long at most; who is held asks again after so long.
LONGEST_SECONDS = 1.0
HELD_SECONDS = 0.5

Stopping = Callable[[], Interruption | None]

_RESTS = {
    DUTY: "a pause between batches, as `duty` says",
    REFUSED: "a pause after a batch that the server refused",
}


class Turn:
    """See `Throttle.turn`. `ruling`: what it goes by, as of late."""

    def __init__(self, around: Surroundings, load: Load, rollout: str, target: Target, stop: Stopping) -> None:
        self._around, self._load, self._stop = around, load, stop
        self.rollout, self.target = rollout, target
        self.run: Run | None = None
        self._over: tuple[Backfill, Answer] | None = None
        self.ruling: Ruling | None = None
        self._ruled("")  # its signals are read from now on

    async def ask(self, report: Report) -> Answer:
        """What the loop may do. Blocks for about a second at most. What is reported counts, whatever is answered."""
        around = self._around
        now = around.clock()
        ends = now + LONGEST_SECONDS
        if report.progress.finished and self._over is not None and self._over[0] == report.backfill:
            return self._over[1]  # whoever asked did not hear it
        run = self._heard(report, now)
        while isinstance(answer := self._decided(run, report, now), Wait) and now < ends and not report.waits:
            await self._load.wait(min(answer.seconds, ends - now))
            now = around.clock()
        if report.progress.finished and not isinstance(answer, Wait):
            self._finish(run, answer, now)
        elif isinstance(answer, Stop):
            self._end(run, answer.kind, answer.reason)
        return Wait(min(answer.seconds, HELD_SECONDS)) if isinstance(answer, Wait) else answer

    def leave(self, reason: str) -> None:
        """Its migration is over."""
        if self.run is not None:
            self._end(self.run, "failed", reason)

    def _finish(self, run: Run, answer: Answer, now: float) -> None:
        self._load.budget.leave(run.flow, now)
        run.finish(now, self._around.moment())
        self.run, self._over = None, (run.backfill, answer)

    def _end(self, run: Run, kind: str, reason: str) -> None:
        now = self._around.clock()
        self._load.budget.leave(run.flow, now)
        run.give_up(kind, reason, now, self._around.moment())
        self.run = None

    def _heard(self, report: Report, now: float) -> Run:
        if self.run is not None and self.run.backfill != report.backfill:
            self.leave("another one has begun")
        ruling = self._ruled(report.backfill.revision)
        run = self.run
        if run is None:
            load, rules = self._load, ruling.standing.rules
            run = self.run = Run(self.rollout, self.target, report, rules, load.readings, load.shared, self._around)
            self._over = None
        self._load.settle(run, report.last, now)
        run.hear(report, now, self._around.moment())
        return run

    def _ruled(self, revision: str) -> Ruling:
        who = Who(self.rollout, self.target.shard, self.target.tenant, revision)
        self.ruling = self._load.ruling(self.ruling, who)
        return self.ruling

    def _decided(self, run: Run, report: Report, now: float) -> Answer:
        load, ruling, moment = self._load, self._ruled(run.backfill.revision), self._around.moment()
        run.adjust(ruling.standing.rules)
        waits, interruption = report.waits, self._stop()
        if (stop := _stopped(interruption) or run.stop or _aborted(run.aborted)) is not None:
            return stop
        # After the last batch only people hold it, for the sake of what comes next.
        over = report.progress.finished
        causes = load.paused(ruling) if over else load.causes(run, ruling, now, moment)
        if interruption is not None:
            causes = [*causes, Cause(ROLLOUT, interruption.reason)]
        if waits is not None:
            causes = [*causes, Cause(WRITERS, waits, signal=True)]
        if causes:
            load.budget.leave(run.flow, now)  # its share is for the others meanwhile
            run.hold(causes, now, moment)
            self._look_at_deadline(run, now)
            return Wait(HELD_SECONDS)
        if over:
            return Go(run.pace.size)
        if run.rest_until > now:
            run.hold([Cause(run.rest, _RESTS[run.rest], routine=True)], now, moment)
            return Wait(run.rest_until - now)
        size, seconds = load.draw(run, ruling, now)
        if seconds > 0:
            run.hold([Cause(BUDGET, load.budget_text(), routine=True)], now, moment)
            return Wait(seconds)
        run.hold((), now, moment)
        run.start(size)
        return Go(size, run.unasked_seconds if load.budget.rows_per_second is None else 0.0)

    def _look_at_deadline(self, run: Run, now: float) -> None:
        """Told once, it counts anew: whoever lets the rollout go on has seen what holds it."""
        since, most = run.holding.signals_since, run.rules.deadline_seconds
        if since is None or now - since < most:
            return
        said = f"the backfill of {run.backfill.table} on {run.target.key} was held for more than {most:g} s"
        self._around.on_deadline(run.rollout, f"{said}: {run.holding.signals()}")
        run.holding.count_anew(now)


def _aborted(order: Order | None) -> Stop | None:
    return Stop("aborted", f"aborted by {ordered(order)}") if order is not None else None


def _stopped(interruption: Interruption | None) -> Stop | None:
    """What ends it there; None: it goes on, or is held."""
    if interruption is None or interruption.then == "held":
        return None
    return Stop("stopped" if interruption.then == "pending" else "aborted", interruption.reason)
