"""The dashboard of the daemon itself: who leads, whether it keeps up, what it is told by registry and store."""

from __future__ import annotations

from deploy.grafana.panels import LEADER, Panel, dashboard, graph, number, table, timeline
from deploy.grafana.variables import JOB, Json, variable

HERE = f'{{{JOB},instance=~"$instance"}}'
ALL = f"{{{JOB}}}"
RATE = "[$__rate_interval]"


def make() -> Json:
    title, told = "Migrations: daemon", "Who leads, whether the daemons keep up, and what registry and store say."
    variables = [variable("instance", "orchestrator_leader")]
    return dashboard("orchestrator-daemon", title, told, variables, [*_standing(), *_process(), *_around()])


def _standing() -> list[Panel]:
    return [
        number(
            "Leaders",
            f"sum(orchestrator_leader{ALL})",
            "Daemons that drive rollouts: one for each store.",
            empty="no daemon",
            steps=[(None, "red"), (1, "green"), (2, "red")],
        ),
        number("Daemons", f"count(orchestrator_leader{ALL})", "Leaders and those that stand by.", empty="no daemon"),
        number(
            "Registry",
            f"min(orchestrator_registry_valid{HERE})",
            "While its file has mistakes, the registry of before goes on.",
            empty="not read",
            words={0: ("has mistakes", "red"), 1: ("valid", "green")},
        ),
        number(
            "Stale sources",
            f"sum(max by (source) (orchestrator_registry_source_stale{HERE})) or vector(0)",
            "Sources of tenants that give no good answer.",
            steps=[(None, "green"), (1, "red")],
        ),
        number(
            "Store errors in an hour",
            f"sum(increase(orchestrator_store_errors_total{HERE}[1h]))",
            "Reads and transactions of the store that failed.",
            steps=[(None, "green"), (1, "red")],
        ),
        number(
            "Since the last start",
            f"min(time() - process_start_time_seconds{HERE})",
            "Of the daemon that was started last: small again and again where one does not stay up.",
            unit="s",
            empty="no daemon",
        ),
        table(
            "Versions",
            f"orchestrator_build_info{HERE}",
            "What runs where.",
            {"instance": "instance", "version": "version", "alembic": "Alembic", "sqlalchemy": "SQLAlchemy"},
            height=5,
            empty="no daemon",
        ),
        timeline(
            "Who leads",
            ("{{instance}}", f"orchestrator_leader{HERE}"),
            "One daemon of a store drives its rollouts; the others wait to take over.",
            {0: ("stands by", "#8e8e8e"), 1: ("leads", "green")},
            height=5,
            empty="no daemon",
        ),
    ]


def _process() -> list[Panel]:
    lag = f"sum by (le, instance) (rate(orchestrator_event_loop_lag_seconds_bucket{HERE}{RATE}))"
    return [
        graph(
            "Lag of the event loop: 99 of 100 were less",
            [("{{instance}}", f"histogram_quantile(0.99, {lag})")],
            "How much later than asked for the loop came back. Above 0.25 s answers and heartbeats suffer.",
            unit="s",
        ),
        graph(
            "Processor",
            [("{{instance}}", f"rate(process_cpu_seconds_total{HERE}{RATE})")],
            "Of the daemon's own process; 100 % is one core. Migrations run in processes beside it.",
            unit="percentunit",
        ),
        graph(
            "Memory",
            [("{{instance}}", f"process_resident_memory_bytes{HERE}")],
            "Resident, of the daemon's own process.",
            unit="bytes",
        ),
        graph(
            "Open files and sockets",
            [("{{instance}}", f"process_open_fds{HERE}")],
            "Of the daemon's own process.",
        ),
    ]


def _around() -> list[Panel]:
    return [
        graph(
            "Readings of the registry in an hour",
            [("{{result}}", f"sum by (result) (increase(orchestrator_registry_reloads_total{HERE}[1h]))")],
            "Changed, unchanged (when somebody asked for it) and failed.",
            height=6,
            empty="the registry has not changed since the start",
        ),
        table(
            "Sources of tenants",
            f"time() - (orchestrator_registry_source_refreshed_timestamp_seconds{HERE} {LEADER})",
            "Since each source that the registry asks last gave a good answer.",
            {"source": "source", "Value": "last good answer before"},
            unit="s",
            largest_first=True,
            height=6,
            empty="the registry has no sources besides its file",
        ),
        graph(
            "Store errors each minute",
            [("{{operation}}", f"60 * sum by (operation) (rate(orchestrator_store_errors_total{HERE}{RATE}))")],
            "Reads and writes that failed.",
        ),
        graph(
            "Notifications each minute, by result",
            [
                (
                    "{{channel}} {{result}}",
                    f"60 * sum by (channel, result) (rate(orchestrator_notifications_total{HERE}{RATE}))",
                )
            ],
            "Delivered, failed (another attempt follows), dead or dropped.",
            empty="nobody was notified of anything",
        ),
        table(
            "Schedules",
            f"orchestrator_schedule_next_run_timestamp_seconds{HERE} - time()",
            "How long until each schedule starts next.",
            {"schedule": "schedule", "Value": "starts in"},
            unit="s",
            height=6,
            empty="no schedule is enabled",
        ),
        graph(
            "Runs of schedules in an hour, by outcome",
            [
                (
                    "{{schedule}} {{outcome}}",
                    f"sum by (schedule, outcome) (increase(orchestrator_schedule_runs_total{HERE}[1h]))",
                )
            ],
            "Started, nothing to do, skipped, missed or failed.",
            height=6,
            empty="no schedule has run",
        ),
    ]
