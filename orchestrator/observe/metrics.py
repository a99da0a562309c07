"""Prometheus metrics: counters and histograms from events, gauges from the fleet's picture at each scrape.

No metric has a tenant as a label, and a rollout's series go when it finishes: the number of series follows the
number of shards and revisions, never the number of tenants or of releases.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from importlib.metadata import version
from typing import Any

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

import orchestrator
from orchestrator import events
from orchestrator.observe.backfill_metrics import BackfillMetrics
from orchestrator.observe.fleet import FLEET_STATES, Fleet
from orchestrator.observe.rollouts import FINISHED, MIGRATION_STATES

# (total, counts by state, elapsed seconds) -> seconds to go, None when it cannot be told
Eta = Callable[[int, Mapping[Any, int], float], float | None]

# A track's revisions beyond these are summed up as `other`: version tables are tenants' data, labels must be bounded.
MAX_REVISIONS = 200

_MIGRATION_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
_BACKUP_BUCKETS = (0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 1800, 3600, 7200)
_LOCK_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Subscribe `apply` to the bus; `render` is the scrape."""

    def __init__(self, fleet: Fleet, *, eta: Eta | None = None, clock: Callable[[], datetime] = events.now) -> None:
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
        self.reloads = Counter(
            "orchestrator_registry_reloads", "Readings of the registry, by result.", ["result"], registry=registry
        )
        self.shard_limits = Gauge(
            "orchestrator_shard_concurrency_limit",
            "Migrations that may run at once: as the registry says, or fewer where the server has no room for them.",
            ["shard"],
            registry=registry,
        )
        self._throttled: dict[str, int] = {}
        self.registry_targets = Gauge(
            "orchestrator_registry_targets",
            "Targets in the registry, by where they are from.",
            ["source"],
            registry=registry,
        )
        self.stale_sources = Gauge(
            "orchestrator_registry_source_stale",
            "1 while a source gives no good answer and its last one is kept.",
            ["source"],
            registry=registry,
        )
        self.refreshed_sources = Gauge(
            "orchestrator_registry_source_refreshed_timestamp_seconds",
            "When a source last gave a good answer.",
            ["source"],
            registry=registry,
        )
        self.ignored_tenants = Gauge(
            "orchestrator_registry_source_ignored",
            "What a source names and no target can be made of.",
            ["source"],
            registry=registry,
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
        _tell_build(registry)
        registry.register(FleetCollector(fleet, eta or _unknown, clock))
        prometheus_client.ProcessCollector(registry=registry)
        prometheus_client.PlatformCollector(registry=registry)

    def describe_registry(self, *, limits: Mapping[str, int], targets: Mapping[str, int]) -> None:
        """Take over a registry: concurrency limit by shard, number of targets by source (`file`, …)."""
        self._throttled = {shard: n for shard, n in self._throttled.items() if shard in limits}
        _replace(self.shard_limits, {shard: min(n, self._throttled.get(shard, n)) for shard, n in limits.items()})
        _replace(self.registry_targets, targets)

    def describe_sources(
        self, *, stale: Mapping[str, bool], refreshed: Mapping[str, datetime], ignored: Mapping[str, int]
    ) -> None:
        """Take over what is known of the sources of tenants, by name."""
        _replace(self.stale_sources, stale)
        _replace(self.refreshed_sources, {name: moment.timestamp() for name, moment in refreshed.items()})
        _replace(self.ignored_tenants, ignored)

    def describe_schedules(self, following: Mapping[str, float]) -> None:
        """Take over when each schedule starts next, in seconds of Unix time."""
        _replace(self.next_runs, following)

    def apply(self, event: events.Event) -> None:
        self.backfills.apply(event)
        match event:
            case events.ScheduleRan():
                self.schedule_runs.labels(event.schedule, event.outcome).inc()
            case events.MigrationFinished():
                self.migrations.labels(event.track, event.shard, event.outcome).inc()
                if event.outcome in ("succeeded", "failed"):
                    self.durations.labels(event.track, event.shard, event.execution).observe(event.seconds)
            case events.MigrationRetried():
                self.retries.labels(event.track, event.shard, event.reason).inc()
            case events.ReplayRefused():
                self.fallbacks.labels(event.track, event.shard).inc()
            case events.BackupTaken() | events.BackupFailed():
                result = "taken" if isinstance(event, events.BackupTaken) else "failed"
                self.backups.labels(event.shard, result).inc()
                self.backup_durations.labels(event.shard).observe(event.seconds)
            case events.LockWaited():
                self.lock_waits.labels(event.shard).observe(event.seconds)
            case events.RolloutStateChanged(state=state) if state in FINISHED:
                self.rollouts.labels(event.track, state).inc()
            case events.ShardLimitChanged():
                self._throttled[event.shard] = event.limit
                if event.reason is None:
                    del self._throttled[event.shard]
                self.shard_limits.labels(event.shard).set(event.limit)
            case events.RegistryReloaded():
                self.reloads.labels(event.result).inc()
            case events.NotificationEvent():
                self.notifications.labels(event.channel, event.kind, _result(event)).inc()
            case events.LeaderElected():
                self.leader.set(1)
            case events.LeaderLost() | events.StoodBy():
                self.leader.set(0)

    def render(self) -> tuple[bytes, str]:
        """The exposition in Prometheus' text format, and its content type."""
        encode, content_type = choose_encoder("")
        return encode(self.registry), content_type


class FleetCollector(Collector):
    """Reads the fleet's sums when Prometheus asks; nothing is kept between scrapes."""

    def __init__(self, fleet: Fleet, eta: Eta, clock: Callable[[], datetime]) -> None:
        self._fleet, self._eta, self._clock = fleet, eta, clock

    def collect(self) -> Iterator[Metric]:
        now = self._clock()
        yield _gauge("targets", "Targets by fleet state.", ["track", "shard", "state"], self._targets())
        yield _gauge(
            "target_revisions",
            "Targets by the revision they are at; one with several heads counts for each.",
            ["track", "revision"],
            _bounded(self._fleet.by_revision()),
        )
        yield _gauge(
            "oldest_pending_target_seconds",
            "How long the target that waits longest has had something to apply.",
            ["track"],
            (((track,), age) for track, age in self._fleet.oldest_pending_seconds(now).items()),
        )
        yield _gauge(
            "migrations_in_progress",
            "Migrations running now.",
            ["shard"],
            (((shard,), n) for shard, n in self._in_progress().items()),
        )
        yield from self._rollouts(now)

    def _targets(self) -> Iterator[tuple[tuple[str, ...], float]]:
        by_state = self._fleet.by_state()
        places = {(track, shard) for track, shard, _state in by_state}
        for track, shard in sorted(places):
            for state in FLEET_STATES:
                yield (track, shard, state), by_state.get((track, shard, state), 0)

    def _in_progress(self) -> Mapping[str, int]:
        idle = {shard: 0 for _track, shard, _state in self._fleet.by_state()}
        return idle | self._fleet.rollouts.in_progress()

    def _rollouts(self, now: datetime) -> Iterator[Metric]:
        active = list(self._fleet.rollouts.items())
        yield _gauge(
            "rollout_targets",
            "Targets of an active rollout by the state of their migration.",
            ["rollout", "track", "wave", "state"],
            (
                ((rollout, picture.track, wave, state), counts[state])
                for rollout, picture in active
                for wave, counts in picture.waves.items()
                for state in MIGRATION_STATES
            ),
        )
        yield _gauge(
            "rollout_unaccounted_targets",
            "Targets of an active rollout that are in no recorded state: always 0, or a bug.",
            ["rollout"],
            (((rollout,), picture.total - sum(picture.counts.values())) for rollout, picture in active),
        )
        yield _gauge(
            "rollout_progress_ratio",
            "Finished part of an active rollout, 0 to 1.",
            ["rollout"],
            (((rollout,), picture.progress_ratio) for rollout, picture in active),
        )
        etas = ((rollout, self._eta(p.total, p.counts, p.age_seconds(now))) for rollout, p in active)
        yield _gauge(
            "rollout_eta_seconds",
            "Seconds until an active rollout's last target at the rate so far; absent while nothing has finished.",
            ["rollout"],
            (((rollout,), eta) for rollout, eta in etas if eta is not None),
        )


def _result(event: events.NotificationEvent) -> str:
    match event:
        case events.NotificationDelivered():
            return "delivered"
        case events.NotificationFailed(wait_seconds=wait):
            return "dead" if wait is None else "failed"
        case _:
            return "dropped"


def _gauge(
    name: str, documentation: str, labels: list[str], samples: Iterable[tuple[tuple[str, ...], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"orchestrator_{name}", documentation, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _bounded(by_revision: Mapping[tuple[str, str], int]) -> Iterator[tuple[tuple[str, ...], float]]:
    tracks: dict[str, Tally[str]] = {}
    for (track, revision), n in by_revision.items():
        tracks.setdefault(track, Tally())[revision] = n
    for track, tally in tracks.items():
        shown = tally.most_common(MAX_REVISIONS)
        yield from (((track, revision), n) for revision, n in shown)
        if rest := tally.total() - sum(n for _revision, n in shown):
            yield (track, "other"), rest


def _replace(gauge: Gauge, values: Mapping[str, float]) -> None:
    gauge.clear()
    for label, value in values.items():
        gauge.labels(label).set(value)


def _tell_build(registry: CollectorRegistry) -> None:
    versions = {"version": orchestrator.__version__, "alembic": version("alembic"), "sqlalchemy": version("sqlalchemy")}
    build = Gauge("orchestrator_build_info", "Versions of what runs; always 1.", list(versions), registry=registry)
    build.labels(**versions).set(1)


def _unknown(total: int, counts: Mapping[Any, int], elapsed_seconds: float) -> None:
    return None
