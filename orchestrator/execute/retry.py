"""When a failed attempt is followed by another. Pure; `stamina` does the waiting."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.errors import TargetError
from orchestrator.execute.classify import ErrorClass, classify


@dataclass(frozen=True, slots=True)
class Schedule:
    """Pauses before further attempts: they grow from `first` seconds by doubling, at most to `longest`.

    There are `retries` of them at most, and none begins later than `seconds` after the first failure; None: no such
    bound. Where time runs out the last attempt is made at its very end.
    """

    first: float
    longest: float
    retries: int | None = None
    seconds: float | None = None

    def pause(self, retry: int) -> float:
        """Seconds before the `retry`-th further attempt (from 1), without jitter.

        >>> [Schedule(1.0, 4.0).pause(n) for n in (1, 2, 3, 4)]
        [1.0, 2.0, 4.0, 4.0]
        """
        return min(self.first * 2.0 ** min(retry - 1, 30), self.longest)

    def next(self, retry: int, since: float, jitter: float) -> float | None:
        """Seconds before the `retry`-th further attempt, `since` seconds after the first failure; None: there is none.

        `jitter` is a factor of 1 or more.

        >>> [Schedule(2.0, 8.0, seconds=10.0).next(2, since, 1.0) for since in (3.0, 7.0, 9.5)]
        [4.0, 3.0, None]
        """
        if self.retries is not None and retry > self.retries:
            return None
        pause = self.pause(retry) * jitter
        if self.seconds is None or since + pause <= self.seconds:
            return pause
        left = self.seconds - since
        return left if left >= self.first else None


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """A schedule per error class; permanent errors are never tried again.

    Others let go when they are done, so contention is waited for as long as it takes within a deadline; a server that
    is not there by then is somebody's to look at.
    """

    transient: Schedule = Schedule(first=0.5, longest=8.0, retries=4)
    contention: Schedule = Schedule(first=1.0, longest=10.0, seconds=60.0)

    @classmethod
    def within(cls, contention_seconds: float) -> RetryPolicy:
        return cls(contention=Schedule(first=1.0, longest=10.0, seconds=contention_seconds))

    def schedule(self, kind: ErrorClass) -> Schedule | None:
        return {ErrorClass.TRANSIENT: self.transient, ErrorClass.CONTENTION: self.contention}.get(kind)


@dataclass(slots=True)
class Retries:
    """How often one migration was tried again, and since when it is in trouble, by error class."""

    policy: RetryPolicy
    clock: Callable[[], float] = time.monotonic
    made: Counter[ErrorClass] = field(default_factory=Counter)
    began: dict[ErrorClass, float] = field(default_factory=dict)

    def after(self, exc: TargetError) -> float | None:
        """Seconds to wait before the next attempt, jittered by up to a quarter; None: make no further one."""
        kind = classify(exc)
        schedule = self.policy.schedule(kind)
        if schedule is None:
            return None
        now = self.clock()
        since = now - self.began.setdefault(kind, now)
        wait = schedule.next(self.made[kind] + 1, since, random.uniform(1, 1.25))
        if wait is not None:
            self.made[kind] += 1
        return wait

    def progressed(self) -> None:
        """The attempt that has just failed was not in vain: what went wrong before counts no longer."""
        self.made.clear()
        self.began.clear()

    def stood(self, seconds: float) -> None:
        """The migration stood in a queue, or its rollout was paused: that counts against no deadline."""
        for kind in self.began:
            self.began[kind] += seconds
