"""One story told in examples: release 7 on two tenants of track `app`, of which one fails."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from orchestrator.access.roles import Role
from orchestrator.api import schemas, time_schemas
from orchestrator.api.audit import AuditEntry
from orchestrator.api.notifications import Notification
from orchestrator.api.operations import Health
from orchestrator.api.shards import ShardState
from orchestrator.api.tokens import NewToken, ShownToken
from orchestrator.plan.findings import Finding
from orchestrator.rollout.schedules import RunOutcome
from orchestrator.rollout.state import Direction, FleetState, MigrationState, RolloutState
from orchestrator.rollout.windows import Freeze

ROLLOUT_ID = "20261121-020001-9f3a"
DIGEST = "k7q2mzx4v3n5t6w7a2b3c4d5e6f7g2h3i4j5k6l7"
_START = datetime(2026, 11, 21, 2, 0, 1, tzinfo=UTC)
_END = datetime(2026, 11, 21, 2, 0, 9, tzinfo=UTC)
_COUNTS = dict.fromkeys(MigrationState, 0) | {MigrationState.SUCCEEDED: 1, MigrationState.FAILED: 1}


def plain(value: BaseModel) -> Any:
    """As it goes over the wire."""
    return value.model_dump(mode="json", by_alias=True)


FAILURE = schemas.Failure(
    kind="failed",
    code="42P07",
    revision="b2c4",
    message='relation "invoices" already exists',
    remedy="correct the revision or the database, then retry",
    signature="b2c4 42P07 #912c6e",
)

WAVE = schemas.Wave(
    name="everyone",
    total=2,
    counts=_COUNTS,
    state="waiting",
    started_at=_START,
    ended_at=_END,
    passed_at=None,
    soak_seconds=0.0,
    approval=False,
    approved_at=None,
    approved_by=None,
    checks=[],
)

ROLLOUT = schemas.Rollout(
    id=ROLLOUT_ID,
    track="app",
    to="head",
    state=RolloutState.PAUSED,
    reason="1 of 2 targets failed in wave everyone",
    waiting=None,
    strategy="default",
    select="tier=free",
    direction=Direction.UPGRADE,
    goal=["b2c4"],
    goals={"app": ["b2c4"]},
    plan_digest=DIGEST,
    created_at=_START,
    started_at=_START,
    finished_at=None,
    created_by="ci",
    schedule=None,
    override=None,
    waves=[WAVE],
    counts=_COUNTS,
    total=2,
    coverage=schemas.Coverage(planned=2, accounted=2, holds=True),
    eta_seconds=None,
    failures=[schemas.FailureGroup(signature=FAILURE.signature, count=1, example=FAILURE, tenants=["globex"])],
    executions={"online": 2},
    backfills=[],
    irreversible={},
    not_reversible=None,
    trace_id="9cf23b31f157094775e56d315ed588ca",
)

LISTED = ROLLOUT.model_copy(update={"failures": [], "executions": {}})
RUNNING = ROLLOUT.model_copy(update={"state": RolloutState.RUNNING, "reason": None})

MIGRATION = schemas.Migration(
    tenant="globex",
    track="app",
    shard="pg-eu-1",
    wave="everyone",
    state=MigrationState.FAILED,
    attempts=1,
    from_heads=["a1b3"],
    to_heads=["a1b3"],
    steps=1,
    execution="online",
    error=FAILURE,
    started_at=_START,
    finished_at=_END,
    duration_seconds=8.0,
)

TENANT = schemas.Tenant(
    tenant="acme",
    targets=[
        schemas.Target(
            track="app",
            shard="pg-eu-1",
            database="acme",
            schema_=None,
            source="file",
            labels={"tier": "free", "region": "eu"},
            state=FleetState.BEHIND,
            heads=["a1b3"],
            read_at=_START,
            message=None,
        )
    ],
)

PREVIEW = schemas.Preview(
    track="app",
    to="head",
    direction=Direction.UPGRADE,
    total=2,
    groups=[
        schemas.PlanGroup(
            track="app",
            heads=["a1b3"],
            state=FleetState.BEHIND,
            steps=["b2c4"],
            count=2,
            tenants=["acme", "globex"],
            problem=None,
            irreversible={},
        )
    ],
)

PLAN = schemas.CompiledPlan(
    track="app",
    to="head",
    direction=Direction.UPGRADE,
    total=2,
    digest=DIGEST,
    worst="info",
    groups=[
        schemas.CompiledGroup(
            track="app",
            heads=["a1b3"],
            state=FleetState.BEHIND,
            steps=[schemas.Step(revision="b2c4", execution="sql", reason=None)],
            sql=["BEGIN;\nCREATE TABLE invoices (id BIGINT PRIMARY KEY);\nCOMMIT;"],
            digest="p5d3q7r2s6t4u3v7w2x5y6z4a3b7c2d5e6f4g3h7",
            count=2,
            targets=["acme", "globex"],
            problem=None,
            irreversible={"b2c4": "its downgrade is empty"},
            findings=[
                schemas.finding(Finding("irreversible", "b2c4", "it cannot be taken back: its downgrade is empty"))
            ],
        )
    ],
)

REGISTRY = schemas.Registry(
    targets=240,
    sources=[
        schemas.Source(
            name="customers",
            question="query",
            shard="control",
            targets=238,
            stale=False,
            stale_since=None,
            reason=None,
            refreshed_at=_START,
            refresh_seconds=300.0,
            ignored=0,
            ignored_examples=[],
        )
    ],
)

RELOADED = schemas.Reloaded(changed=True, targets=240, appeared=2, vanished=0, stale=[])

HEALTHY = Health(status="ok")
READY = Health(status="ready", role="leader")

METRICS = """# HELP orchestrator_targets Targets by state.
# TYPE orchestrator_targets gauge
orchestrator_targets{shard="pg-eu-1",state="behind",track="app"} 2.0
"""

EVENTS = f"""event: RolloutStateChanged
data: {{"rollout": "{ROLLOUT_ID}", "track": "app", "state": "succeeded", "reason": null, "total": 2, "seconds": 9.0}}
id: 12

event: closed
data: {{"reason": "finished", "state": "succeeded"}}

"""


SHARD = ShardState(name="pg-eu-1", dialect="postgresql", max_concurrent=8, limit=8, running=2, throttled=None)

RUN = time_schemas.Run(
    schedule="nightly",
    planned_at=_START,
    outcome=RunOutcome.STARTED,
    at=_START,
    rollout=ROLLOUT_ID,
    reason=None,
    by=None,
)
SCHEDULE = time_schemas.Schedule(
    name="nightly",
    cron="0 2 * * *",
    timezone="Europe/Berlin",
    track="app",
    to="",
    select="tier=free",
    strategy="default",
    direction=Direction.UPGRADE,
    enabled=True,
    switched_by=None,
    switched_at=None,
    missed="skip",
    missed_seconds=3600.0,
    jitter_seconds=0.0,
    next_runs=[datetime(2026, 11, 22, 1, tzinfo=UTC)],
    runs=[RUN],
)
FREEZE = Freeze("user:ann", "incident 7", _START)
FROZEN = time_schemas.freeze(FREEZE)
NOT_FROZEN = time_schemas.Freeze(frozen=False)

NOTIFICATION_ID = "ntf_5f0c9a3b7d21e4468a01c2d3"
NOTIFICATION = Notification(
    id=NOTIFICATION_ID,
    channel="ops",
    type="paused",
    state="dead",
    attempts=8,
    error="the answer has status 503",
    created_at=_END,
    next_at=None,
    finished_at=_END,
    event={"type": "paused", "data": {"rollout": ROLLOUT_ID}},
)

TOKEN_ID = "b7qk2mzx4v3n5t6w"
TOKEN = ShownToken(
    id=TOKEN_ID,
    name="ci",
    role=Role.OPERATOR,
    state="active",
    source="store",
    created_at=_START,
    created_by="terminal:ann",
    expires_at=datetime(2027, 2, 19, 2, 0, 1, tzinfo=UTC),
    revoked_at=None,
    revoked_by=None,
    last_used_at=None,
)
NEW_TOKEN = NewToken(**dict(TOKEN), token=f"orc_{TOKEN_ID}_" + "…" * 3)
AUDIT_ENTRY = AuditEntry(
    sequence=1,
    previous="0" * 64,
    hash="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    at="2026-11-21T02:00:01.000000Z",
    action="start_rollout",
    by="user:ci",
    proved=True,
    role="operator",
    address="203.0.113.9",
    remark=None,
    request="3f0c7d1e9a6b4f5f8a0d",
    rollout=ROLLOUT_ID,
    plan_digest=DIGEST,
    history_digests={"app": "sha256:5e88"},
    outcome="done",
    reason=None,
    details={"track": "app", "to": "head"},
)


def page(*items: BaseModel, following: str | None = None) -> Any:
    return {"items": [plain(item) for item in items], "next_cursor": following}
