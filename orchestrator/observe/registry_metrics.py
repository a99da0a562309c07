"""The metrics of the registry, its shards and its sources: taken over whenever they are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge

from orchestrator import events
from orchestrator.observe.shard_labels import Shards, summed


class RegistryMetrics:
    """Subscribe `apply` to the bus; the rest is told by who reads the registry."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], datetime], shards: Shards) -> None:
        self._clock, self._shards = clock, shards
        self._allowed: Mapping[str, int] = {}
        self._throttled: dict[str, int] = {}
        self.reloads = Counter(
            "orchestrator_registry_reloads", "Readings of the registry, by result.", ["result"], registry=registry
        )
        for result in ("changed", "unchanged", "failed"):
            self.reloads.labels(result)
        self.valid = Gauge(
            "orchestrator_registry_valid",
            "0 while the registry file has mistakes and the registry of before goes on, 1 otherwise.",
            registry=registry,
        )
        self.read_at = Gauge(
            "orchestrator_registry_last_good_read_timestamp_seconds",
            "When the registry file was last read without a mistake, in Unix time.",
            registry=registry,
        )
        self.shard_limits = Gauge(
            "orchestrator_shard_concurrency_limit",
            "Migrations that may run at once: as the registry says, or fewer where the server has no room for them.",
            ["shard"],
            registry=registry,
        )
        self.shard_allowed = Gauge(
            "orchestrator_shard_concurrency_allowed",
            "Migrations that may run at once as the registry says, whatever room the server has.",
            ["shard"],
            registry=registry,
        )
        self.targets = Gauge(
            "orchestrator_registry_targets",
            "Targets in the registry, by where they are from.",
            ["source"],
            registry=registry,
        )
        self.stale = Gauge(
            "orchestrator_registry_source_stale",
            "1 while a source gives no good answer and its last one is kept.",
            ["source"],
            registry=registry,
        )
        self.refreshed = Gauge(
            "orchestrator_registry_source_refreshed_timestamp_seconds",
            "When a source last gave a good answer, in Unix time.",
            ["source"],
            registry=registry,
        )
        self.ignored = Gauge(
            "orchestrator_registry_source_ignored",
            "What a source names and no target can be made of.",
            ["source"],
            registry=registry,
        )

    def describe(self, *, limits: Mapping[str, int], targets: Mapping[str, int], read: bool = True) -> None:
        """Take over a registry: concurrency limit by shard, number of targets by source (`file`, …). `read`: its file
        was read for it; what a source answers says nothing of the file."""
        self._throttled = {shard: n for shard, n in self._throttled.items() if shard in limits}
        self._allowed = dict(limits)
        self._tell_limits()
        replace(self.shard_allowed, summed(limits, self._shards.wide))
        replace(self.targets, targets)
        if read:
            self.read_at.set(self._clock().timestamp())
            self.valid.set(1)

    def describe_sources(
        self, *, stale: Mapping[str, bool], refreshed: Mapping[str, datetime], ignored: Mapping[str, int]
    ) -> None:
        replace(self.stale, stale)
        replace(self.refreshed, {name: moment.timestamp() for name, moment in refreshed.items()})
        replace(self.ignored, ignored)

    def apply(self, event: events.Event) -> None:
        match event:
            case events.ShardLimitChanged():
                self._throttled[event.shard] = event.limit
                if event.reason is None:
                    del self._throttled[event.shard]
                self._tell_limits()
            case events.RegistryReloaded():
                self.reloads.labels(event.result).inc()
                if event.result == "failed":
                    self.valid.set(0)

    def _tell_limits(self) -> None:
        now = {shard: min(n, self._throttled.get(shard, n)) for shard, n in self._allowed.items()}
        replace(self.shard_limits, summed(now, self._shards.wide))


def replace(gauge: Gauge, values: Mapping[str, float]) -> None:
    gauge.clear()
    for label, value in values.items():
        gauge.labels(label).set(value)
