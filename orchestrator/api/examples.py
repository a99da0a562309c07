"""One story told in examples: release 7 on two tenants of track `app`, of which one fails."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from orchestrator.api import schemas
from orchestrator.api.operations import Health
from orchestrator.rollout.state import Direction, FleetState, MigrationState, RolloutState

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
    irreversible={},
    not_reversible=None,
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
            findings=[schemas.Finding(kind="irreversible", revision="b2c4", message="its downgrade is empty")],
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


def page(*items: BaseModel, following: str | None = None) -> Any:
    return {"items": [plain(item) for item in items], "next_cursor": following}
