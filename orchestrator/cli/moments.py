"""A rollout at one moment, as the live view shows it. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

FAILURES = frozenset({"failed", "locked", "unreachable", "ahead"})


@dataclass(frozen=True, slots=True)
class WaveMoment:
    """`state` is pending, or the last thing that happened: started, ended, checking, checked, approved, passed."""

    name: str
    state: str
    total: int
    done: int
    running: int
    failures: int


@dataclass(frozen=True, slots=True)
class CauseMoment:
    """A way to fail; `tenants` holds the first few names, `message` is an example."""

    signature: str
    count: int
    tenants: tuple[str, ...]
    message: str


@dataclass(frozen=True, slots=True)
class Throttle:
    """A shard that bears `limit` migrations of the `allowed` at once, and why."""

    shard: str
    limit: int
    allowed: int
    reason: str

    @property
    def words(self) -> str:
        return f"shard {self.shard} is throttled to {self.limit} of {self.allowed} at once: {self.reason}"


@dataclass(frozen=True, slots=True)
class BackfillMoment:
    """A backfill that is underway: rows passed, of how many (None: nobody knows); `rate` in rows per second. `waits`
    says why it is held."""

    tenant: str
    revision: str
    seen: int
    estimated: int | None
    ratio: float | None = None
    rate: float | None = None
    eta_seconds: float | None = None
    waits: str | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """A rollout at one moment. `rate` is targets per second, None as long as it cannot be told. `link`: why nothing was
    heard of the daemon for `unheard_seconds`."""

    title: str
    state: str
    reason: str | None
    total: int
    running: int
    counts: Mapping[str, int]
    seconds: float
    rate: float | None
    waiting: str | None = None
    waves: tuple[WaveMoment, ...] = ()
    causes: tuple[CauseMoment, ...] = ()
    throttled: tuple[Throttle, ...] = ()
    link: str | None = None
    unheard_seconds: float = 0.0
    backfills: tuple[BackfillMoment, ...] = ()

    @property
    def done(self) -> int:
        return sum(self.counts.values())

    @property
    def failures(self) -> int:
        return sum(self.counts.get(outcome, 0) for outcome in FAILURES)

    @property
    def eta_seconds(self) -> float | None:
        """Seconds until the last target at the rate so far, but not before the last backfill that is underway; None
        while there is no rate."""
        if not self.rate:
            return None
        return max((self.total - self.done) / self.rate, *(one.eta_seconds or 0.0 for one in self.backfills), 0.0)
