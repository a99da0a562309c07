"""What a daemon answers, as typed JSON. Members that this release does not know are kept, not refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

from orchestrator.client.backfill_shapes import AskedAdjustment as AskedAdjustment
from orchestrator.client.backfill_shapes import AskedScope as AskedScope
from orchestrator.client.backfill_shapes import Backfill as Backfill
from orchestrator.client.backfill_shapes import BackfillAdjustment as BackfillAdjustment
from orchestrator.client.backfill_shapes import BackfillHold as BackfillHold
from orchestrator.client.backfill_shapes import BackfillOrder as BackfillOrder
from orchestrator.client.backfill_shapes import BackfillScope as BackfillScope
from orchestrator.client.backfill_shapes import BackfillSum as BackfillSum
from orchestrator.client.backfill_shapes import BackfillSummary as BackfillSummary
from orchestrator.client.backfill_shapes import GivenOrder as GivenOrder


class Failure(TypedDict):
    kind: str
    code: str | None
    revision: str | None
    message: str
    remedy: str | None
    signature: str


class FailureGroup(TypedDict):
    signature: str
    count: int
    example: Failure
    tenants: list[str]


class Coverage(TypedDict):
    planned: int
    accounted: int
    holds: bool


class Wave(TypedDict):
    name: str
    total: int
    counts: dict[str, int]
    state: str
    approved_by: str | None


class Token(TypedDict):
    """A token without its secret; `state` is active, expired or revoked, `source` store or file."""

    id: str
    name: str
    role: str
    state: str
    source: str
    created_at: str | None
    created_by: str | None
    expires_at: str | None
    revoked_at: str | None
    revoked_by: str | None
    last_used_at: str | None


class NewToken(Token):
    """With its secret, which is shown once."""

    token: str


class Break(TypedDict):
    """What is wrong with an entry of the audit."""

    sequence: int
    problem: str


class AuditPage(TypedDict):
    """Entries of the audit, and number and hash of its last entry as the store has noted them."""

    items: list[dict[str, Any]]
    next_cursor: str | None
    head: str | None


class Verification(TypedDict):
    """Whether the audit's chain holds; `head` is its last entry's number and hash, to be kept elsewhere."""

    holds: bool
    entries: int
    first: int
    head: str
    breaks: list[Break]


class ScheduledRun(TypedDict):
    name: str
    planned_at: str


class Override(TypedDict):
    by: str
    reason: str
    at: str


class Rollout(TypedDict):
    """Times are ISO 8601 in UTC; `counts` holds migrations by state and sums up to `total`."""

    id: str
    track: str
    to: str
    state: str
    reason: str | None
    waiting: str | None
    strategy: str
    select: str
    direction: str
    goal: list[str]
    goals: dict[str, list[str]]
    plan_digest: str | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    created_by: str
    waves: list[Wave]
    counts: dict[str, int]
    total: int
    coverage: Coverage
    eta_seconds: float | None
    failures: list[FailureGroup]
    executions: dict[str, int]
    backfills: list[BackfillSum]
    irreversible: dict[str, str]
    not_reversible: str | None
    trace_id: str | None
    schedule: ScheduledRun | None
    override: Override | None


# `from` is a word of the language.
Migration = TypedDict(
    "Migration",
    {
        "tenant": str,
        "track": str,
        "shard": str,
        "wave": str,
        "state": str,
        "attempts": int,
        "from": list[str] | None,
        "to": list[str] | None,
        "steps": int | None,
        "execution": str | None,
        "error": Failure | None,
        "duration_seconds": float | None,
    },
)


class Target(TypedDict):
    track: str
    shard: str
    database: str
    schema: str | None
    source: str
    labels: dict[str, str]
    state: str
    heads: list[str]
    read_at: str | None
    message: str | None


class Tenant(TypedDict):
    tenant: str
    targets: list[Target]


class PlanGroup(TypedDict):
    track: str
    heads: list[str]
    state: str
    steps: list[str]
    count: int
    tenants: list[str]
    problem: str | None
    irreversible: dict[str, str]


class Preview(TypedDict):
    """What a rollout would do now."""

    dry_run: bool
    track: str
    to: str
    direction: str
    total: int
    groups: list[PlanGroup]


class Step(TypedDict):
    """One revision; `execution` is `sql`, or `online` or `backfill`, and then there is a reason."""

    revision: str
    execution: str
    reason: str | None


class Finding(TypedDict):
    """`level` is `error`, `warning` or `info`."""

    rule: str
    level: str
    revision: str | None
    message: str
    statement: str | None
    table: str | None
    lock: str | None
    rows: int | None
    seconds: float | None
    tenant: str | None


class CompiledGroup(TypedDict):
    track: str
    heads: list[str]
    state: str
    steps: list[Step]
    sql: list[str]
    digest: str | None
    count: int
    targets: list[str]
    problem: str | None
    irreversible: dict[str, str]
    findings: list[Finding]


class CompiledPlan(TypedDict):
    """What a rollout would do now, with the SQL."""

    track: str
    to: str
    direction: str
    total: int
    digest: str
    worst: str | None
    groups: list[CompiledGroup]


class Reloaded(TypedDict):
    changed: bool
    targets: int
    appeared: int
    vanished: int
    stale: list[str]


class Source(TypedDict):
    """Where tenants are found at run time; `stale`: it gave no good answer, and its last one is kept."""

    name: str
    question: str
    shard: str | None
    targets: int
    stale: bool
    stale_since: str | None
    reason: str | None
    refreshed_at: str | None
    refresh_seconds: float
    ignored: int
    ignored_examples: list[str]


class Registry(TypedDict):
    targets: int
    sources: list[Source]


class Health(TypedDict, total=False):
    """`role`, leader or standby, is there where several processes share a store."""

    status: str
    role: str
    leader: str


class Shard(TypedDict):
    """A database server; `throttled` says why `limit` is less than `max_concurrent`."""

    name: str
    dialect: str
    max_concurrent: int
    limit: int
    running: int
    throttled: str | None


class Notification(TypedDict):
    """A delivery: `state` is pending, delivered or dead; `event` is what is sent."""

    id: str
    channel: str
    type: str
    state: str
    attempts: int
    error: str | None
    created_at: str
    next_at: str | None
    finished_at: str | None
    event: dict[str, Any]


class Asked(TypedDict, total=False):
    """The body that starts a rollout; `track` and `to` are needed."""

    track: str
    to: str
    select: str
    strategy: str
    direction: str
    plan_digest: str
    dry_run: bool


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a rollout's stream; `sequence` grows from 1."""

    sequence: int
    name: str
    data: dict[str, Any]


class Run(TypedDict):
    """What became of one run of a schedule."""

    schedule: str
    planned_at: str
    outcome: str
    at: str
    rollout: str | None
    reason: str | None
    by: str | None


class Schedule(TypedDict):
    name: str
    cron: str
    timezone: str
    track: str
    to: str
    select: str
    strategy: str
    direction: str
    enabled: bool
    switched_by: str | None
    switched_at: str | None
    missed: str
    missed_seconds: float
    jitter_seconds: float
    next_runs: list[str]
    runs: list[Run]


class Freeze(TypedDict):
    frozen: bool
    by: str | None
    reason: str | None
    since: str | None
