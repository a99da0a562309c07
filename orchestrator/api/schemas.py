"""What goes over the wire, and how it is made from the service's values. The shapes are DESIGN.md's contract."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from orchestrator.api import ports
from orchestrator.api.backfill_sums import BackfillSum, backfill_sum
from orchestrator.events import timestamp
from orchestrator.observe import redact
from orchestrator.plan import findings, reversals
from orchestrator.plan.manifest import DIGEST
from orchestrator.registry.discovery import Source as Found
from orchestrator.registry.findings import Level
from orchestrator.rollout import state as states
from orchestrator.rollout.waves import WaveRun

Moment = Annotated[
    datetime,
    PlainSerializer(timestamp, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "description": "ISO 8601 in UTC, `…Z`"}),
]
Item = TypeVar("Item")
EXAMPLES = 20

# Nobody means a control character; databases and logs do not take them well.
PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
Word = Annotated[str, Field(min_length=1, max_length=200, pattern=PRINTABLE)]
Digest = Annotated[str, Field(pattern=f"^{DIGEST}$")]
Irreversible = Annotated[
    dict[str, str], Field(description="Which of the steps cannot be taken back, and why, where that is sure.")
]


class Body(BaseModel):
    """A response; its members are only ever added to."""

    model_config = ConfigDict(frozen=True)


class Page(Body, Generic[Item]):
    items: list[Item]
    next_cursor: str | None = Field(description="Ask again with `cursor=` this for what follows; null at the end.")


class StartRollout(BaseModel):
    """What is asked for. A field that is not known is refused rather than ignored, and so is a wrong type."""

    model_config = ConfigDict(extra="forbid", strict=True)

    track: Word = Field(description="The track's name; `*` for every track in one rollout.")
    to: Word = Field(
        description="The goal: `head`, `heads`, `base`, a revision, `label@head`, `+1`, `-2`; `*`: each track's own."
    )
    select: str = Field("", max_length=10_000, pattern=PRINTABLE, description="Label selector; empty for all targets.")
    strategy: Word = "default"
    direction: states.Direction = Field(states.Direction.UPGRADE, strict=False)
    plan_digest: Digest | None = Field(
        None, description="Of a plan: start, or show in a dry run, only just what it says; else answer what differs."
    )
    dry_run: bool = Field(False, description="Answer what would be done; change nothing.")


class MakePlan(BaseModel):
    """What is to be planned; fields as those of a rollout."""

    model_config = ConfigDict(extra="forbid", strict=True)

    track: Word
    to: Word
    select: str = Field("", max_length=10_000, pattern=PRINTABLE)
    direction: states.Direction = Field(states.Direction.UPGRADE, strict=False)


class _Command(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Approval(_Command):
    wave: str | None = Field(
        None,
        max_length=200,
        pattern=PRINTABLE,
        description="The wave after which you approve to go on, empty for before the first.",
    )


class Abort(_Command):
    force: bool = Field(False, description="Cancel what runs, too: its transaction is rolled back.")


class Retry(_Command):
    signature: Word | None = Field(None, description="Only targets that failed in this way; see `failures`.")


class Skip(_Command):
    tenant: Word
    track: Word | None = Field(None, description="Needed for one of several tracks of the tenant.")
    reason: Word


def whole(value: object) -> object:
    """In JSON there is one kind of number: 4.0 is 4."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Limit(_Command):
    max_concurrent: Annotated[int, BeforeValidator(whole)] = Field(
        ge=1, le=100_000, description="So many targets at once, within the shards' limits."
    )


class Failure(Body):
    """Why a target is not at the goal."""

    kind: str
    code: str | None
    revision: str | None
    message: str
    remedy: str | None
    signature: str


class FailureGroup(Body):
    signature: str
    count: int
    example: Failure
    tenants: list[str] = Field(description="The first few.")


class Wave(Body):
    name: str
    total: int
    counts: dict[states.MigrationState, int]
    state: Literal["pending", "running", "waiting", "passed"] = Field(
        description="`waiting`: its targets have ended, and what must hold before the next wave does not yet."
    )
    started_at: Moment | None
    ended_at: Moment | None
    passed_at: Moment | None
    soak_seconds: float
    approval: bool
    approved_at: Moment | None
    approved_by: str | None
    checks: list[str]


class Coverage(Body):
    """Whether each target that was planned is in exactly one recorded state."""

    planned: int
    accounted: int
    holds: bool


class ScheduledRun(Body):
    """The run of a schedule that a rollout is."""

    name: str
    planned_at: Moment


class Overridden(Body):
    """Who lets a rollout go on outside of its targets' windows, and why."""

    by: str
    reason: str
    at: Moment


class Rollout(Body):
    id: str
    track: str
    to: str
    state: states.RolloutState
    reason: str | None
    waiting: str | None = Field(description="What it waits for, in words.")
    strategy: str
    select: str
    direction: states.Direction
    goal: list[str] = Field(description="The revisions that `to` meant, or a relative goal as it was given.")
    goals: dict[str, list[str]] = Field(description="The same by track.")
    plan_digest: str | None = Field(description="Of the plan that it is bound to.")
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None
    created_by: str
    waves: list[Wave]
    counts: dict[states.MigrationState, int] = Field(description="Every state; the numbers sum up to `total`.")
    total: int
    coverage: Coverage
    eta_seconds: float | None
    failures: list[FailureGroup] = Field(
        description="Largest first; left out (empty) in listings. With targets that were rolled back and keep rows "
        "which a backfill had changed: their `kind` is `backfill_left`."
    )
    executions: dict[str, int] = Field(
        description="Targets that were migrated, by how: `online`, `replay`, `mixed`, `fallback` where the server "
        "refused the SQL and env.py was run, or `backfill` where rows were changed in batches; left out (empty) in "
        "listings."
    )
    backfills: list[BackfillSum] = Field(description="By revision; left out (empty) in listings.")
    irreversible: Irreversible
    schedule: ScheduledRun | None = Field(description="What started it, if a schedule did.")
    override: Overridden | None = Field(description="That windows do not hold it up, if somebody has said so.")
    not_reversible: str | None = Field(description="How far it can be rolled back, in words; null: to the end.")
    trace_id: str | None = Field(description="Of its OpenTelemetry trace; null while no traces are made.")


class Migration(Body):
    tenant: str
    track: str
    shard: str
    wave: str
    state: states.MigrationState
    attempts: int
    from_heads: list[str] | None = Field(serialization_alias="from")
    to_heads: list[str] | None = Field(serialization_alias="to")
    steps: int | None
    execution: str | None = Field(
        description="`online`, `replay`, `mixed`, `fallback` or `backfill`; null when nothing was run."
    )
    error: Failure | None
    started_at: Moment | None
    finished_at: Moment | None
    duration_seconds: float | None


class Target(Body):
    track: str
    shard: str
    database: str
    schema_: str | None = Field(serialization_alias="schema")
    source: str = Field(description="Who names it: `file`, or a source of the registry.")
    labels: dict[str, str]
    state: states.FleetState
    heads: list[str]
    read_at: Moment | None
    message: str | None


class Tenant(Body):
    tenant: str
    targets: list[Target]


class PlanGroup(Body):
    """Targets with equal heads, and so with equal steps."""

    track: str
    heads: list[str]
    state: states.FleetState
    steps: list[str]
    count: int
    tenants: list[str] = Field(description="The first few.")
    problem: str | None = Field(description="Why nothing is run where something should be.")
    irreversible: Irreversible


class Preview(Body):
    """What a rollout would do now."""

    dry_run: bool = True
    track: str
    to: str
    direction: states.Direction
    total: int
    groups: list[PlanGroup]


class Step(Body):
    revision: str
    execution: Literal["sql", "online", "backfill"] = Field(
        description="`sql` is replayed as it stands; `online` is run by env.py, and so is `backfill`, in batches."
    )
    reason: str | None = Field(description="Why it has to run online.")


class Finding(Body):
    """What somebody who approves the plan should know of a step; `revision` null: of all of them."""

    rule: str = Field(description="What kind of finding it is, for good: docs/findings.md lists all of them.")
    level: Level
    revision: str | None
    message: str
    statement: str | None = Field(description="The statement that is meant, with `?` for each literal.")
    table: str | None
    lock: str | None = Field(description="That the statement takes on the table, by the server's name for it.")
    rows: int | None = Field(description="Of the table at `tenant`, by the server's statistics.")
    seconds: float | None = Field(description="That the statement may take there: a magnitude.")
    tenant: str | None = Field(description="The largest of those that were asked.")


class CompiledGroup(Body):
    """Targets with equal heads, and so with one plan."""

    track: str
    heads: list[str]
    state: states.FleetState
    steps: list[Step]
    sql: list[str] = Field(
        description="What is sent, message by message and byte for byte, to the group's first target."
    )
    digest: str | None = Field(description="Of the SQL; null where nothing is replayed.")
    count: int
    targets: list[str] = Field(description="The tenants.")
    problem: str | None = Field(description="Why nothing is run where something should be.")
    irreversible: Irreversible
    findings: list[Finding]


class CompiledPlan(Body):
    """What a rollout would do now, with the SQL."""

    track: str
    to: str
    direction: states.Direction
    total: int
    digest: str = Field(
        description="Of goals and direction, env.py and the revision files, each group's steps and SQL, and the "
        "targets with their places. A rollout is bound to it with `plan_digest`."
    )
    worst: Level | None = Field(description="The level of the worst finding; null where there is none.")
    groups: list[CompiledGroup]


class Reloaded(Body):
    changed: bool
    targets: int
    appeared: int = Field(description="Targets that were not in the registry before.")
    vanished: int = Field(description="Targets that are no longer in the registry.")
    stale: list[str] = Field(description="Sources that gave no good answer; what they said last is kept.")


class Source(Body):
    """Where tenants are found at run time: a `discover` entry of the registry file."""

    name: str
    question: str = Field(description="`databases`, `schemas`, `query`, `files` or `url`.")
    shard: str | None
    targets: int
    stale: bool = Field(description="It gave no good answer; its last one, if it ever gave one, is kept.")
    stale_since: Moment | None
    reason: str | None = Field(description="Why it is stale.")
    refreshed_at: Moment | None = Field(description="When it last gave a good answer; null: never.")
    refresh_seconds: float
    ignored: int = Field(description="How many names or rows of it cannot be tenants.")
    ignored_examples: list[str] = Field(description="Why, for the first few.")


class Registry(Body):
    """What the daemon works with."""

    targets: int
    sources: list[Source]


def masked(text: str | None) -> str | None:
    return None if text is None else redact.text(text)


def seconds_between(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None or end is None else (end - start).total_seconds()


def failure(failed: states.Failure) -> Failure:
    return Failure(
        kind=failed.kind,
        code=failed.code,
        revision=failed.revision,
        message=redact.text(failed.message),
        remedy=failed.remedy,
        signature=failed.signature,
    )


def every_state(counts: Mapping[states.MigrationState, int]) -> dict[states.MigrationState, int]:
    return {name: counts.get(name, 0) for name in states.MigrationState}


def wave(it: WaveRun, counts: Mapping[states.MigrationState, int]) -> Wave:
    return Wave(
        name=it.name,
        total=sum(counts.values()),
        counts=every_state(counts),
        state="passed" if it.passed else "waiting" if it.ended else "running" if it.started_at else "pending",
        started_at=it.started_at,
        ended_at=it.ended_at,
        passed_at=it.passed_at,
        soak_seconds=it.soak_seconds,
        approval=it.approval,
        approved_at=it.approved_at,
        approved_by=it.approved_by,
        checks=list(it.checks),
    )


def rollout(view: ports.RolloutView) -> Rollout:
    it, asked, counts = view.rollout, view.rollout.request, every_state(view.counts)
    return Rollout(
        id=it.id,
        track=asked.track,
        to=asked.to,
        state=it.state,
        reason=masked(it.reason),
        waiting=masked(it.waiting),
        strategy=asked.strategy,
        select=asked.select,
        direction=asked.direction,
        goal=sorted({revision for aim in it.aims.values() for revision in aim.goal}),
        goals={track: list(aim.goal) for track, aim in it.aims.items()},
        plan_digest=asked.plan_digest,
        created_at=it.created_at,
        started_at=it.started_at,
        finished_at=it.finished_at,
        created_by=asked.created_by,
        waves=[wave(run, view.by_wave.get(run.name, {})) for run in it.waves],
        counts=counts,
        total=it.total,
        coverage=Coverage(planned=it.total, accounted=sum(counts.values()), holds=states.covered(it.total, counts)),
        eta_seconds=view.eta_seconds,
        failures=[
            FailureGroup(
                signature=group.signature,
                count=group.count,
                example=failure(group.example),
                tenants=list(group.tenants),
            )
            for group in view.failures
        ],
        executions=dict(view.executions),
        backfills=[backfill_sum(one) for one in view.backfills],
        irreversible=dict(it.irreversible),
        schedule=_scheduled(asked.scheduled),
        override=_overridden(it.override),
        not_reversible=reversals.not_past([(run.name, [run.irreversible]) for run in it.waves], it.irreversible),
        trace_id=view.trace_id,
    )


def _scheduled(run: states.Scheduled | None) -> ScheduledRun | None:
    return None if run is None else ScheduledRun(name=run.schedule, planned_at=run.planned_at)


def _overridden(it: states.Override | None) -> Overridden | None:
    return None if it is None else Overridden(by=it.by, reason=redact.text(it.reason), at=it.at)


def migration(it: states.Migration) -> Migration:
    return Migration(
        tenant=it.tenant,
        track=it.track,
        shard=it.shard,
        wave=it.wave,
        state=it.state,
        attempts=it.attempts,
        from_heads=None if it.from_heads is None else list(it.from_heads),
        to_heads=None if it.to_heads is None else list(it.to_heads),
        steps=it.steps,
        execution=it.execution,
        error=failure(it.failure) if it.failure else None,
        started_at=it.started_at,
        finished_at=it.finished_at,
        duration_seconds=seconds_between(it.started_at, it.finished_at),
    )


def target(view: ports.TargetView) -> Target:
    it = view.target
    return Target(
        track=it.track,
        shard=it.shard,
        database=it.database,
        schema_=it.schema,
        source=it.source,
        labels=dict(it.labels),
        state=view.state,
        heads=list(view.heads),
        read_at=view.read_at,
        message=masked(view.message),
    )


def tenants(views: Iterable[ports.TargetView]) -> list[Tenant]:
    """Targets gathered by tenant, in the order given."""
    gathered: dict[str, list[Target]] = {}
    for view in views:
        gathered.setdefault(view.target.tenant, []).append(target(view))
    return [Tenant(tenant=tenant, targets=targets) for tenant, targets in gathered.items()]


def source(it: Found) -> Source:
    return Source(
        name=it.name,
        question=it.discovery.question,
        shard=it.discovery.shard,
        targets=it.targets,
        stale=it.stale_since is not None,
        stale_since=it.stale_since,
        reason=masked(it.reason),
        refreshed_at=it.refreshed_at,
        refresh_seconds=it.discovery.refresh_seconds,
        ignored=len(it.ignored),
        ignored_examples=[redact.text(example) for example in it.ignored[:EXAMPLES]],
    )


def preview(asked: states.Request, groups: Iterable[ports.PlanGroup]) -> Preview:
    shown = [
        PlanGroup(
            track=group.track,
            heads=list(group.heads),
            state=group.state,
            steps=list(group.steps),
            count=group.count,
            tenants=list(group.tenants),
            problem=group.problem,
            irreversible=dict(group.irreversible),
        )
        for group in groups
    ]
    total = sum(group.count for group in shown)
    return Preview(track=asked.track, to=asked.to, direction=asked.direction, total=total, groups=shown)


def compiled_plan(asked: states.Request, plan: ports.CompiledPlan) -> CompiledPlan:
    groups = [compiled_group(group) for group in plan.groups]
    return CompiledPlan(
        track=asked.track,
        to=asked.to,
        direction=asked.direction,
        total=sum(group.count for group in groups),
        digest=plan.digest,
        worst=findings.worst(one for group in plan.groups for one in group.findings),
        groups=groups,
    )


def finding(one: findings.Finding) -> Finding:
    return Finding(
        rule=one.rule,
        level=one.level,
        revision=one.revision,
        message=redact.text(one.message),
        statement=masked(one.statement),
        table=one.table,
        lock=one.lock,
        rows=one.rows,
        seconds=one.seconds,
        tenant=one.tenant,
    )


def compiled_group(group: ports.CompiledGroup) -> CompiledGroup:
    return CompiledGroup(
        track=group.track,
        heads=list(group.heads),
        state=group.state,
        steps=[
            Step(
                revision=revision,
                execution=group.execution(revision),
                reason=masked(group.online.get(revision)),
            )
            for revision in group.steps
        ],
        sql=[part for part in group.script if isinstance(part, str)],
        digest=group.digest or None,
        count=len(group.tenants),
        targets=list(group.tenants),
        problem=group.problem,
        irreversible=dict(group.irreversible),
        findings=[finding(one) for one in group.findings],
    )
