"""What the log says of each event: every such line is made here, and `NAMES` is the list of them.

Line names and their keys are what people search and alert by: extend them, do not rename.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import structlog

from orchestrator import events

Level = Literal["debug", "info", "warning", "error"]

NAMES: Mapping[type[events.Event], str] = {
    events.RolloutCreated: "rollout_created",
    events.RolloutRequested: "rollout_requested",
    events.RolloutStateChanged: "rollout_state_changed",
    events.WaveChanged: "wave_changed",
    events.MigrationStarted: "migration_started",
    events.BackupTaken: "backup_taken",
    events.BackupFailed: "backup_failed",
    events.StepApplied: "step_applied",
    events.SegmentRan: "segment_ran",
    events.MigrationRetried: "migration_retried",
    events.ReplayRefused: "replay_refused",
    events.PlanJudged: "plan_judged",
    events.MigrationFinished: "migration_finished",
    events.BackfillStarted: "backfill_started",
    events.BackfillProgressed: "backfill_progressed",
    events.BackfillFinished: "backfill_finished",
    events.BackfillStopped: "backfill_stopped",
    events.BackfillHeld: "backfill_held",
    events.BackfillReleased: "backfill_released",
    events.BackfillOrdered: "backfill_ordered",
    events.TargetsAppeared: "targets_appeared",
    events.LockWaited: "lock_waited",
    events.ShardThrottled: "shard_throttled",
    events.ShardLimitChanged: "shard_limit_changed",
    events.TargetObserved: "target_observed",
    events.RegistryReloaded: "registry_reloaded",
    events.SourceStale: "source_stale",
    events.SourceRecovered: "source_recovered",
    events.TenantsIgnored: "tenants_ignored",
    events.TargetsVanished: "targets_vanished",
    events.LeaderElected: "leader_elected",
    events.LeaderLost: "leader_lost",
    events.StoodBy: "standby",
    events.Audited: "audited",
    events.WindowsOverridden: "windows_overridden",
    events.FleetFrozen: "fleet_frozen",
    events.FreezeLifted: "freeze_lifted",
    events.ScheduleRan: "schedule_ran",
    events.ScheduleSwitched: "schedule_switched",
    events.NotificationDelivered: "notification_delivered",
    events.NotificationFailed: "notification_failed",
    events.NotificationDropped: "notification_dropped",
}

log = structlog.get_logger("orchestrator.events")

# Keys that read better, or that other tools know better, than the event's own field names.
_KEYS = {"from_heads": "from", "to_heads": "to", "kind": "error", "code": "error_code", "revision": "error_revision"}
_ROLLOUT_LEVELS: Mapping[str, Level] = {
    "awaiting_approval": "warning",
    "paused": "warning",
    "aborted": "warning",
    "failed": "error",
    "rolled_back": "warning",
}
_OUTCOME_LEVELS: Mapping[str, Level] = {
    "succeeded": "info",
    "up_to_date": "info",
    "skipped": "info",
    "rolled_back": "info",
    "failed": "error",
}


@dataclass(frozen=True, slots=True)
class Line:
    level: Level
    name: str
    fields: Mapping[str, Any]


def line(event: events.Event) -> Line | None:
    """The line that tells of `event`; None for an event that has no name in the table."""
    name = NAMES.get(type(event))
    return Line(level(event), name, fields(event)) if name else None


def level(event: events.Event) -> Level:
    """How loud an event is: `error` wants a person, `warning` may, the rest is the record."""
    match event:
        case events.MigrationFinished(outcome=outcome):
            return _OUTCOME_LEVELS.get(outcome, "warning")
        case events.RolloutStateChanged(state=state):
            return _ROLLOUT_LEVELS.get(state, "info")
        case events.RegistryReloaded(result=result):
            return "error" if result == "failed" else "info"
        case events.MigrationRetried() | events.ReplayRefused() | events.PlanJudged(differs=True):
            return "warning"
        case events.ShardThrottled():
            return "warning"
        case events.ShardLimitChanged(reason=reason):
            return "info" if reason is None else "debug"
        case events.TargetsAppeared(reason=reason):
            return "info" if reason is None else "warning"
        case events.BackupFailed() | events.SourceStale() | events.TenantsIgnored() | events.TargetsVanished():
            return "warning"
        case events.BackupTaken() | events.RolloutCreated() | events.WaveChanged() | events.PlanJudged():
            return "info"
        case events.BackfillStopped(kind=kind):
            return "warning" if kind in ("too_slow", "failed") else "info"
        case events.BackfillStarted() | events.BackfillFinished() | events.BackfillHeld() | events.BackfillReleased():
            return "info"
        case events.SourceRecovered() | events.BackfillOrdered():
            return "info"
        case events.Audited(outcome=outcome):
            return "info" if outcome == "done" else "warning"
        case events.LeaderLost() | events.ScheduleRan(outcome="failed"):
            return "error"
        case events.ScheduleRan(outcome="started" | "nothing_pending") | events.ScheduleSwitched():
            return "info"
        case events.ScheduleRan() | events.FleetFrozen() | events.FreezeLifted() | events.WindowsOverridden():
            return "warning"
        case events.NotificationFailed(wait_seconds=wait):
            return "error" if wait is None else "warning"
        case events.NotificationDropped():
            return "warning"
        case events.LeaderElected() | events.StoodBy():
            return "info"
        case _:
            return "debug"


def fields(event: events.Event) -> Mapping[str, Any]:
    """The event's values under the log's keys, without those that say nothing; seconds to the millisecond."""
    values = {key: value for key, value in event.as_dict().items() if key != "at" and value is not None}
    values.pop("batches", None)  # one number for each batch
    values.pop("statements", None)  # and a text for each statement
    if isinstance(event, events.MigrationFinished):
        values = {_KEYS.get(key, key): value for key, value in values.items()}
    return {key: round(value, 3) if isinstance(value, float) else value for key, value in values.items()}


def write(event: events.Event, ids: Callable[[events.Event], Mapping[str, str]] = lambda event: {}) -> None:
    """Subscribe this to the bus. A line that nobody wants to hear is not made: steps are many. `ids`: those of the
    trace and the span that tell of the event as well."""
    if level(event) == "debug" and not logging.getLogger().isEnabledFor(logging.DEBUG):
        return
    if told := line(event):
        say: Callable[..., object] = getattr(log, told.level)
        say(told.name, **told.fields, **ids(event))
