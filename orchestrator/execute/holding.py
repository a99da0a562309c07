"""Why backfills wait, since when, and for how long they have: of one, and of all on a shard. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from orchestrator.backfill.view import BUDGET as BUDGET
from orchestrator.backfill.view import DUTY as DUTY
from orchestrator.backfill.view import FIRST as FIRST
from orchestrator.backfill.view import PAUSED as PAUSED
from orchestrator.backfill.view import REFUSED as REFUSED
from orchestrator.backfill.view import Hold
from orchestrator.events import BackfillHeld, BackfillHoldEvent, BackfillReleased

ROLLOUT, HOURS = "rollout_paused", "hours"
# The loop waits by itself: for transactions that have written to its table and are still open.
WRITERS = "writers"
SHOWN_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Cause:
    """`reason` and `text` as in `backfill.view.Hold`. `shared`: it holds all backfills of the shard alike, or would.
    `signal`: it comes from the server's load, so the deadline counts. `routine`: see `backfill.view`."""

    reason: str
    text: str
    shared: bool = False
    signal: bool = False
    routine: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """`began` in seconds of the clock that never goes back, `since` as people read it."""

    cause: Cause
    began: float
    since: datetime


class Holding:
    """What holds one backfill. `counted` is told how long it was held for a reason."""

    def __init__(self, counted: Callable[[str, float], None]) -> None:
        self._counted, self._at = counted, 0.0
        self._kept: dict[str, Kept] = {}
        self.signals_since: float | None = None

    def change(
        self, causes: Sequence[Cause], now: float, moment: datetime
    ) -> tuple[Sequence[Cause], Sequence[tuple[Cause, float]]]:
        """What holds it from now on: those that are new, and those that are over, with their seconds."""
        for reason in self._kept:
            self._counted(reason, max(0.0, now - self._at))
        self._at = now
        before, self._kept = self._kept, {}
        for cause in causes:
            known = before.get(cause.reason)
            if known is not None:  # it ends as it began: of the whole shard, or of one target
                cause = replace(cause, shared=known.cause.shared)
            began, since = (known.began, known.since) if known else (now, moment)
            self._kept[cause.reason] = Kept(cause, began, since)
        if not any(cause.signal for cause in causes):
            self.signals_since = None
        elif self.signals_since is None:
            self.signals_since = now
        new = [kept.cause for reason, kept in self._kept.items() if reason not in before]
        return new, [(kept.cause, now - kept.began) for reason, kept in before.items() if reason not in self._kept]

    def count_anew(self, now: float) -> None:
        """Signals that hold it count from now on."""
        if self.signals_since is not None:
            self.signals_since = now

    def shown(self, now: float) -> tuple[Hold, ...]:
        return tuple(
            Hold(kept.cause.reason, kept.cause.text, kept.since)
            for kept in self._kept.values()
            if not kept.cause.routine or now - kept.began >= SHOWN_SECONDS
        )

    def signals(self) -> str:
        """The texts of those that come from the server's load."""
        return "; ".join(kept.cause.text for kept in self._kept.values() if kept.cause.signal)


class Shared:
    """What holds backfills of a shard: told when the first is held for a reason, and when none is any more."""

    def __init__(self, shard: str, publish: Callable[[BackfillHoldEvent], object]) -> None:
        self._shard, self._publish = shard, publish
        self._held: Counter[str] = Counter()
        self._began: dict[str, float] = {}

    def begin(self, cause: Cause, now: float) -> None:
        self._held[cause.reason] += 1
        if cause.reason not in self._began:
            self._began[cause.reason] = now
            self._publish(BackfillHeld(shard=self._shard, reason=cause.reason, text=cause.text))

    def end(self, cause: Cause, now: float) -> None:
        self._held[cause.reason] -= 1
        if self._held[cause.reason] <= 0:
            del self._held[cause.reason]
            began = self._began.pop(cause.reason)
            self._publish(BackfillReleased(shard=self._shard, reason=cause.reason, seconds=now - began))
