"""One backfill of one target while it runs in this process: what it has told, and what it waits for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from orchestrator.backfill import estimate, pace, rules
from orchestrator.backfill.estimate import Speed
from orchestrator.backfill.model import Progress, Ran, Refused, Report, Stop
from orchestrator.backfill.orders import Who
from orchestrator.backfill.signals import Readings, Signals
from orchestrator.backfill.steering import Order
from orchestrator.backfill.view import Underway
from orchestrator.events import (
    BackfillFinished,
    BackfillHeld,
    BackfillProgressed,
    BackfillReleased,
    BackfillStarted,
    BackfillStopped,
)
from orchestrator.execute.holding import DUTY, REFUSED, Cause, Holding, Shared
from orchestrator.execute.surroundings import Surroundings
from orchestrator.registry.backfills import Rules, Threshold
from orchestrator.registry.model import Target

PROGRESS_SECONDS = 1.0


@dataclass(slots=True)
class Told:
    """What has not been told in an event yet."""

    at: float
    rows: int = 0
    batches: list[float] = field(default_factory=list)


class Run:
    """Times are seconds of a clock that never goes back; `started_at` is as people read it. `aborted`: the order that
    has ended it, given while it ran."""

    def __init__(
        self,
        rollout: str,
        target: Target,
        report: Report,
        chosen: Rules,
        readings: Readings,
        shared: Shared,
        around: Surroundings,
    ) -> None:
        self.rollout, self.target, self.backfill = rollout, target, report.backfill
        self.progress: Progress = report.progress
        self.pace = pace.begin(report.backfill.batch_size, chosen)
        self.rules = chosen
        self.stop: Stop | None = None
        self.aborted: Order | None = None
        self.speed, self.holding = Speed(), Holding(partial(around.count, target.shard))
        self.signals, self._table = Signals(readings), Readings()
        self._of_table = Signals(self._table)
        self._shared, self._publish = shared, around.publish
        self.began, self.started_at = around.clock(), around.moment()
        self.updated_at, self.rest_until, self.rest = self.started_at, self.began, DUTY
        self.started = self.ended = False
        self._told = Told(self.began)
        self.unasked_seconds = 0.0
        # Rows that it was given and has not told of yet.
        self.given: int | None = None

    @property
    def who(self) -> Who:
        target = self.target
        return Who(self.rollout, target.shard, target.tenant, self.backfill.revision)

    @property
    def flow(self) -> str:
        """Its name among the flows of a shard's budget."""
        return f"{self.rollout}/{self.target.key}"

    def adjust(self, chosen: Rules) -> None:
        if chosen is not self.rules:
            self.rules = chosen
            self.pace = pace.resized(self.pace, chosen)

    def hear(self, report: Report, now: float, moment: datetime) -> None:
        """What came of the batch before, and how far it is."""
        self.progress, self.updated_at = report.progress, moment
        last = report.last
        for one in (*report.unasked, *((last,) if last is not None else ())):
            self._learn(one, now)
        self.unasked_seconds = pace.unasked_seconds(self.pace, last, self.rules)
        self.speed.hear(self.progress.seen, now)
        for name, value in rules.readings(self.progress).items():
            self._table.hear(name, value, now)
        if self.started and not self.progress.finished and now - self._told.at >= PROGRESS_SECONDS:
            self._publish(BackfillProgressed(**self._advanced(now), **self._speed(now), size=self.pace.size))

    def _learn(self, last: Ran | Refused, now: float) -> None:
        after = pace.after(self.pace, last, self.rules)
        if isinstance(after, Stop):
            self.stop = after
        else:
            self.pace = after
            self.rest_until, self.rest = now + after.rest_seconds, DUTY if isinstance(last, Ran) else REFUSED
        if isinstance(last, Ran):
            self._told.rows += last.changed
            self._told.batches.append(last.seconds)

    def table_holds(self, thresholds: Mapping[str, Threshold], now: float) -> Sequence[Cause]:
        return [Cause(one.reason, one.text, signal=True) for one in self._of_table.holds(thresholds, now)]

    def hold(self, causes: Sequence[Cause], now: float, moment: datetime) -> None:
        """These hold it from now on, and no others."""
        new, over = self.holding.change(causes, now, moment)
        for cause, seconds in over:
            if cause.shared:
                self._shared.end(cause, now)
            elif not cause.routine:
                self._publish(BackfillReleased(**self._named(), reason=cause.reason, seconds=seconds))
        for cause in new:
            if cause.shared:
                self._shared.begin(cause, now)
            elif not cause.routine:
                self._publish(BackfillHeld(**self._named(), reason=cause.reason, text=cause.text))

    def start(self, size: int) -> None:
        """Its first batch goes, of so many rows."""
        if not self.started:
            self.started = True
            progress = self.progress
            self._publish(
                BackfillStarted(
                    **self._itself(),
                    seen=progress.seen,
                    changed=progress.changed,
                    estimated=estimate.estimated(progress),
                    size=size,
                )
            )

    def finish(self, now: float, moment: datetime) -> None:
        self.start(self.pace.size)
        self._end(now, moment)
        self._publish(BackfillFinished(**self._advanced(now), seconds=self._lasted(now)))

    def give_up(self, kind: str, reason: str, now: float, moment: datetime) -> None:
        """It ends before its last row."""
        self._end(now, moment)
        if self.started:
            advanced = self._advanced(now)
            self._publish(BackfillStopped(**advanced, seconds=self._lasted(now), kind=kind, reason=reason))

    def _lasted(self, now: float) -> float:
        """Never negative: it began a moment after what was told first."""
        return max(0.0, now - self.began)

    def _end(self, now: float, moment: datetime) -> None:
        self.hold((), now, moment)
        self.ended = True

    def view(self, now: float) -> Underway:
        return Underway(
            self.rollout,
            self.target.tenant,
            self.target.track,
            self.target.shard,
            self.backfill,
            self.progress,
            self.pace.size,
            **self._speed(now),
            holds=self.holding.shown(now),
            started_at=self.started_at,
            updated_at=self.updated_at,
        )

    def _speed(self, now: float) -> dict[str, Any]:
        speed = self.speed.rows_per_second(now)
        return {"rows_per_second": speed, "eta_seconds": estimate.eta_seconds(self.progress, speed)}

    def _named(self) -> dict[str, Any]:
        target = self.target
        return {"shard": target.shard, "rollout": self.rollout, "tenant": target.tenant, "track": target.track}

    def _itself(self) -> dict[str, Any]:
        it = self.backfill
        named = {"revision": it.revision, "direction": it.direction, "ordinal": it.ordinal, "table": it.table}
        return {**self._named(), **named}

    def _advanced(self, now: float) -> dict[str, Any]:
        told, self._told = self._told, Told(now)
        progress = self.progress
        return {
            **self._itself(),
            "seen": progress.seen,
            "changed": progress.changed,
            "estimated": estimate.estimated(progress),
            "sweep": progress.sweep,
            "dead_rows": progress.dead_rows,
            "rows": told.rows,
            "batches": tuple(told.batches),
        }
