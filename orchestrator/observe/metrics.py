"""Prometheus metrics: counters and histograms from events, gauges from the fleet's picture at each scrape.

No metric has a tenant as a label, a rollout's series go when it finishes, and of many shards only some are named: the
number of series follows neither tenants nor releases.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.exposition import choose_encoder

from orchestrator import events
from orchestrator.observe.backfill_metrics import BackfillMetrics
from orchestrator.observe.drift_metrics import DriftMetrics
from orchestrator.observe.fleet import Fleet
from orchestrator.observe.fleet_metrics import FleetCollector
from orchestrator.observe.migration_metrics import Exemplar, MigrationMetrics
from orchestrator.observe.process_metrics import ProcessMetrics
from orchestrator.observe.registry_metrics import RegistryMetrics, replace
from orchestrator.observe.rollout_metrics import Eta, RolloutCollector
from orchestrator.observe.rollouts import FINISHED
from orchestrator.observe.shard_labels import Shards, forget

# How runs of schedules end: as in the ledger, which is not to be had from here.
RUN_OUTCOMES = ("started", "nothing_pending", "skipped", "missed", "failed")


class Metrics:
    """Subscribe `apply` to the bus; `render` is the scrape.

    `laggards`: so many targets are named; `shards`: so many shards, None: as many as there is room for.
    `exemplar`: what goes with a migration's duration and its wait for the lock into OpenMetrics, which is answered to
    whom `render` is told to accept it.
    """

    def __init__(
        self,
        fleet: Fleet,
        *,
        eta: Eta | None = None,
        clock: Callable[[], datetime] = events.now,
        laggards: int = 0,
        shards: int | None = None,
        exemplar: Exemplar | None = None,
    ) -> None:
        # `…_created` series double the counters and tell nothing that is needed here. The switch is the library's.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
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
        self._fleet, self._shards = fleet, Shards(shards)
        self.migrations = MigrationMetrics(registry, self._shards, exemplar or _none)
        self.backfills = BackfillMetrics(registry, clock, self._shards, self._is_active)
        self.of_registry = RegistryMetrics(registry, clock, self._shards)
        self.drift = DriftMetrics(registry)
        self.process = ProcessMetrics(registry)
        registry.register(FleetCollector(fleet, clock, laggards, self._shards))
        self.of_rollouts = RolloutCollector(
            fleet.rollouts, eta or _unknown, clock, lambda: self._shards.room.of_rollouts
        )
        registry.register(self.of_rollouts)

    def describe_registry(
        self,
        *,
        limits: Mapping[str, int],
        targets: Mapping[str, int],
        tracks: Collection[str] = (),
        replayed: Collection[str] = (),
        schedules: Collection[str] = (),
        backups: bool = False,
        read: bool = True,
    ) -> None:
        """Take over a registry, whose targets the fleet's picture has already: concurrency limit by shard, number of
        targets by source (`file`, …). `tracks`: as rollouts have them; `replayed`: those whose plans may be replayed;
        `backups`: some strategy makes them. `read`: its file was read for it."""
        places = self._fleet.by_place()
        if self._shards.describe(limits, places):
            self.migrations.forget_shards()
            self.backfills.forget_shards()
        self.of_registry.describe(limits=limits, targets=targets, read=read)
        self.migrations.begin(places, replayed, backups=backups)
        self.backfills.begin(limits)
        for track in tracks:
            self._begin_rollouts(track)
        forget(self.schedule_runs, ["schedule", "outcome"], lambda labels: labels["schedule"] not in schedules)
        for schedule in schedules:
            for outcome in RUN_OUTCOMES:
                self.schedule_runs.labels(schedule, outcome)

    def describe_sources(
        self, *, stale: Mapping[str, bool], refreshed: Mapping[str, datetime], ignored: Mapping[str, int]
    ) -> None:
        """Take over what is known of the sources of tenants, by name."""
        self.of_registry.describe_sources(stale=stale, refreshed=refreshed, ignored=ignored)

    def describe_schedules(self, following: Mapping[str, float]) -> None:
        """Take over when each schedule starts next, in seconds of Unix time."""
        replace(self.next_runs, following)

    def apply(self, event: events.Event) -> None:
        if isinstance(event, events.StepApplied):
            return  # most events are steps, and no metric counts them
        self.migrations.apply(event)
        self.backfills.apply(event)
        self.of_registry.apply(event)
        match event:
            case events.ScheduleRan():
                self.schedule_runs.labels(event.schedule, event.outcome).inc()
            case events.RolloutCreated():
                self._begin_rollouts(event.track)
            case events.RolloutStateChanged(state=state) if state in FINISHED:
                self.rollouts.labels(event.track, state).inc()
            case events.NotificationEvent():
                self.notifications.labels(event.channel, event.kind, _result(event)).inc()
            case events.LeaderElected():
                self.leader.set(1)
            case events.LeaderLost() | events.StoodBy():
                self.leader.set(0)

    def _is_active(self, rollout: str) -> bool:
        return self._fleet.rollouts.get(rollout) is not None

    def _begin_rollouts(self, track: str) -> None:
        for state in FINISHED:  # what is there for the first time with 1 has not increased, for Prometheus
            self.rollouts.labels(track, state)

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


def _none(event: events.Event) -> None:
    return None


def _unknown(total: int, counts: Mapping[Any, int], elapsed_seconds: float) -> None:
    return None
