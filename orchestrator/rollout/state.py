"""Rollouts and migrations as values, and the words for their states.

A *migration* is one target's part in a rollout. Its state is `pending`, `running`, or one of the outcomes; the
sum over all states always equals the rollout's frozen total (promise 3).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from orchestrator.errors import HALF_APPLIED
from orchestrator.plan import steps
from orchestrator.plan.bound import Planned
from orchestrator.registry.model import TargetKey
from orchestrator.rollout.waves import ALL_AT_ONCE, WaveRun

# The kind of the failure of a migration that is pending again because its process ended.
INTERRUPTED = "interrupted"


# How a migration was carried out that had backfills: for as long as its table is large, which tells nothing of others.
BACKFILL = "backfill"
# The kind of what is told of a target that was rolled back, and keeps rows which a backfill had changed.
BACKFILL_LEFT = "backfill_left"


class RolloutState(StrEnum):
    PENDING = "pending"
    PLANNING = "planning"
    AWAITING_APPROVAL = "awaiting_approval"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ABORTED = "aborted"
    ROLLED_BACK = "rolled_back"

    @property
    def finished(self) -> bool:
        return self in FINISHED


FINISHED = frozenset({RolloutState.SUCCEEDED, RolloutState.FAILED, RolloutState.ABORTED, RolloutState.ROLLED_BACK})
ACTIVE = frozenset(RolloutState) - FINISHED


class MigrationState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    UP_TO_DATE = "up_to_date"
    FAILED = "failed"
    LOCKED = "locked"
    UNREACHABLE = "unreachable"
    AHEAD = "ahead"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    ROLLED_BACK = "rolled_back"

    @property
    def finished(self) -> bool:
        return self not in UNFINISHED


UNFINISHED = frozenset({MigrationState.PENDING, MigrationState.RUNNING})
OUTCOMES = frozenset(MigrationState) - UNFINISHED
AT_GOAL = frozenset({MigrationState.SUCCEEDED, MigrationState.UP_TO_DATE})
# What counts against the failure budget and makes a rollout "failed". `skipped` was asked for by a person.
FAILURES = frozenset({MigrationState.FAILED, MigrationState.LOCKED, MigrationState.UNREACHABLE, MigrationState.AHEAD})


class FleetState(StrEnum):
    """A target apart from any rollout."""

    UP_TO_DATE = "up_to_date"
    BEHIND = "behind"
    AHEAD = "ahead"
    UNPROVISIONED = "unprovisioned"
    UNREACHABLE = "unreachable"
    UNKNOWN = "unknown"


class Direction(StrEnum):
    UPGRADE = "upgrade"
    DOWNGRADE = "downgrade"
    STAMP = "stamp"

    @property
    def planned(self) -> steps.Direction:
        """The direction as planning knows it."""
        return self.value


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a target is not at the goal. Two failures are of one cause when their signatures are equal."""

    kind: str
    message: str
    remedy: str | None = None
    code: str | None = None
    revision: str | None = None
    statement: str | None = None

    @property
    def signature(self) -> str:
        """Revision, error class and a short digest of the statement (or, without one, nothing of the message:
        messages carry names and numbers that differ from tenant to tenant).

        >>> Failure("failed", "boom", code="42P07", revision="a1", statement="CREATE TABLE t ()").signature
        'a1 42P07 #912c6e'
        """
        parts = [self.revision or "", self.code or self.kind]
        if self.statement:
            parts.append("#" + hashlib.sha256(self.statement.encode()).hexdigest()[:6])
        return " ".join(filter(None, parts))


@dataclass(frozen=True, slots=True)
class Migration:
    """One target's part in a rollout.

    `from_heads` is what the target had before this rollout first touched it (None: not read yet) and is written
    before any DDL; `to_heads` is what it had when it ended. `attempts` counts starts, over restarts too.
    `execution` tells how it was carried out: `online`, `replay`, `mixed`, `fallback` (env.py took on what the server
    had refused), or `backfill` (rows were changed in batches). `planned`, of a rollout that is bound to a plan, is what
    was planned for the target; None where it could not be read then. `reverting`: the rollout takes back what it
    changed, and the way goes to `from_heads`.
    `doubt`: what an attempt has left, or may, that the version table does not tell (`plan.doubt`); None: nothing.
    `counted`: rows by table before the first change, until they are compared; None: not counted.
    """

    rollout: str
    tenant: str
    track: str
    shard: str
    wave: str = "everyone"
    position: int = 0
    place: str = ""
    state: MigrationState = MigrationState.PENDING
    attempts: int = 0
    from_heads: tuple[str, ...] | None = None
    to_heads: tuple[str, ...] | None = None
    steps: int | None = None
    execution: str | None = None
    planned: Planned | None = None
    failure: Failure | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    reverting: bool = False
    doubt: str | None = None
    counted: Mapping[str, int | None] | None = None

    @property
    def changed(self) -> bool:
        """Whether the target may not be as the rollout found it: what is not known, and what was cut short, counts."""
        if not self.attempts or self.from_heads is None:
            return False
        return self.to_heads != self.from_heads or self.was_cut_short

    @property
    def touched(self) -> bool:
        """Whether a rollback has to look at it: it has changed, or rows of it were, by a backfill that did not end."""
        return self.changed or (self.execution == BACKFILL and self.attempts > 0 and self.from_heads is not None)

    @property
    def was_cut_short(self) -> bool:
        """Whether an attempt ended in the middle, so that nobody knows what it has left."""
        return self.doubt is not None or (self.failure is not None and self.failure.kind == INTERRUPTED)

    @property
    def is_half_applied(self) -> bool:
        """Whether something of a revision has stayed that no downgrade takes back."""
        return self.failure is not None and self.failure.kind == HALF_APPLIED

    @property
    def key(self) -> TargetKey:
        return TargetKey(self.tenant, self.track)


# Of a request: every track, and each track's own goal.
EVERY = "*"


@dataclass(frozen=True, slots=True)
class Scheduled:
    """The run of a schedule that a rollout is. `is_asked`: a person wants it now, whatever the clock says."""

    schedule: str
    planned_at: datetime
    is_asked: bool = False


@dataclass(frozen=True, slots=True)
class Override:
    """A person lets a rollout go on outside of its targets' windows, and says why."""

    by: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody asked for. `track` and `to` may be `EVERY`. `plan_digest`: only what that plan says may run.
    `scheduled`: it is a run of a schedule, of which there can be no second rollout. `traceparent`: the trace of who
    asks, which nobody keeps."""

    track: str
    to: str
    select: str = ""
    strategy: str = "default"
    direction: Direction = Direction.UPGRADE
    created_by: str = "unknown"
    idempotency_key: str | None = None
    foreground: bool = False
    max_concurrent: int | None = None
    plan_digest: str | None = None
    scheduled: Scheduled | None = None
    traceparent: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Aim:
    """Where the targets of one track are brought: the revision ids that `to` meant when the rollout was made (empty for
    base), or a goal that each target's own heads resolve, as it was written; and the digest of the files it meant."""

    goal: tuple[str, ...]
    history_digest: str = ""


@dataclass(frozen=True, slots=True)
class Rollout:
    """A request to bring a frozen set of targets to a goal.

    `goal` and `history_digest` are those of `Aim`; for a rollout over several tracks, `several` has them for each. A
    `foreground` rollout belongs to one process and ends with it. `aborting`: an abort was asked for; what runs may end,
    nothing new starts. `rolling_back`: what the rollout changed is being taken back, or was. `approval`: a person must
    approve before the first wave. `waiting`: what it waits for, in words. `irreversible`: which steps cannot be taken
    back, and why, as far as the targets' heads were known when it was made. `override`: windows do not hold it up.
    """

    id: str
    request: Request
    goal: tuple[str, ...]
    total: int
    created_at: datetime
    history_digest: str = ""
    state: RolloutState = RolloutState.PENDING
    reason: str | None = None
    aborting: bool = False
    started_at: datetime | None = None
    finished_at: datetime | None = None
    several: Mapping[str, Aim] = field(default_factory=dict)
    waves: tuple[WaveRun, ...] = ALL_AT_ONCE
    rolling_back: bool = False
    approval: bool = False
    four_eyes: bool = False
    approved_at: datetime | None = None
    approved_by: str | None = None
    waiting: str | None = None
    irreversible: Mapping[str, str] = field(default_factory=dict)
    override: Override | None = None

    @property
    def is_bound(self) -> bool:
        """Whether nothing may run but what a plan says."""
        return self.request.plan_digest is not None

    @property
    def track(self) -> str:
        return self.request.track

    @property
    def aims(self) -> Mapping[str, Aim]:
        """By track."""
        return self.several or {self.track: Aim(self.goal, self.history_digest)}


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Targets that failed the same way: "2 causes, 41 tenants"."""

    signature: str
    count: int
    example: Failure
    tenants: tuple[str, ...] = field(default=())


def new_rollout_id(created_at: datetime, entropy: bytes) -> str:
    """Sorts by time of creation; short enough to be typed.

    >>> from datetime import UTC
    >>> new_rollout_id(datetime(2026, 11, 21, 4, 5, 6, tzinfo=UTC), b"\\xab\\xcd")
    '20261121-040506-abcd'
    """
    return f"{created_at:%Y%m%d-%H%M%S}-{entropy.hex()}"


def count(migrations: Iterable[Migration]) -> Counter[MigrationState]:
    return Counter(migration.state for migration in migrations)


def summed(by_wave: Mapping[str, Mapping[MigrationState, int]]) -> Mapping[MigrationState, int]:
    """Counts over all waves."""
    total: Counter[MigrationState] = Counter()
    for counts in by_wave.values():
        total.update(counts)
    return total


def covered(total: int, counts: Mapping[MigrationState, int]) -> bool:
    """Promise 3: every target of the frozen set is in exactly one state."""
    return sum(counts.values()) == total
