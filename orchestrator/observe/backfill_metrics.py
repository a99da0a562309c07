"""The metrics of backfills: rows and batches from events, gauges and times of waiting at each scrape."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import islice

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from orchestrator import events
from orchestrator.observe.backfill_rows import Row, Rows
from orchestrator.observe.backfills import Backfills
from orchestrator.observe.families import short
from orchestrator.observe.rollouts import FINISHED
from orchestrator.observe.running_totals import RunningTotals
from orchestrator.observe.shard_labels import Shards, forget, summed

# The aim is half a second; what takes a minute is a batch that waited for a lock.
_BATCH_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 5, 60)
# A probe's name is a reason, and so is a signal's: what a shard has beyond these is summed up as `other`.
MAX_REASONS = 20
MAX_RATIOS = 100


class BackfillMetrics(Collector):
    """Subscribe `apply` to the bus. `throttled` tells by shard and reason for how many seconds backfills have waited:
    from events as long as nobody who knows better is put there; `in_progress`, by shard, how many there are; `signals`
    what was read of each shard's load. `is_active`: whether a rollout has begun, and has not
    ended."""

    def __init__(
        self,
        registry: CollectorRegistry,
        clock: Callable[[], datetime],
        shards: Shards,
        is_active: Callable[[str], bool],
    ) -> None:
        self._backfills, self._clock, self._shards = Backfills(), clock, shards
        self._rows, self._waited = Rows(shards, is_active), RunningTotals(shards, MAX_REASONS)
        self.throttled: Callable[[], Mapping[tuple[str, str], float]] = lambda: self._backfills.throttled_seconds(
            clock()
        )
        self.in_progress: Callable[[], Mapping[str, int]] = self._backfills.in_progress
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
                self.rows.labels(*self._rows.row(event))  # 0 from its start on
            case events.BackfillAdvanced():
                self.rows.labels(*self._rows.row(event)).inc(event.rows)
                batches = self.batches.labels(self._shards.detailed(event.shard))
                for seconds in event.batches:
                    batches.observe(seconds)
            case events.RolloutStateChanged(state=state) if state in FINISHED:
                self._rows.end(event.rollout, event.at)

    def begin(self, shards: Iterable[str]) -> None:
        """Begin what a shard may count at 0."""
        for label in {self._shards.detailed(shard) for shard in shards}:
            self.batches.labels(label)

    def forget_shards(self) -> None:
        """Remove the series of shards that have no name any more."""
        forget(self.batches, ["shard"], lambda labels: self._shards.detailed(labels["shard"]) != labels["shard"])
        self._remove(self._rows.forget_shards())
        self._waited.forget_shards()

    def _remove(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self.rows.remove(*row)

    def collect(self) -> Iterator[Metric]:
        ratios = GaugeMetricFamily(
            "orchestrator_backfill_progress_ratio",
            "Rows passed by rows to pass, 0 to 1, over the backfills that have begun in active rollouts.",
            labels=["track", "revision"],
        )
        self._remove(self._rows.forgotten(self._clock()))
        for (track, revision), ratio in islice(self._backfills.progress_ratios().items(), MAX_RATIOS):
            ratios.add_metric((track, short(revision)), ratio)
        yield ratios
        sizes = GaugeMetricFamily(
            "orchestrator_backfill_batch_size",
            "Rows of the next batches, the mean of the backfills that are underway.",
            labels=["shard"],
        )
        for shard, size in averaged(self._backfills.batch_sizes(), self._shards.wide).items():
            sizes.add_metric((shard,), size)
        yield sizes
        busy = GaugeMetricFamily(
            "orchestrator_backfills_in_progress", "Backfills that run or wait now.", labels=["shard"]
        )
        running = {**dict.fromkeys(self._backfills.in_progress(), 0), **self.in_progress()}
        for shard, n in summed(running, self._shards.wide).items():
            busy.add_metric((shard,), n)
        yield busy
        signals = GaugeMetricFamily(
            "orchestrator_backfill_signal",
            "What a shard says of its load while backfills run there (lag in seconds, for one), in the signal's unit.",
            labels=["shard", "signal"],
        )
        told = self.signals()
        for read, value in first(greatest(told, self._shards.of_signals(told))).items():
            signals.add_metric(read, value)
        yield signals
        throttled = CounterMetricFamily(
            "orchestrator_backfill_throttled_seconds",
            "Time in which backfills of the shard waited, by reason.",
            labels=["shard", "reason"],
        )
        for held, seconds in self._waited.follow(self.throttled()).items():
            throttled.add_metric(held, seconds)
        yield throttled


def greatest(values: Mapping[tuple[str, str], float], label: Callable[[str], str]) -> Mapping[tuple[str, str], float]:
    """Of shards that are not named, the largest value of each signal."""
    found: dict[tuple[str, str], float] = {}
    for (shard, name), value in values.items():
        key = (label(shard), name)
        found[key] = max(value, found.get(key, value))
    return found


def averaged(values: Mapping[str, float], label: Callable[[str], str]) -> Mapping[str, float]:
    """Of shards that are not named, the mean."""
    number = Tally(label(shard) for shard in values)
    return {name: total / number[name] for name, total in summed(values, label).items()}


def first(values: Mapping[tuple[str, str], float]) -> Mapping[tuple[str, str], float]:
    """At most so many signals of each shard as there may be reasons."""
    seen: Tally[str] = Tally()
    shown: dict[tuple[str, str], float] = {}
    for (shard, name), value in values.items():
        seen[shard] += 1
        if seen[shard] <= MAX_REASONS:
            shown[shard, name] = value
    return shown
