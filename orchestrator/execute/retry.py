"""When a failed attempt is followed by another. Pure; `stamina` does the waiting."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

from orchestrator.errors import TargetError
from orchestrator.execute.classify import ErrorClass, classify


@dataclass(frozen=True, slots=True)
class Schedule:
    """Up to `retries` further attempts; pauses grow from `first` seconds by doubling, at most to `longest`."""

    retries: int
    first: float
    longest: float

    def pause(self, retry: int) -> float:
        """Seconds before the `retry`-th further attempt (from 1), without jitter.

        >>> [Schedule(5, 1.0, 4.0).pause(n) for n in (1, 2, 3, 4)]
        [1.0, 2.0, 4.0, 4.0]
        """
        return min(self.first * 2.0 ** (retry - 1), self.longest)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """A schedule per error class; permanent errors are never tried again."""

    transient: Schedule = Schedule(retries=4, first=0.5, longest=8.0)
    contention: Schedule = Schedule(retries=6, first=1.0, longest=10.0)

    def schedule(self, kind: ErrorClass) -> Schedule | None:
        return {ErrorClass.TRANSIENT: self.transient, ErrorClass.CONTENTION: self.contention}.get(kind)


@dataclass(slots=True)
class Retries:
    """How often one migration was tried again, by error class."""

    policy: RetryPolicy
    made: Counter[ErrorClass] = field(default_factory=Counter)

    def after(self, exc: TargetError) -> float | None:
        """Seconds to wait before the next attempt, jittered by up to a quarter; None: make no further one."""
        kind = classify(exc)
        schedule = self.policy.schedule(kind)
        if schedule is None or self.made[kind] >= schedule.retries:
            return None
        self.made[kind] += 1
        return schedule.pause(self.made[kind]) * random.uniform(1, 1.25)
