"""The lines that calls of the logger make, in all rooms. A test holds the table and the calls equal."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.observe.log_entries import Entry, call

_BUG = "This is a bug: please report it with `exception`."
_STORE = "Look at the store's server and at the way to it. It is tried again by itself."

ROLLOUTS: Sequence[Entry] = (
    call("adopted", "info", "rollout tenant track shard to", "A target without a version table was stamped first."),
    call(
        "history_changed",
        "info",
        "rollout track",
        "Revision files are others than when the rollout was made, and it goes on with them.",
    ),
    call(
        "schema_apart",
        "info",
        "rollout tenant track shard message",
        "A target's schema is another than that of the first of its plan, so it is not sent what was recorded there.",
    ),
    call(
        "limit_changed",
        "info",
        "rollout max_concurrent by",
        "A person set how many of a rollout's targets run at once.",
    ),
    call(
        "rollout_stopped",
        "error",
        "rollout message remedy",
        "A rollout is not carried out any more by this process, though it has not ended.",
        "`message` says what it could not go on without: as a rule, the store. The next start of the daemon goes on.",
    ),
    call(
        "migration_crashed",
        "error",
        "rollout tenant track shard wave exception",
        "An attempt failed in a way that nobody thought of; `migration_finished` follows, with `error` bug.",
        _BUG,
    ),
    call(
        "migration_waits",
        "warning",
        "tenant track blocked_by remedy",
        "Somebody else's transaction keeps a statement waiting that has no limit for that.",
        "End that session's transaction, or let it finish.",
    ),
    call(
        "invalid_indexes",
        "warning",
        "tenant track shard indexes remedy",
        "An attempt that was cut short has left indexes half built.",
        "`remedy` has the statements that drop them or build them anew.",
    ),
    call(
        "backfill_ends_not_read",
        "debug",
        "rollout tenant track shard message remedy",
        "Whether backfills of an earlier attempt have come to their end could not be read; the attempt goes on.",
    ),
    call(
        "backups_not_rotated",
        "warning",
        "tenant track shard message",
        "Old backups of a target could not be removed. The new one is good.",
        "Look at the folder's owner, rights and free space.",
    ),
    call(
        "backfill_not_answered",
        "warning",
        "revision table error message",
        "A backfill was stopped because its pace could not be decided.",
        "Its migration says why it failed; the checkpoint stays. " + _BUG.replace("`exception`", "this line"),
    ),
    call(
        "backfills_not_kept",
        "warning",
        "message",
        "How far backfills are could not be written at the end. Checkpoints on the targets count.",
        _STORE,
    ),
    call("check_asked", "debug", "strategy wave check passed message seconds", "A wave's check gave an answer."),
    call("asking_check_crashed", "error", "check tenant track exception", "A check could not be asked.", _BUG),
    call("asking_probe_crashed", "error", "probe exception", "A backfill's probe could not be asked.", _BUG),
    call(
        "reading_signals_crashed", "error", "exception", "A shard's load could not be read; it holds backfills.", _BUG
    ),
    call("asking_for_head_room_crashed", "error", "shard exception", "A server's room could not be asked for.", _BUG),
    call("rendering_crashed", "error", "exception", "A plan could not be compiled; env.py carries it out.", _BUG),
    call("measuring_crashed", "error", "shard database exception", "Sizes of tables could not be read.", _BUG),
    call("comparing_crashed", "error", "tenant track shard exception", "A target's schema could not be read.", _BUG),
    call("reading_heads_crashed", "error", "tenant track shard exception", "Heads could not be read.", _BUG),
)

HISTORIES: Sequence[Entry] = (
    call(
        "history_unusable",
        "warning",
        "track message remedy",
        "A track's env.py or revision files cannot be used.",
        "Mend what `message` says; `orchestrator check` tells whether it is well.",
    ),
    call(
        "version_table_overruled",
        "warning",
        "track env_py registry",
        "env.py names another version table than the registry. env.py's is taken.",
        "Write the same into the registry, or take it out of env.py.",
    ),
    call(
        "version_table_schema_overruled",
        "warning",
        "track env_py registry",
        "The same of the version table's schema.",
        "Write the same into the registry, or take it out of env.py.",
    ),
)

STORE: Sequence[Entry] = (
    call(
        "lead_not_asked_for",
        "warning",
        "message remedy",
        "Whether somebody leads could not be asked; told once for each cause.",
        _STORE,
    ),
    call(
        "lease_not_renewed",
        "warning",
        "message seconds_left",
        "The lead could not be renewed; without it in `seconds_left`, the process ends.",
        _STORE,
    ),
    call("commands_not_read", "warning", "message remedy", "What standbys ask for could not be read.", _STORE),
    call("command_not_answered", "warning", "command rollout message", "A standby's command was not answered.", _STORE),
    call("command_failed", "error", "command rollout exception", "A standby's command failed.", _BUG),
    call("schedules_not_read", "warning", "message remedy", "Whether a schedule is due could not be read.", _STORE),
    call("schedule_not_recorded", "warning", "schedule message", "A run was not recorded; it is due still.", _STORE),
    call("schedule_not_started", "info", "schedule message", "Somebody was quicker with a run, or disabled it."),
    call("drift_not_recorded", "warning", "message remedy", "What was found of drift was not recorded.", _STORE),
    call(
        "pending_not_recorded",
        "warning",
        "message remedy",
        "Since when targets have had something to apply could not be read or recorded.",
        _STORE,
    ),
    call(
        "drift_not_looked_for",
        "warning",
        "track message remedy",
        "A track's schemas were not compared; the next look is when it is due.",
        "Mend what `message` says; `orchestrator drift` looks at once.",
    ),
    call("drift_look_crashed", "error", "track exception", "A track's schemas could not be compared.", _BUG),
    call("schedule_crashed", "error", "schedule exception", "A run failed in a way that nobody thought of.", _BUG),
    call("notifications_held_up", "warning", "message remedy", "Notifications wait: the store fails.", _STORE),
    call("notifications_failed", "error", "exception", "Notifications wait; told once.", _BUG),
    call("notification_not_recorded", "warning", "channel message", "What came of one was not recorded.", _STORE),
    call("notification_crashed", "error", "channel delivery exception", "A notification could not be sent.", _BUG),
    call("traces_on", "info", "endpoint", "Traces are sent from now on."),
    call(
        "traces_undelivered",
        "warning",
        "endpoint spans remedy",
        "Spans are lost, while rollouts go on; told once.",
        "Look whether `OTEL_EXPORTER_OTLP_ENDPOINT` is right and answers.",
    ),
    call("traces_delivered_again", "info", "endpoint lost", "Spans arrive again; so many were lost."),
    call(
        "traces_cut_short",
        "warning",
        "seconds remedy",
        "At its end the daemon could not send all spans in time; the rest is lost.",
        "Look why the receiver of traces is slow.",
    ),
    call("event_not_published", "error", "event_name sequence exception", "An event is durable but untold.", _BUG),
    call("subscriber_failed", "error", "subscriber event_name exception", "Told once of each subscriber.", _BUG),
    call("discovery_crashed", "error", "source exception", "A source of tenants could not be asked.", _BUG),
)

DAEMON: Sequence[Entry] = (
    call("listening", "info", "url store targets", "The daemon answers at `url`."),
    call("stopping", "info", "signal", "The daemon was asked to stop."),
    call("stopped_at_once", "info", "signal", "It was asked twice, and ends. The next start goes on with what ran."),
    call(
        "store_lost",
        "error",
        "message remedy",
        "The store could not be used, and the daemon ends for it, with exit code 5.",
        "Look at the store's server and at the way to it, and see that the daemon is started again: it goes on with "
        "what is recorded.",
    ),
    call(
        "ended_by_error",
        "error",
        "message remedy",
        "The daemon ends for what `message` says.",
        "Mend that, and start it again.",
    ),
    call("ended_by_bug", "error", "exception", "The daemon ends by an error that nobody thought of.", _BUG),
    call(
        "ended_at_once",
        "error",
        "remedy",
        "What ran did not end in time, not even by force, and the process ends with exit code 1.",
        "The next start goes on with what ran. If it repeats, look for revisions that wait for something else than a "
        "database.",
    ),
    call("draining", "info", "rollouts grace_seconds", "What runs may end; nothing new is started."),
    call(
        "drained_by_force",
        "warning",
        "remedy",
        "What ran when the time was over was cancelled.",
        "The next start goes on with it. Give longer with `ORCHESTRATOR_SHUTDOWN_GRACE_SECONDS`.",
    ),
    call("request_answered", "info", "method path status client seconds", "A request that was to change something."),
    call("request_failed", "error", "method path exception", "A request was answered with status 500.", _BUG),
    call(
        "not_audited",
        "warning",
        "action by outcome message",
        "What was refused or has failed could not be recorded in the audit.",
        _STORE,
    ),
    call(
        "unauthenticated",
        "warning",
        "host remedy",
        "The daemon listens for others than this machine, and nobody needs a token.",
        "Make tokens, unless whatever stands before the daemon asks for proof.",
    ),
    call(
        "listening_without_tls",
        "warning",
        "host remedy",
        "Tokens go over the network in the clear.",
        "Set `ORCHESTRATOR_TLS_CERTIFICATE` and `_KEY`, unless a proxy before the daemon speaks TLS.",
    ),
    call(
        "door_closed_by_leader",
        "warning",
        "remedy",
        "The leader asks for tokens that this daemon was not given.",
        "Give all daemons of a store the same tokens file and provider.",
    ),
    call("token_uses_not_recorded", "warning", "message", "When tokens were used last is written later.", _STORE),
    call("tokens_file_read", "info", "file count", "The tokens file was read anew, with so many tokens."),
    call(
        "tokens_file_gone",
        "warning",
        "file remedy",
        "There is no tokens file any more; none of its tokens counts.",
        "Put it back, unless it was meant.",
    ),
    call(
        "tokens_file_refused",
        "error",
        "message remedy count",
        "The tokens file has mistakes. The tokens of the last good one count.",
        "Correct it: whoever was taken out of it still gets in.",
    ),
    call(
        "oidc_keys_not_read",
        "warning",
        "url error message",
        "The identity provider's keys could not be read. Those of before count for a day.",
        "Look at the provider, and at `ORCHESTRATOR_OIDC_JWKS`.",
    ),
    call("oidc_keys_crashed", "error", "url exception", "The same, in a way that nobody thought of.", _BUG),
    call("certificate_renewed", "info", "file", "A certificate was read anew."),
    call(
        "certificate_refused",
        "error",
        "message remedy",
        "A certificate that was put in place cannot be used. The old one goes on.",
        "Put certificate and key there that belong together, before the old one expires.",
    ),
)

ENTRIES: Sequence[Entry] = (*ROLLOUTS, *HISTORIES, *STORE, *DAEMON)
