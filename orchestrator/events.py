"""What happened, as frozen values: published by the domain, told by logs, metrics, streams and pages.

Events are past participles. Times are aware and in UTC, durations are seconds. No event ever carries a secret.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

# Of a field that is for this process only: neither kept nor told to others.
UNTOLD = "untold"


def now() -> datetime:
    return datetime.now(UTC)


def timestamp(moment: datetime) -> str:
    """ISO 8601 in UTC with a `Z`.

    >>> timestamp(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    '2026-01-02T03:04:05.000Z'
    """
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    at: datetime = field(default_factory=now)

    @property
    def name(self) -> str:
        return type(self).__name__

    def as_dict(self) -> dict[str, Any]:
        """The event for JSON: plain values, times as text; without what is for this process only."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if UNTOLD not in f.metadata}
        return {key: timestamp(value) if isinstance(value, datetime) else value for key, value in values.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutEvent(Event):
    rollout: str
    track: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutCreated(RolloutEvent):
    """`waves`: how many targets are in each, in their order."""

    to: str
    direction: str
    total: int
    created_by: str
    waves: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRequested(RolloutEvent):
    """Somebody who traces their own work has asked for the rollout over HTTP; `traceparent` as they sent it."""

    traceparent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutStateChanged(RolloutEvent):
    """`counts` holds migrations by state, `waves` for each wave; `seconds` is the age of the rollout;
    `waiting` says what it waits for. `by`: who has paused it, if it was not paused by what it found. `allowed`: so many
    targets of a wave may fail before the rollout reacts, where a number of them is all that its budget sets;
    `accepted`: so many of a wave's failures somebody has seen, and gone on in spite of. `ending`:
    what its last line in the log tells besides, once it has ended. `again`: tenants and tracks of failed targets that
    are pending again, for this process only: there may be thousands, and the ledger has them."""

    state: str
    reason: str | None
    total: int
    counts: dict[str, int]
    seconds: float
    waiting: str | None = None
    waves: dict[str, dict[str, int]] = field(default_factory=dict)
    by: str | None = None
    allowed: dict[str, int] = field(default_factory=dict)
    accepted: dict[str, int] = field(default_factory=dict)
    ending: dict[str, Any] | None = None
    again: frozenset[tuple[str, str]] = field(default=frozenset(), metadata={UNTOLD: True})


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveChanged(RolloutEvent):
    """`change`: started, ended (its last target has), checking, checked, approved (`by` whom), passed (its gate).
    `seconds`: since it was first started."""

    wave: str
    position: int
    change: str
    by: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationEvent(RolloutEvent):
    tenant: str
    shard: str
    wave: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationStarted(MigrationEvent):
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupTaken(MigrationEvent):
    """A target was backed up before its first change; `path` is None where a command keeps backups elsewhere."""

    seconds: float
    path: str | None = None
    bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupFailed(MigrationEvent):
    """A target could not be backed up, so it was not touched."""

    message: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepApplied(MigrationEvent):
    """One revision was applied and is in the version table, its transaction possibly not yet committed."""

    revision: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Statement:
    """What was sent to a target's server in one go. `text`: without literals and comments (`plan.sanitise`), cut short;
    `batch`: how many statements were sent together, where that was several; `code`: the server's word for what was
    wrong with it, if it said one."""

    operation: str
    text: str
    began_at: datetime
    seconds: float
    revision: str | None = None
    batch: int | None = None
    failed: bool = False
    code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRan(MigrationEvent):
    """A part of a target's plan was carried out in one way, or failed as `kind` and `code` say. Published only while
    somebody makes traces, and kept by nobody.

    `execution`: `online` or `replay`. `unnamed`: so many more statements were sent than are named. `system`,
    `namespace`, `server`, `port`: where, as OpenTelemetry names it.
    """

    execution: str
    revisions: tuple[str, ...]
    began_at: datetime
    seconds: float
    system: str
    namespace: str
    server: str | None = None
    port: int | None = None
    statements: tuple[Statement, ...] = ()
    unnamed: int = 0
    kind: str | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationRetried(MigrationEvent):
    """An attempt failed in a way that another may cure; it follows after `wait_seconds`."""

    attempt: int
    reason: str
    message: str
    wait_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationFinished(MigrationEvent):
    """A target ended in `outcome`; `kind`, `code`, `revision`, `message` and `remedy` tell of a failure.

    `seconds` is without the time in queues, windows and freezes. `lock_wait_seconds`: from connecting to holding the
    target's lock; `retries`: further attempts by reason; `backfill_rows`: changed by its backfills. `reverting`: on its
    way back. Of what an earlier process began, `attempts` and `backfill_rows` tell; `seconds`, waiting and `retries` do
    not.
    """

    outcome: str
    attempts: int
    seconds: float
    lock_wait_seconds: float = 0.0
    retries: dict[str, int] = field(default_factory=dict)
    backfill_rows: int = 0
    reverting: bool = False
    execution: str = "online"
    from_heads: tuple[str, ...] = ()
    to_heads: tuple[str, ...] = ()
    steps: int = 0
    signature: str | None = None
    kind: str | None = None
    code: str | None = None
    revision: str | None = None
    message: str | None = None
    remedy: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRefused(MigrationEvent):
    """The server refused a plan's compiled SQL; what was left of the plan was given to env.py."""

    message: str
    code: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanJudged(RolloutEvent):
    """How a plan is carried out from now on: `replay`, `mixed` (some revisions run online) or `online`, and why.

    `differs`: because the two ways do not come to the same schema, or the targets' schemas are not alike. `digest`
    covers the SQL. `recorded`: how many of the steps are sent as they were recorded on the first targets.
    """

    from_heads: tuple[str, ...]
    to_heads: tuple[str, ...]
    steps: int
    execution: str
    recorded: int = 0
    reason: str | None = None
    differs: bool = False
    digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillEvent(RolloutEvent):
    """One backfill of a revision on one target; `ordinal` counts those of the revision from 1. No event has a key of a
    row: that is tenants' data."""

    tenant: str
    shard: str
    revision: str
    direction: str
    ordinal: int
    table: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillStarted(BackfillEvent):
    """Its first batch may go. `seen`, `changed`: rows of earlier runs, which it goes on from; `size`: of that batch."""

    seen: int = 0
    changed: int = 0
    estimated: int | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillAdvanced(BackfillEvent):
    """How far it is, all runs together, and what came since it was told of last.

    `sweep`: 0 for the first pass. `rows`: changed since; `batches`: seconds of each batch that was committed since.
    """

    seen: int
    changed: int
    estimated: int | None = None
    sweep: int = 0
    dead_rows: int | None = None
    rows: int = 0
    batches: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillProgressed(BackfillAdvanced):
    """Told at most once a second of each target, and kept by nobody. `size`: rows of the next batch;
    `rows_per_second`: passed; None while nobody knows."""

    size: int
    rows_per_second: float | None = None
    eta_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillFinished(BackfillAdvanced):
    """All its rows are changed. `seconds`: since it was started in this run, waiting included."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillStopped(BackfillAdvanced):
    """It ended before its last row: its checkpoint stays, and the next run goes on from there.

    `kind`: `stopped`, `aborted` or `too_slow` as it was told to, `failed` where its revision or its process ended.
    """

    seconds: float
    kind: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillHoldEvent(Event):
    """Of all backfills of a shard, or of one target's, where `rollout`, `tenant` and `track` say so. `reason` is one of
    a bounded set of words."""

    shard: str
    reason: str
    rollout: str | None = None
    tenant: str | None = None
    track: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillHeld(BackfillHoldEvent):
    """They wait from now on; `text` says why, with numbers. Each is followed by a release for the same reason."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillReleased(BackfillHoldEvent):
    """What held them does so no more, or there is nothing left to hold. `seconds`: how long it did."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillOrdered(Event):
    """A person has ordered `action` (pause, resume, abort, adjust) for all backfills that fit `rollout`, `shard`,
    `tenant` and `revision`. `count`: how many that were; `adjustment`: what is other than the registry says."""

    action: str
    by: str
    count: int
    reason: str | None = None
    rollout: str | None = None
    shard: str | None = None
    tenant: str | None = None
    revision: str | None = None
    adjustment: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetsAppeared(RolloutEvent):
    """The registry has targets that the rollout would have taken: they were appended to it, or are left to the next.

    `tenants` holds the first few names, `count` all; `reason` says why they were left though they should be appended.
    """

    appended: bool
    count: int
    tenants: tuple[str, ...]
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LockWaited(Event):
    """The lock of a target was had, or was given up; `rollout`, `track` and `tenant` say whose, in a rollout.
    `seconds`: since connecting to it was begun."""

    shard: str
    seconds: float
    acquired: bool
    rollout: str | None = None
    track: str | None = None
    tenant: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardThrottled(Event):
    """A server has not the connections for as many migrations as the registry allows at once (`allowed`).

    Told again when the cause changes; `reason` is that of the moment, in words.
    """

    shard: str
    limit: int
    allowed: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardLimitChanged(Event):
    """So many migrations may run on a shard at once from now on; without a `reason`, as many as the registry allows."""

    shard: str
    limit: int
    allowed: int
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetObserved(Event):
    """A target's heads were read, or could not be (`state` is a fleet state)."""

    tenant: str
    track: str
    shard: str
    state: str
    heads: tuple[str, ...]
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryReloaded(Event):
    """`result` is `changed`, `unchanged` or `failed`; `message` says what was wrong."""

    result: str
    targets: int
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceEvent(Event):
    """`source`: the name of a `discover` entry, or `file`."""

    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStale(SourceEvent):
    """A source of tenants gave no good answer; `targets` of its last one are kept."""

    reason: str
    targets: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRecovered(SourceEvent):
    """`seconds`: how long it was stale."""

    targets: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantsIgnored(SourceEvent):
    """A source names what cannot be a tenant; `examples` say why."""

    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetsVanished(SourceEvent):
    """Targets are no longer in the registry; `examples` names some of them."""

    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderElected(Event):
    """This process leads its store from now on; `epoch` grows with each leader."""

    leader: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderLost(Event):
    """This process led its store and does so no more; all its work is being cancelled."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoodBy(Event):
    """This process waits until the one that leads the store, `leader` in words, is gone."""

    leader: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited(Event):
    """An act was recorded in the audit, as entry `sequence`, whose `hash` covers all entries up to it: kept where the
    store's owner cannot write, it proves later that none of them was changed."""

    sequence: int
    hash: str
    action: str
    by: str
    outcome: str
    rollout: str | None = None
    address: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowsOverridden(RolloutEvent):
    """A person lets a rollout go on outside of its targets' windows."""

    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetFrozen(Event):
    """Nothing starts any more, on the whole fleet."""

    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FreezeLifted(Event):
    """`seconds`: how long the fleet was frozen; `reason`: why."""

    by: str
    reason: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRan(Event):
    """A run of a schedule came to `outcome`: started, nothing_pending, skipped, missed or failed.

    `by`: who asked for it, if not the clock did."""

    schedule: str
    planned_at: datetime
    outcome: str
    rollout: str | None = None
    reason: str | None = None
    by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleSwitched(Event):
    """A person has enabled or disabled a schedule."""

    schedule: str
    enabled: bool
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftEvent(Event):
    tenant: str
    track: str
    shard: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftFound(DriftEvent):
    """A target's schema is not as that of `reference`. `differing`: lines that differ."""

    standing: str
    heads: tuple[str, ...]
    reference: str | None = None
    differing: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftUndecided(Event):
    """The schemas of targets at one revision have none in common, as `reason` says: which of them drift cannot be told.
    Told once of all of them; `count`: how many have come to be so, `tenants` the first of their names."""

    track: str
    heads: tuple[str, ...]
    count: int
    tenants: tuple[str, ...]
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftGone(DriftEvent):
    """A target counts as drifted no more: it is as it should be, or there is nothing to compare it with. `seconds`: for
    how long it did."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationEvent(Event):
    """`channel`: the name of a `notifications` entry; `kind`: what it is told of."""

    channel: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationDelivered(NotificationEvent):
    delivery: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationFailed(NotificationEvent):
    """An attempt failed; another follows after `wait_seconds`, and where there is none it is a dead letter."""

    delivery: str
    attempt: int
    message: str
    wait_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationDropped(NotificationEvent):
    """There was no room to keep it; nobody will be told."""

    reason: str
