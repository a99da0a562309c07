"""The dashboard of backfills: rows that revisions change in batches, and what holds them up."""

from __future__ import annotations

from deploy.grafana.panels import LEADER, dashboard, graph, number, table
from deploy.grafana.variables import JOB, OF_SHARD, SMALL_ONES, Json, variable

PLACE = f'{{{JOB},track=~"$track",shard=~"$shard"}}'
SHARD = f'{{{JOB},shard=~"$shard"}}'
SOME = f"{{{JOB},{OF_SHARD}}}"
LAG = f'{{{JOB},{OF_SHARD},signal=~"replication_lag|replica_lag"}}'
OF_TRACK = f'{{{JOB},track=~"$track"}}'
RATE = "[$__rate_interval]"
NONE = "no backfill is underway"


def make() -> Json:
    return dashboard(
        "orchestrator-backfills",
        "Migrations: backfills",
        "How fast backfills go, how far they are, and what they give way to.",
        [variable("track", "orchestrator_targets"), variable("shard", "orchestrator_targets")],
        [
            number(
                "Underway",
                f"sum(orchestrator_backfills_in_progress{SHARD} {LEADER})",
                "Backfills that run or wait.",
                width=6,
                empty=NONE,
            ),
            number(
                "Rows each second",
                f"sum(rate(orchestrator_backfill_rows_total{PLACE}{RATE}))",
                "Rows that were changed.",
                width=6,
                empty=NONE,
            ),
            number(
                "Progress",
                f"min(orchestrator_backfill_progress_ratio{OF_TRACK})",
                "Of the revision that is least far, over the backfills that have begun.",
                width=6,
                unit="percentunit",
                largest=1,
                empty=NONE,
            ),
            number(
                "Rows changed",
                f"sum(increase(orchestrator_backfill_rows_total{PLACE}[$__range]))",
                "In the time that is shown.",
                width=6,
                empty=NONE,
            ),
            graph(
                "Rows each second, by revision",
                [("{{revision}}", f"sum by (revision) (rate(orchestrator_backfill_rows_total{PLACE}{RATE}))")],
                "Rows that were changed.",
                empty=NONE,
            ),
            graph(
                "Progress of backfills that have begun, by revision",
                [
                    (
                        "{{track}} {{revision}}",
                        f"max by (track, revision) (orchestrator_backfill_progress_ratio{OF_TRACK})",
                    )
                ],
                "Rows passed by rows to pass, in active rollouts. It falls when others begin.",
                unit="percentunit",
                largest=1,
                empty=NONE,
            ),
            graph(
                "Batch size",
                [("{{shard}}", f"max by (shard) (orchestrator_backfill_batch_size{SHARD})")],
                "Rows of the next batches, the mean of the backfills that are underway.",
                empty=NONE,
            ),
            graph(
                "Batch duration: 95 of 100 took less",
                [
                    (
                        "{{shard}}",
                        "histogram_quantile(0.95, sum by (le, shard) "
                        f"(rate(orchestrator_backfill_batch_duration_seconds_bucket{SOME}{RATE})))",
                    )
                ],
                f"From a batch's first statement to its commit. {SMALL_ONES}",
                unit="s",
                empty=NONE,
            ),
            graph(
                "Held, by reason",
                [
                    (
                        "{{shard}} {{reason}}",
                        "sum by (shard, reason) "
                        f"(rate(orchestrator_backfill_throttled_seconds_total{SHARD}{RATE})) > 0",
                    )
                ],
                "Backfills that waited, on average: 2 means that two waited all the time.",
                stacked=True,
                empty="nothing has held a backfill",
            ),
            graph(
                "Lag of replicas",
                [("{{shard}} {{signal}}", f"max by (shard, signal) (orchestrator_backfill_signal{LAG})")],
                f"Of the slowest replica of each shard, read while backfills run there. {SMALL_ONES}",
                unit="s",
                empty=f"{NONE}, or no lag is read",
            ),
            table(
                "What backfills give way to, as of now",
                f"max by (shard, signal) (orchestrator_backfill_signal{SOME})",
                f"Each shard's signals, in their own units. Thresholds are in the registry. {SMALL_ONES}",
                {"shard": "shard", "signal": "signal", "Value": "value"},
                largest_first=True,
                empty=f"{NONE}, or the registry sets no thresholds",
            ),
            graph(
                "Underway by shard",
                [("{{shard}}", f"sum by (shard) (orchestrator_backfills_in_progress{SHARD} {LEADER})")],
                "Backfills that run or wait.",
                empty=NONE,
            ),
        ],
    )
