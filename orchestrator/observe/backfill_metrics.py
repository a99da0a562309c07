"""The metrics of backfills: rows and batches from events, gauges and times of waiting at each scrape."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from orchestrator import events
from orchestrator.observe.backfills import Backfills

# The aim is half a second; what takes a minute is a batch that waited for a lock.
_BATCH_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2.5, 5, 10, 30, 60)
# A probe's name is a reason, and so is a signal's: what a shard has beyond these is summed up as `other`.
MAX_REASONS = 50


class BackfillMetrics(Collector):
    """Subscribe `apply` to the bus. `throttled` tells by shard and reason for how many seconds backfills have waited:
    from events as long as nobody who knows better is put there; `signals` what was read of each shard's load."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], datetime]) -> None:
        self._backfills = Backfills()
        self.throttled: Callable[[], Mapping[tuple[str, str], float]] = lambda: self._backfills.throttled_seconds(
            clock()
        )
        self.signals: Callable[[], Mapping[tuple[str, str], float]] = dict
        self.rows = Counter(
            "orchestrator_backfill_rows",
            "Rows that backfills have changed.",
            ["track", "shard", "revision"],
            registry=registry,
        )
        self.batches = Histogram(
            "orchestrator_backfill_batch_duration_seconds",
            "Time from a batch's first statement to its commit.",
            ["shard"],
            buckets=_BATCH_BUCKETS,
            registry=registry,
        )
        registry.register(self)

    def apply(self, event: events.Event) -> None:
        self._backfills.apply(event)
        match event:
            case events.BackfillStarted():
                self.rows.labels(event.track, event.shard, event.revision)  # 0 from its start on
            case events.BackfillAdvanced():
                self.rows.labels(event.track, event.shard, event.revision).inc(event.rows)
                batches = self.batches.labels(event.shard)
                for seconds in event.batches:
                    batches.observe(seconds)

    def collect(self) -> Iterator[Metric]:
        ratios = GaugeMetricFamily(
            "orchestrator_backfill_progress_ratio",
            "Rows passed by rows to pass, 0 to 1, over the backfills that have begun in active rollouts.",
            labels=["track", "revision"],
        )
        for revision, ratio in self._backfills.progress_ratios().items():
            ratios.add_metric(revision, ratio)
        yield ratios
        sizes = GaugeMetricFamily(
            "orchestrator_backfill_batch_size",
            "Rows of the next batches, the mean of the backfills that are underway.",
            labels=["shard"],
        )
        for shard, size in self._backfills.batch_sizes().items():
            sizes.add_metric((shard,), size)
        yield sizes
        busy = GaugeMetricFamily(
            "orchestrator_backfills_in_progress", "Backfills that are underway now.", labels=["shard"]
        )
        for shard, n in self._backfills.in_progress().items():
            busy.add_metric((shard,), n)
        yield busy
        signals = GaugeMetricFamily(
            "orchestrator_backfill_signal",
            "What a shard says of its load while backfills run there (lag in seconds, for one), in the signal's unit.",
            labels=["shard", "signal"],
        )
        for read, value in first(self.signals()).items():
            signals.add_metric(read, value)
        yield signals
        throttled = CounterMetricFamily(
            "orchestrator_backfill_throttled_seconds",
            "Time in which backfills of the shard waited, by reason.",
            labels=["shard", "reason"],
        )
        for held, seconds in bounded(self.throttled()).items():
            throttled.add_metric(held, seconds)
        yield throttled


def first(values: Mapping[tuple[str, str], float]) -> Mapping[tuple[str, str], float]:
    """At most so many signals of each shard as there may be reasons."""
    seen: Tally[str] = Tally()
    shown: dict[tuple[str, str], float] = {}
    for (shard, name), value in values.items():
        seen[shard] += 1
        if seen[shard] <= MAX_REASONS:
            shown[shard, name] = value
    return shown


def bounded(seconds: Mapping[tuple[str, str], float]) -> Mapping[tuple[str, str], float]:
    """At most so many reasons of each shard: the first that there were, and the rest as one."""
    shown: dict[tuple[str, str], float] = {}
    reasons: Tally[str] = Tally()
    for (shard, reason), value in seconds.items():
        reasons[shard] += 1
        key = (shard, reason if reasons[shard] <= MAX_REASONS else "other")
        shown[key] = shown.get(key, 0.0) + value
    return shown
