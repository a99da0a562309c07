"""The dashboard of rollouts that are underway, and of what their migrations came to."""

from __future__ import annotations

from deploy.grafana.overrides import ROLLOUTS
from deploy.grafana.panels import LEADER, SELDOM, Panel, dashboard, graph, number, table
from deploy.grafana.variables import JOB, OF_SHARD, OF_TRACK, SMALL_ONES, Json, variable

HERE = f'{{{JOB},rollout=~"$rollout"}}'
ROLLOUT = f'{{{JOB},rollout=~"$rollout",{OF_TRACK}}}'
PLACE = f'{{{JOB},track=~"$track",shard=~"$shard"}}'
SHARD = f'{{{JOB},shard=~"$shard"}}'
# Of histograms.
SOME_PLACES, SOME = f'{{{JOB},track=~"$track",{OF_SHARD}}}', f"{{{JOB},{OF_SHARD}}}"
# Of the track, as what a rollout tells without naming its track.
OURS = f"{LEADER} and on (job, instance, rollout) orchestrator_rollout_started_timestamp_seconds{ROLLOUT}"
NONE = "no rollout is active"
RATE = "[$__rate_interval]"


def targets(states: str) -> str:
    return f'orchestrator_rollout_targets{{{JOB},rollout=~"$rollout",{OF_TRACK},state=~"{states}"}} {LEADER}'


def make() -> Json:
    variables = [
        variable("track", "orchestrator_targets"),
        variable("shard", "orchestrator_targets"),
        variable("rollout", "orchestrator_rollout_started_timestamp_seconds", OF_TRACK),
    ]
    title, told = "Migrations: rollouts", "How far active rollouts are, what failed and why, what holds them up."
    return dashboard("orchestrator-rollout", title, told, variables, [*_standing(), *_work(), *_trouble()])


def _standing() -> list[Panel]:
    return [
        number(
            "Active",
            f"count(orchestrator_rollout_started_timestamp_seconds{ROLLOUT} {LEADER})",
            "Rollouts that have not ended.",
            empty=NONE,
        ),
        number(
            "Progress",
            f"min(orchestrator_rollout_progress_ratio{HERE} {OURS})",
            "Finished part of the rollout, of the one that is least far.",
            unit="percentunit",
            largest=1,
            empty=NONE,
        ),
        number(
            "Time left",
            f"max(orchestrator_rollout_eta_seconds{HERE} {OURS})",
            "Until the last target, at the rate so far.",
            unit="s",
            empty="not known",
        ),
        number(
            "Failed",
            f"sum({targets('failed|locked|unreachable|ahead')})",
            "Targets that are not at the goal and will not be without a retry.",
            empty=NONE,
            steps=[(None, "green"), (1, "red")],
        ),
        number(
            "Since the last progress",
            f"max((time() - orchestrator_rollout_last_progress_timestamp_seconds{HERE}) {OURS})",
            "Since a target, a step, a batch or a wave last began or ended.",
            unit="s",
            empty=NONE,
            steps=[(None, "green"), (300, "yellow"), (900, "red")],
        ),
        number(
            "Failure budget used",
            f"max(orchestrator_rollout_failure_budget_used_ratio{HERE} {OURS})",
            "Of the wave that has used most; at 100 % the rollout reacts.",
            unit="percentunit",
            empty="no budget",
            steps=[(None, "green"), (0.5, "yellow"), (1, "red")],
        ),
        table(
            "Rollouts",
            f"(time() - orchestrator_rollout_state_since_timestamp_seconds{ROLLOUT}) {LEADER}",
            "Each active rollout, its state, and for how long it has been in it.",
            {"rollout": "rollout", "track": "track", "state": "state", "Value": "for"},
            unit="s",
            height=6,
            states=ROLLOUTS,
            empty=NONE,
        ),
        table(
            "Failures by signature",
            f"sum by (rollout, signature) (orchestrator_rollout_failures{HERE} {OURS}) > 0",
            "Failures of one cause have one signature: revision, error, digest of the statement.",
            {"rollout": "rollout", "signature": "signature", "Value": "targets"},
            height=6,
            largest_first=True,
            empty="nothing has failed",
        ),
        graph(
            "Targets by state",
            [("{{state}}", f"sum by (state) (orchestrator_rollout_targets{ROLLOUT} {LEADER}) > 0")],
            "The rollout's targets, each in one state; together they are all of them.",
            stacked=True,
            empty=NONE,
        ),
        graph(
            "Waves: targets that have not ended",
            [
                (
                    "{{rollout}} {{wave}}",
                    f"sum by (rollout, wave) ({targets('pending|running')})",
                )
            ],
            "What is left of each wave.",
            empty=NONE,
        ),
        graph(
            "Progress",
            [("{{rollout}}", f"max by (rollout) (orchestrator_rollout_progress_ratio{HERE} {OURS})")],
            "Finished part of each rollout.",
            unit="percentunit",
            largest=1,
            empty=NONE,
        ),
        graph(
            "Failure budget used, by wave",
            [
                (
                    "{{rollout}} {{wave}}",
                    f"max by (rollout, wave) (orchestrator_rollout_failure_budget_used_ratio{HERE} {OURS})",
                )
            ],
            "At 100 % the rollout pauses, aborts or goes back, as its strategy says.",
            unit="percentunit",
            empty="no active rollout has a budget of failures",
        ),
    ]


def _work() -> list[Panel]:
    return [
        graph(
            "Migrations each minute, by outcome",
            [("{{outcome}}", f"60 * sum by (outcome) (rate(orchestrator_migrations_total{PLACE}{RATE})) > 0")],
            "Migrations that ended, in all rollouts.",
            stacked=True,
            empty="no migration has ended",
        ),
        graph(
            "Migrations running, and how many may",
            [
                (
                    "{{shard}} running",
                    f"sum by (shard) (orchestrator_migrations_in_progress{SHARD} {LEADER})",
                ),
                ("{{shard}} limit", f"min by (shard) (orchestrator_shard_concurrency_limit{SHARD} {LEADER})"),
            ],
            "A limit below the registry's says that the server has no room for more. A target that waits for its next "
            "attempt counts as running, and needs no room meanwhile.",
            empty="no registry",
        ),
    ]


def _trouble() -> list[Panel]:
    return [
        graph(
            "Durations by shard: 95 of 100 took less",
            [
                (
                    "{{shard}} {{execution}}",
                    "histogram_quantile(0.95, sum by (le, shard, execution) "
                    f"(rate(orchestrator_migration_duration_seconds_bucket{SOME_PLACES}{SELDOM})))",
                )
            ],
            "From start to end, over all attempts, of migrations that succeeded or failed in the last five minutes. "
            + SMALL_ONES,
            unit="s",
            width=8,
            empty="no migration has ended",
        ),
        graph(
            "Waits for a target's lock: 95 of 100 were shorter",
            [
                (
                    "{{shard}}",
                    "histogram_quantile(0.95, sum by (le, shard) "
                    f"(rate(orchestrator_lock_wait_seconds_bucket{SOME}{SELDOM})))",
                )
            ],
            f"In the last five minutes, whether the lock was had or not. {SMALL_ONES}",
            unit="s",
            width=8,
            empty="no lock was asked for",
        ),
        graph(
            "Retries each minute, by reason",
            [
                (
                    "{{shard}} {{reason}}",
                    f"60 * sum by (shard, reason) (rate(orchestrator_migration_retries_total{PLACE}{RATE})) > 0",
                )
            ],
            "Attempts that failed and were followed by another.",
            width=8,
            stacked=True,
            empty="no attempt had to be repeated",
        ),
    ]
