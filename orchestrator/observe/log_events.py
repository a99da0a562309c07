"""The lines that tell of events: names, levels, and what they say. `log_calls` has the others.

Names and keys are what people search and alert by: extend them, do not rename. A warning or an error is what somebody
must act on; per target there is one line at `info`, its end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator import events
from orchestrator.observe.log_entries import By, Entry, Told, told

_LOOK = "`orchestrator rollout show` says what it waits for and why; its runbook tells the rest."

# What a rollout's last line has besides what its event has.
FINISHED_KEYS = (
    "rollout track outcome reason total counts waves seconds goal to select direction strategy created_by plan_digest "
    "schedule rolled_back failures"
)
ROLLOUT_FINISHED = Entry(
    "rollout_finished",
    By("outcome", {"failed": "error", "aborted": "warning", "rolled_back": "warning"}, "info"),
    "A rollout ended: one line for each end, with all that one counts and groups by. One that somebody retries or "
    "takes back ends again, and its last line counts.",
    "`failures` names the causes, by how many targets have them. Mend them, then `orchestrator rollout retry`.",
    tuple(FINISHED_KEYS.split()),
)

ROLLOUTS: Sequence[Told] = (
    told(events.RolloutCreated, "rollout_created", "info", "A rollout and its targets were written down."),
    told(events.RolloutRequested, "rollout_requested", "debug", "Who asked for a rollout traces their own work."),
    told(
        events.RolloutStateChanged,
        "rollout_state_changed",
        By("state", {"awaiting_approval": "warning", "paused": "warning"}, "info"),
        "A rollout is in another state, or goes on in the same after a restart. `rollout_finished` follows its last.",
        f"It stands until somebody approves, resumes, retries or aborts it. {_LOOK}",
    ),
    told(events.WaveChanged, "wave_changed", "info", "A wave began, ended, passed its gate, was checked or approved."),
    told(
        events.TargetsAppeared,
        "targets_appeared",
        By("reason", {None: "info"}, "warning"),
        "The registry has targets that a running rollout would have taken: it takes them, or leaves them to the next.",
        "They should have been taken and were not: start a rollout for them when this one has ended.",
    ),
    told(events.WindowsOverridden, "windows_overridden", "info", "A person let a rollout go on outside of windows."),
    told(
        events.PlanJudged,
        "plan_judged",
        By("differs", {True: "warning"}, "info"),
        "How targets are brought along a plan from now on: replayed, mixed or online, and why.",
        "env.py and the compiled SQL come to different schemas, or the targets' schemas are not alike: `reason` says "
        "where. env.py goes on; look whether targets have drifted.",
    ),
)

MIGRATIONS: Sequence[Told] = (
    told(events.MigrationStarted, "migration_started", "debug", "An attempt at a target began."),
    told(events.SegmentRan, "segment_ran", "debug", "A part of a target's plan was carried out; while traces are on."),
    told(events.StepApplied, "step_applied", "debug", "A revision was applied to a target."),
    told(events.MigrationRetried, "migration_retried", "info", "An attempt failed; another follows by itself."),
    told(
        events.ReplayRefused,
        "replay_refused",
        "info",
        "The server refused a plan's compiled SQL, and env.py took the target on.",
    ),
    told(
        events.BackupTaken, "backup_taken", "info", "A target was backed up before its first change, where a wave asks."
    ),
    told(
        events.BackupFailed,
        "backup_failed",
        "warning",
        "A target could not be backed up, so it was not touched.",
        "Mend what `message` says, then retry the target.",
    ),
    told(
        events.MigrationFinished,
        "migration_finished",
        By("outcome", {"failed": "error", "locked": "warning", "unreachable": "warning", "ahead": "warning"}, "info"),
        "A target ended: one line for each end, also of one that was never tried, with all that one counts and groups "
        "by. One that somebody retries, skips or takes back ends again, and its last line counts.",
        "`message` says what stopped it and `remedy` what to do. Then `orchestrator rollout retry`.",
        further="database schema",
    ),
)

BACKFILLS: Sequence[Told] = (
    told(events.BackfillStarted, "backfill_started", "debug", "A backfill's first batch may go on a target."),
    told(events.BackfillProgressed, "backfill_progressed", "debug", "How far a backfill is, once a second."),
    told(events.BackfillFinished, "backfill_finished", "info", "A backfill has changed all its rows on a target."),
    told(
        events.BackfillStopped,
        "backfill_stopped",
        By("kind", {"too_slow": "warning", "failed": "warning"}, "info"),
        "A backfill ended before its last row. Its checkpoint stays, and the next run goes on from there.",
        "`reason` says why. Where the smallest batch is too slow, look for a missing index, or a lock.",
    ),
    told(
        events.BackfillHeld,
        "backfill_held",
        By("tenant", {None: "info"}, "debug"),
        "Backfills wait from now on: all of a shard, or with `tenant` one target's.",
    ),
    told(
        events.BackfillReleased,
        "backfill_released",
        By("tenant", {None: "info"}, "debug"),
        "What held backfills does so no more.",
    ),
    told(events.BackfillOrdered, "backfill_ordered", "info", "A person paused, resumed, ended or adjusted backfills."),
)

FLEET: Sequence[Told] = (
    told(events.LockWaited, "lock_waited", "debug", "A target's lock was taken, or was not to be had in time."),
    told(
        events.ShardThrottled,
        "shard_throttled",
        "warning",
        "A server has not the connections for as many migrations as the registry allows.",
        "Give it more connections, close some, or lower the shard's `max_concurrent`.",
    ),
    told(
        events.ShardLimitChanged,
        "shard_limit_changed",
        By("reason", {None: "info"}, "debug"),
        "So many migrations may run on a shard at once from now on.",
    ),
    told(events.TargetObserved, "target_observed", "debug", "A target's heads were read, or could not be."),
    told(
        events.RegistryReloaded,
        "registry_reloaded",
        By("result", {"failed": "error"}, "info"),
        "The registry was read again.",
        "Mend what `message` lists. The registry of before goes on.",
    ),
    told(
        events.SourceStale,
        "source_stale",
        "warning",
        "A source of tenants gave no good answer; its last one goes on.",
        "Mend what `reason` says, or reload the registry if the answer is meant.",
    ),
    told(events.SourceRecovered, "source_recovered", "info", "A source answers again."),
    told(
        events.TenantsIgnored,
        "tenants_ignored",
        "warning",
        "A source names what cannot be a tenant. They are left out.",
        "`examples` say why. Correct them in the source, or `exclude` them.",
    ),
    told(
        events.TargetsVanished,
        "targets_vanished",
        "warning",
        "Targets are no longer in the registry.",
        "Nothing, if they are gone for good. Else put them back: nobody migrates them any more.",
    ),
    told(
        events.DriftFound,
        "drift_found",
        "warning",
        "A target's schema is not as that of the others at its revision.",
        "`orchestrator drift TENANT` shows the lines that differ; docs/drift.md says how to mend them.",
    ),
    told(
        events.DriftUndecided,
        "drift_undecided",
        "warning",
        "Targets at one revision have no schema that most of them share: which of them drift cannot be told. One line "
        "for all of them.",
        "Say who is right: `orchestrator drift --reference TENANT` shows how the others differ from it.",
    ),
    told(
        events.DriftGone,
        "drift_gone",
        "info",
        "A target counts as drifted no more: it is as it should be, or alone at its revision.",
    ),
)

DAEMON: Sequence[Told] = (
    told(events.LeaderElected, "leader_elected", "info", "This process leads its store from now on."),
    told(
        events.LeaderLost,
        "leader_lost",
        "error",
        "This process led its store and does so no more. It ends with exit code 5.",
        "It must be started again, by whatever supervises it. If it repeats, look at the store's server.",
    ),
    told(events.StoodBy, "standby", "info", "This process waits until the one that leads is gone."),
    told(
        events.Audited,
        "audited",
        By("outcome", {"failed": "warning"}, "info"),
        "An act was recorded in the audit. Kept elsewhere, `hash` proves later that nothing before it was changed.",
        "What was asked for was not done; `reason` says why.",
    ),
    told(events.FleetFrozen, "fleet_frozen", "info", "A person froze the fleet: nothing starts any more."),
    told(events.FreezeLifted, "freeze_lifted", "info", "A person lifted the freeze."),
    told(
        events.ScheduleRan,
        "schedule_ran",
        By("outcome", {"failed": "error", "missed": "warning", "skipped": "warning"}, "info"),
        "A run of a schedule came to its outcome.",
        "It did not start what it should have: `reason` says why. `orchestrator schedule run` makes up for it.",
    ),
    told(events.ScheduleSwitched, "schedule_switched", "info", "A person enabled or disabled a schedule."),
    told(events.NotificationDelivered, "notification_delivered", "debug", "A channel took a notification."),
    told(
        events.NotificationFailed,
        "notification_failed",
        By("wait_seconds", {None: "error"}, "info"),
        "A channel did not take a notification; another attempt follows after `wait_seconds`.",
        "No further attempt is made. Mend the channel, then `orchestrator notifications retry`.",
    ),
    told(
        events.NotificationDropped,
        "notification_dropped",
        "warning",
        "There was no room to keep a notification.",
        "Nobody is told of this one. Find out why the channel takes nothing.",
    ),
)

ENTRIES: Sequence[Told] = (*ROLLOUTS, *MIGRATIONS, *BACKFILLS, *FLEET, *DAEMON)
BY_EVENT: Mapping[type[events.Event], Told] = {entry.event: entry for entry in ENTRIES}
