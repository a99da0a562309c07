"""Prometheus metrics: counters and histograms from events, gauges from the fleet's picture at each scrape.

No metric has a tenant as a label, and a rollout's series go when it finishes: the number of series follows the
number of shards and revisions, never the number of tenants or of releases.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder

from orchestrator import events
from orchestrator.observe.backfill_metrics import BackfillMetrics
from orchestrator.observe.drift_metrics import DriftMetrics
from orchestrator.observe.fleet import Fleet
from orchestrator.observe.fleet_metrics import FleetCollector
from orchestrator.observe.process_metrics import ProcessMetrics
from orchestrator.observe.registry_metrics import RegistryMetrics, replace
from orchestrator.observe.rollout_metrics import Eta, RolloutCollector
from orchestrator.observe.rollouts import FINISHED

# What joins an event of a migration to its trace, as {"trace_id": …}; None while it has none.
Exemplar = Callable[[events.Event], Mapping[str, str] | None]

_MIGRATION_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
_BACKUP_BUCKETS = (0.5, 5, 30, 60, 300, 900, 3600, 7200)
_LOCK_BUCKETS = (0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60)


class Metrics:
    """Subscribe `apply` to the bus; `render` is the scrape.

    `laggards`: so many targets are named. `exemplar`: what goes with a migration's duration and its wait for the lock
    into OpenMetrics, which is answered to whom `render` is told to accept it.
    """

    def __init__(
        self,
        fleet: Fleet,
        *,
        eta: Eta | None = None,
        clock: Callable[[], datetime] = events.now,
        laggards: int = 0,
        exemplar: Exemplar | None = None,
    ) -> None:
        self._exemplar = exemplar or _none
        # `…_created` series double the counters and tell nothing that is needed here. The switch is the library's.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        self.migrations = Counter(
            "orchestrator_migrations",
            "Migrations that ended, by outcome.",
            ["track", "shard", "outcome"],
            registry=registry,
        )
        self.durations = Histogram(
            "orchestrator_migration_duration_seconds",
            "Time from start to end of migrations that succeeded or failed, over all attempts.",
            ["track", "shard", "execution"],
            buckets=_MIGRATION_BUCKETS,
            registry=registry,
        )
        self.retries = Counter(
            "orchestrator_migration_retries",
            "Attempts that failed and were followed by another.",
            ["track", "shard", "reason"],
            registry=registry,
        )
        self.fallbacks = Counter(
            "orchestrator_replay_fallbacks",
            "Targets where the server refused compiled SQL, and env.py was run instead.",
            ["track", "shard"],
            registry=registry,
        )
        self.lock_waits = Histogram(
            "orchestrator_lock_wait_seconds",
            "Time spent waiting for a target's lock, whether it was had or not.",
            ["shard"],
            buckets=_LOCK_BUCKETS,
            registry=registry,
        )
        self.backups = Counter(
            "orchestrator_backups",
            "Backups before a change, by result: taken or failed.",
            ["shard", "result"],
            registry=registry,
        )
        self.backup_durations = Histogram(
            "orchestrator_backup_duration_seconds",
            "Time that backups took, checks included and turns not, however they ended.",
            ["shard"],
            buckets=_BACKUP_BUCKETS,
            registry=registry,
        )
        self.rollouts = Counter(
            "orchestrator_rollouts", "Rollouts that finished, by final state.", ["track", "outcome"], registry=registry
        )
        self.next_runs = Gauge(
            "orchestrator_schedule_next_run_timestamp_seconds",
            "When a schedule starts next, in the process that leads; absent while it is disabled.",
            ["schedule"],
            registry=registry,
        )
        self.schedule_runs = Counter(
            "orchestrator_schedule_runs", "Runs of schedules, by outcome.", ["schedule", "outcome"], registry=registry
        )
        self.notifications = Counter(
            "orchestrator_notifications",
            "Notifications by result: delivered, failed (an attempt that another follows), dead or dropped.",
            ["channel", "kind", "result"],
            registry=registry,
        )
        self.leader = Gauge(
            "orchestrator_leader",
            "1 in the process that drives the store's rollouts, 0 in a standby.",
            registry=registry,
        )
        self.backfills = BackfillMetrics(registry, clock)
        self.of_registry = RegistryMetrics(registry, clock)
        self.drift = DriftMetrics(registry)
        self.process = ProcessMetrics(registry)
        registry.register(FleetCollector(fleet, clock, laggards))
        self.of_rollouts = RolloutCollector(fleet.rollouts, eta or _unknown, clock)
        registry.register(self.of_rollouts)

    def describe_registry(self, *, limits: Mapping[str, int], targets: Mapping[str, int], read: bool = True) -> None:
        """Take over a registry: concurrency limit by shard, number of targets by source (`file`, …). `read`: its file
        was read for it."""
        self.of_registry.describe(limits=limits, targets=targets, read=read)

    def describe_sources(
        self, *, stale: Mapping[str, bool], refreshed: Mapping[str, datetime], ignored: Mapping[str, int]
    ) -> None:
        """Take over what is known of the sources of tenants, by name."""
        self.of_registry.describe_sources(stale=stale, refreshed=refreshed, ignored=ignored)

    def describe_schedules(self, following: Mapping[str, float]) -> None:
        """Take over when each schedule starts next, in seconds of Unix time."""
        replace(self.next_runs, following)

    def apply(self, event: events.Event) -> None:
        self.backfills.apply(event)
        self.of_registry.apply(event)
        match event:
            case events.ScheduleRan():
                self.schedule_runs.labels(event.schedule, event.outcome).inc()
            case events.MigrationFinished():
                self.migrations.labels(event.track, event.shard, event.outcome).inc()
                if event.outcome in ("succeeded", "failed"):
                    self.durations.labels(event.track, event.shard, event.execution).observe(
                        event.seconds, _plain(self._exemplar(event))
                    )
            case events.MigrationRetried():
                self.retries.labels(event.track, event.shard, event.reason).inc()
            case events.ReplayRefused():
                self.fallbacks.labels(event.track, event.shard).inc()
            case events.BackupTaken() | events.BackupFailed():
                result = "taken" if isinstance(event, events.BackupTaken) else "failed"
                self.backups.labels(event.shard, result).inc()
                self.backup_durations.labels(event.shard).observe(event.seconds)
            case events.LockWaited():
                self.lock_waits.labels(event.shard).observe(event.seconds, _plain(self._exemplar(event)))
            case events.RolloutCreated():
                for state in FINISHED:  # what is there for the first time with 1 has not increased, for Prometheus
                    self.rollouts.labels(event.track, state)
            case events.MigrationStarted():
                for outcome in ("succeeded", "failed"):
                    self.migrations.labels(event.track, event.shard, outcome)
                for reason in ("contention", "transient"):
                    self.retries.labels(event.track, event.shard, reason)
            case events.RolloutStateChanged(state=state) if state in FINISHED:
                self.rollouts.labels(event.track, state).inc()
            case events.NotificationEvent():
                self.notifications.labels(event.channel, event.kind, _result(event)).inc()
            case events.LeaderElected():
                self.leader.set(1)
            case events.LeaderLost() | events.StoodBy():
                self.leader.set(0)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The exposition in Prometheus' text format, or in one of those in `accept`, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type


def _result(event: events.NotificationEvent) -> str:
    match event:
        case events.NotificationDelivered():
            return "delivered"
        case events.NotificationFailed(wait_seconds=wait):
            return "dead" if wait is None else "failed"
        case _:
            return "dropped"


def _plain(exemplar: Mapping[str, str] | None) -> dict[str, str] | None:
    return None if exemplar is None else dict(exemplar)


def _none(event: events.Event) -> None:
    return None


def _unknown(total: int, counts: Mapping[Any, int], elapsed_seconds: float) -> None:
    return None
