"""What is kept of a backfill, as it stands or as it ended, and its sums over a fleet. Pure."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple, get_args

from orchestrator.backfill.model import Direction, Progress
from orchestrator.backfill.steering import Order, Scope
from orchestrator.backfill.view import Hold, Underway

State = Literal["running", "held", "stopped", "finished"]
STATES: tuple[State, ...] = get_args(State)
UNFINISHED: tuple[State, ...] = ("running", "held")


class Key(NamedTuple):
    """Which backfill of which target, in which rollout."""

    rollout: str
    tenant: str
    track: str
    revision: str
    direction: Direction
    ordinal: int


@dataclass(frozen=True, slots=True)
class Record:
    """One target's backfill. `held`: running, and waiting for a reason; `reason`: why it stopped."""

    view: Underway
    state: State
    reason: str | None = None
    finished_at: datetime | None = None

    @property
    def key(self) -> Key:
        return key_of(self.view)


def key_of(view: Underway) -> Key:
    it = view.backfill
    return Key(view.rollout, view.tenant, view.track, it.revision, it.direction, it.ordinal)


def standing(view: Underway) -> Record:
    """One that is underway."""
    return Record(view, "held" if view.holds else "running")


def ratio(seen: int, estimated: int | None, *, finished: bool = False) -> float | None:
    """The part that is done, 0 to 1; None where nobody knows how much there is. An estimate may turn out too low: then
    it is less than 1 until the end.

    >>> ratio(50, 200), ratio(300, 200), ratio(7, None), ratio(7, None, finished=True)
    (0.25, 0.99, None, 1.0)
    """
    if finished:
        return 1.0
    return min(seen / estimated, 0.99) if estimated else None


def ratio_of(progress: Progress) -> float | None:
    return ratio(progress.seen, progress.estimated, finished=progress.finished)


@dataclass(frozen=True, slots=True)
class Sum:
    """The backfills of one revision, of all targets that have begun one. `estimated`: rows that they will have passed
    in the end, as far as that is known; `holds`: how many are held, by reason."""

    track: str
    revision: str
    direction: Direction
    states: Mapping[State, int]
    seen: int
    changed: int
    estimated: int | None
    rows_per_second: float | None = None
    eta_seconds: float | None = None
    holds: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.states.values())

    @property
    def ratio(self) -> float | None:
        return ratio(self.seen, self.estimated, finished=self.states.get("finished", 0) == self.total)


class Part(NamedTuple):
    """Backfills of one revision that ended alike, summed up."""

    track: str
    revision: str
    direction: Direction
    state: State
    backfills: int
    seen: int
    changed: int
    estimated: int | None


def summed(ended: Iterable[Part], records: Iterable[Record]) -> list[Sum]:
    """By revision; `ended` are sums of those that are over, `records` the others."""
    found: dict[tuple[str, str, Direction], _Adding] = {}
    for part in ended:
        found.setdefault((part.track, part.revision, part.direction), _Adding()).end(part)
    for record in records:
        it = record.key
        found.setdefault((it.track, it.revision, it.direction), _Adding()).add(record)
    return [adding.sum(*key) for key, adding in sorted(found.items())]


@dataclass(slots=True)
class _Adding:
    states: Counter[State] = field(default_factory=Counter)
    holds: Counter[str] = field(default_factory=Counter)
    seen: int = 0
    changed: int = 0
    estimated: int = 0
    unknown: bool = False
    left: int = 0
    rate: float = 0.0
    slowest: float = 0.0

    def end(self, part: Part) -> None:
        self.states[part.state] += part.backfills
        self.seen += part.seen
        self.changed += part.changed
        if part.estimated is None:
            self.unknown = True
        else:
            self.estimated += part.estimated

    def add(self, record: Record) -> None:
        it, progress = record.view, record.view.progress
        self.states[record.state] += 1
        self.holds.update({hold.reason for hold in it.holds})
        self.seen += progress.seen
        self.changed += progress.changed
        if progress.estimated is None:
            self.unknown = True
        else:
            self.estimated += max(progress.estimated, progress.seen)
            self.left += max(0, progress.estimated - progress.seen)
        if record.state == "running":  # what is held has the pace of a time that is over
            self.rate += it.rows_per_second or 0.0
            self.slowest = max(self.slowest, it.eta_seconds or 0.0)

    def sum(self, track: str, revision: str, direction: Direction) -> Sum:
        eta = max(self.left / self.rate, self.slowest) if self.rate and not self.unknown else None
        estimated = None if self.unknown else self.estimated
        rate = self.rate if any(self.states[state] for state in UNFINISHED) else None
        return Sum(
            track, revision, direction, self.states, self.seen, self.changed, estimated, rate, eta, dict(self.holds)
        )


def words(scope: Scope) -> str:
    """
    >>> words(Scope(shard="pg-1", tenant="acme")), words(Scope())
    ('shard pg-1, tenant acme', 'all backfills')
    """
    return ", ".join(f"{name} {value}" for name, value in asdict(scope).items() if value) or "all backfills"


def told(order: Order) -> str:
    """`shard pg-1 (user:ann: month-end)`."""
    return f"{words(order.scope)} ({order.by}{f': {order.reason}' if order.reason else ''})"


def resuming(scope: Scope) -> str:
    """What somebody types to take back the pause of just this scope.

    >>> resuming(Scope(shard="pg-1")), resuming(Scope())
    ('orchestrator backfill resume --shard pg-1 --reason …', 'orchestrator backfill resume --all --reason …')
    """
    named = [f"--{name} {shlex.quote(value)}" for name, value in asdict(scope).items() if value] or ["--all"]
    return f"orchestrator backfill resume {' '.join(named)} --reason …"


def holds_json(holds: Iterable[Hold]) -> list[dict[str, str]]:
    return [{"reason": hold.reason, "text": hold.text, "since": hold.since.isoformat()} for hold in holds]


def holds_from(values: Iterable[Mapping[str, str]]) -> tuple[Hold, ...]:
    return tuple(Hold(one["reason"], one["text"], datetime.fromisoformat(one["since"])) for one in values)
