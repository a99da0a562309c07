"""The dashboard of the fleet: where all targets are, apart from any rollout."""

from __future__ import annotations

from deploy.grafana.overrides import COLOURS
from deploy.grafana.panels import LEADER, dashboard, graph, number, table
from deploy.grafana.variables import JOB, Json, variable

HERE = f'{{{JOB},track=~"$track",shard=~"$shard"}}'
OF_TRACK = f'{{{JOB},track=~"$track"}}'


def targets(state: str = "") -> str:
    wanted = f',state="{state}"' if state else ""
    return f'sum(orchestrator_targets{{{JOB},track=~"$track",shard=~"$shard"{wanted}}} {LEADER})'


def make() -> Json:
    return dashboard(
        "orchestrator-fleet",
        "Migrations: fleet",
        "Which targets are at their goal, which are not, and for how long.",
        [variable("track", "orchestrator_targets"), variable("shard", "orchestrator_targets")],
        [
            number("Targets", targets(), "All targets of the registry.", empty="no registry"),
            number(
                "Up to date",
                f"{targets('up_to_date')} / {targets()}",
                "Part of the targets that are at their track's heads.",
                unit="percentunit",
                largest=1,
                empty="no targets",
                steps=[(None, "red"), (0.5, "yellow"), (1, "green")],
            ),
            number(
                "Behind", targets("behind"), "They have something to apply.", steps=[(None, "green"), (1, "yellow")]
            ),
            number(
                "Ahead",
                targets("ahead"),
                "They are at a revision that this build does not know.",
                steps=[(None, "green"), (1, "red")],
            ),
            number(
                "Unreachable",
                targets("unreachable"),
                "Their heads could not be read.",
                steps=[(None, "green"), (1, "orange")],
            ),
            number(
                "Oldest pending",
                f"max(orchestrator_oldest_pending_target_seconds{OF_TRACK} {LEADER})",
                "How long the target that waits longest has had something to apply.",
                unit="s",
                empty="none is pending",
                steps=[(None, "green"), (86400, "yellow"), (604800, "red")],
            ),
            graph(
                "Targets by state",
                [("{{state}}", f"sum by (state) (orchestrator_targets{HERE} {LEADER}) > 0")],
                "All targets, each in one state.",
                stacked=True,
                empty="no targets in the registry",
            ),
            graph(
                "Targets by revision",
                [
                    (
                        "{{track}} {{revision}}",
                        f"topk(20, sum by (track, revision) (orchestrator_target_revisions{OF_TRACK} {LEADER}))",
                    )
                ],
                "How far the fleet is spread over revisions: the twenty that most targets are at.",
                stacked=True,
                empty="no target was read yet",
            ),
            graph(
                "Oldest pending by track",
                [("{{track}}", f"max by (track) (orchestrator_oldest_pending_target_seconds{OF_TRACK} {LEADER})")],
                "How long the target that waits longest has had something to apply; 0 where none waits.",
                unit="s",
            ),
            table(
                "Not at the goal",
                f'sum by (track, shard, state) (orchestrator_targets{{{JOB},track=~"$track",shard=~"$shard",'
                f'state!="up_to_date"}} {LEADER}) > 0',
                "How many targets are behind, ahead, empty, unread or out of reach, and on which shard.",
                {"track": "track", "shard": "shard", "state": "state", "Value": "targets"},
                states=COLOURS,
                largest_first=True,
                empty="all targets are up to date",
            ),
            graph(
                "Drifted targets",
                [
                    ("{{track}} drifted", f"sum by (track) (orchestrator_drifted_targets{OF_TRACK})"),
                    ("{{track}} unread", f"sum by (track) (orchestrator_drift_unread_targets{OF_TRACK})"),
                ],
                "Targets whose schema differs from that of the others at their revision, and those that could not be "
                "compared, when they were last looked at.",
                empty="no track was looked at yet",
            ),
            graph(
                "Since the last look for drift",
                [("{{track}}", f"time() - max by (track) (orchestrator_drift_last_look_timestamp_seconds{OF_TRACK})")],
                "How old what is known of drift is.",
                unit="s",
                empty="no track was looked at yet",
            ),
            table(
                "Laggards",
                f"(orchestrator_laggard_pending_seconds{OF_TRACK} * on (job, instance, tenant, track) "
                f"group_right () orchestrator_laggard_info{HERE}) {LEADER}",
                "The targets that have waited longest. ORCHESTRATOR_METRICS_LAGGARDS says how many are named.",
                {
                    "tenant": "tenant",
                    "track": "track",
                    "shard": "shard",
                    "state": "state",
                    "revision": "at",
                    "Value": "pending for",
                },
                unit="s",
                states=COLOURS,
                largest_first=True,
                empty="none waits, or ORCHESTRATOR_METRICS_LAGGARDS is not set",
            ),
            graph(
                "Targets by source",
                [("{{source}}", f"sum by (source) (orchestrator_registry_targets{{{JOB}}} {LEADER})")],
                "Where the registry has its targets from.",
                stacked=True,
            ),
        ],
    )
