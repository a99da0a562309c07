"""How far a rollout is, folded from its events: what the live view shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

FAILURES = frozenset({"failed", "locked", "unreachable", "ahead"})
RETRIABLE = FAILURES | {"cancelled"}
FINISHED = frozenset({"succeeded", "failed", "aborted", "rolled_back"})
_MOVING = frozenset({"planning", "running"})


@dataclass(frozen=True, slots=True)
class Moment:
    """A rollout at one moment. `rate` is targets per second, None as long as it cannot be told."""

    title: str
    state: str
    reason: str | None
    total: int
    running: int
    counts: Mapping[str, int]
    seconds: float
    rate: float | None
    waiting: str | None = None

    @property
    def done(self) -> int:
        return sum(self.counts.values())

    @property
    def failures(self) -> int:
        return sum(self.counts.get(outcome, 0) for outcome in FAILURES)

    @property
    def eta_seconds(self) -> float | None:
        """Seconds until the last target at the rate so far; None while there is none."""
        return (self.total - self.done) / self.rate if self.rate else None


@dataclass(slots=True)
class Tally:
    """Folds a rollout's events, live or repeated from the beginning; blank until it was created.

    `began` is when it last started to move. Events of other rollouts change nothing.
    """

    rollout: str = ""
    title: str = "starting"
    total: int = 0
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    state: str = "pending"
    reason: str | None = None
    waiting: str | None = None
    ended: datetime | None = None
    outcomes: dict[str, str] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    causes: set[str] = field(default_factory=set)
    _before: int = 0

    def apply(self, name: str, data: Mapping[str, Any]) -> str | None:
        """Take account of an event; `data` is as it goes over the wire. Returns a cause of failure that is new."""
        if name == "RolloutCreated" and not self.rollout:
            self.rollout, self.total = data["rollout"], data["total"]
            self.title, self.began = f"{data['track']} to {data['to']}", moment_of(data["at"])
        if data.get("rollout") != self.rollout:
            return None
        match name:
            case "MigrationStarted":
                self.outcomes.pop(data["tenant"], None)
                self.running.add(data["tenant"])
            case "MigrationFinished":
                self.running.discard(data["tenant"])
                self.outcomes[data["tenant"]] = data["outcome"]
                return self._cause(data)
            case "RolloutStateChanged":
                self._change(data)
        return None

    def moment(self, now: datetime) -> Moment:
        counts = Counter(self.outcomes.values())
        seconds = max(0.0, ((self.ended or now) - self.began).total_seconds())
        worked = self._worked() - self._before
        rate = worked / seconds if worked > 0 and seconds > 0 else None
        running = len(self.running)
        return Moment(self.title, self.state, self.reason, self.total, running, counts, seconds, rate, self.waiting)

    def _cause(self, data: Mapping[str, Any]) -> str | None:
        if data["outcome"] not in FAILURES or data["signature"] in self.causes:
            return None
        self.causes.add(data["signature"])
        return f"{data['tenant']} {data['outcome']}: {data['message']}"

    def _change(self, data: Mapping[str, Any]) -> None:
        before, self.state, self.reason = self.state, data["state"], data["reason"]
        self.waiting = data.get("waiting")
        at = moment_of(data["at"])
        self.ended = at if self.state in FINISHED or self.state == "paused" else None
        if data["counts"].get("pending", 0) > self.total - len(self.outcomes) - len(self.running):
            self._forget_failures()
        if self.state in _MOVING and before not in _MOVING:
            self.began, self._before = at, self._worked()

    def _forget_failures(self) -> None:
        """What failed is pending again; no event tells this of each target."""
        self.outcomes = {tenant: outcome for tenant, outcome in self.outcomes.items() if outcome not in RETRIABLE}

    def _worked(self) -> int:
        """Targets at their end that took work: those found at the goal say nothing about the rate."""
        return sum(outcome not in ("up_to_date", "cancelled") for outcome in self.outcomes.values())


def moment_of(text: str) -> datetime:
    """
    >>> moment_of("2026-01-02T03:04:05.000Z")
    datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    """
    return datetime.fromisoformat(text).astimezone(UTC)
