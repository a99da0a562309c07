"""Events with everything filled in that a test does not care about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from orchestrator import events

START = datetime(2026, 11, 21, 2, 0, tzinfo=UTC)
ROLLOUT: dict[str, Any] = {"rollout": "r1", "track": "app"}


class Place(NamedTuple):
    tenant: str
    track: str = "app"
    shard: str = "pg-1"


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def created(total: int = 2, **values: Any) -> events.RolloutCreated:
    given: dict[str, Any] = {"at": START, "to": "head", "direction": "upgrade", "created_by": "cli", "total": total}
    return events.RolloutCreated(**given | ROLLOUT | values)


def changed(state: str = "running", **values: Any) -> events.RolloutStateChanged:
    given: dict[str, Any] = {
        "at": START,
        "state": state,
        "reason": None,
        "total": 2,
        "counts": {"pending": 2},
        "seconds": 0.0,
    }
    return events.RolloutStateChanged(**given | ROLLOUT | values)


def started(tenant: str = "acme", **values: Any) -> events.MigrationStarted:
    given: dict[str, Any] = {"at": START, "tenant": tenant, "shard": "pg-1", "wave": "everyone", "attempt": 1}
    return events.MigrationStarted(**given | ROLLOUT | values)


def retried(tenant: str = "acme", **values: Any) -> events.MigrationRetried:
    given: dict[str, Any] = {
        "at": START,
        "tenant": tenant,
        "shard": "pg-1",
        "wave": "everyone",
        "attempt": 1,
        "reason": "lock_timeout",
        "message": "canceling statement due to lock timeout",
        "wait_seconds": 1.25,
    }
    return events.MigrationRetried(**given | ROLLOUT | values)


def finished(tenant: str = "acme", outcome: str = "succeeded", **values: Any) -> events.MigrationFinished:
    given: dict[str, Any] = {
        "at": START,
        "tenant": tenant,
        "shard": "pg-1",
        "wave": "everyone",
        "outcome": outcome,
        "attempts": 1,
        "seconds": 0.5,
        "from_heads": ("a1",),
        "to_heads": ("b2",),
        "steps": 1,
    }
    return events.MigrationFinished(**given | ROLLOUT | values)


def observed(tenant: str = "acme", state: str = "behind", **values: Any) -> events.TargetObserved:
    given: dict[str, Any] = {
        "at": START,
        "tenant": tenant,
        "track": "app",
        "shard": "pg-1",
        "state": state,
        "heads": ("a1",),
    }
    return events.TargetObserved(**given | values)


BACKFILL: dict[str, Any] = {
    "tenant": "acme",
    "shard": "pg-1",
    "revision": "b2",
    "direction": "upgrade",
    "ordinal": 1,
    "table": "tickets",
}


def backfill_started(**values: Any) -> events.BackfillStarted:
    return events.BackfillStarted(**{"at": START} | ROLLOUT | BACKFILL | values)


def backfill_progressed(**values: Any) -> events.BackfillProgressed:
    given: dict[str, Any] = {"at": START, "seen": 100, "changed": 90, "size": 1000}
    return events.BackfillProgressed(**given | ROLLOUT | BACKFILL | values)


def backfill_finished(**values: Any) -> events.BackfillFinished:
    given: dict[str, Any] = {"at": START, "seen": 200, "changed": 180, "seconds": 12.5}
    return events.BackfillFinished(**given | ROLLOUT | BACKFILL | values)


def backfill_stopped(kind: str = "stopped", **values: Any) -> events.BackfillStopped:
    given: dict[str, Any] = {"at": START, "seen": 200, "changed": 180, "seconds": 12.5, "reason": "drained"}
    return events.BackfillStopped(**{"kind": kind} | given | ROLLOUT | BACKFILL | values)


def held(reason: str = "lag", **values: Any) -> events.BackfillHeld:
    given: dict[str, Any] = {"at": START, "shard": "pg-1", "text": "9 s behind", "reason": reason}
    return events.BackfillHeld(**given | values)


def released(reason: str = "lag", **values: Any) -> events.BackfillReleased:
    given: dict[str, Any] = {"at": START, "shard": "pg-1", "seconds": 9.0, "reason": reason}
    return events.BackfillReleased(**given | values)
