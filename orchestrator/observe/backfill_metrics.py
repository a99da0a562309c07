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
from orchestrator.observe.backfills import Backfills
from orchestrator.observe.families import short
from orchestrator.observe.rollouts import FINISHED
from orchestrator.observe.shard_labels import OTHER, Shards, forget, summed

# The aim is half a second; what takes a minute is a batch that waited for a lock.
_BATCH_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 5, 60)
# A probe's name is a reason, and so is a signal's: what a shard has beyond these is summed up as `other`.
MAX_REASONS = 20
# Of the revisions that have rows now, so many of each track are named.
MAX_REVISIONS = 20
MAX_RATIOS = 100
# A revision's rows are shown for so long after the last rollout with it has ended: a scrape must see their number.
KEPT_SECONDS = 900.0

Row = tuple[str, str, str]  # track, shard, revision: as labels


class BackfillMetrics(Collector):
    """Subscribe `apply` to the bus. `throttled` tells by shard and reason for how many seconds backfills have waited:
    from events as long as nobody who knows better is put there; `in_progress`, by shard, how many there are; `signals`
    what was read of each shard's load."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], datetime], shards: Shards) -> None:
        self._backfills, self._clock, self._shards = Backfills(), clock, shards
        self._used: dict[Row, set[str]] = {}
        self._unused: dict[Row, datetime] = {}
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
                self.rows.labels(*self._row(event))  # 0 from its start on
            case events.BackfillAdvanced():
                self.rows.labels(*self._row(event)).inc(event.rows)
                batches = self.batches.labels(self._shards.detailed(event.shard))
                for seconds in event.batches:
                    batches.observe(seconds)
            case events.RolloutStateChanged(state=state) if state in FINISHED:
                self._end(event.rollout, event.at)

    def begin(self, shards: Iterable[str]) -> None:
        """Begin what a shard may count at 0."""
        for shard in shards:
            self.batches.labels(self._shards.detailed(shard))

    def forget_shards(self) -> None:
        """Remove the series of shards that have no name any more."""
        forget(self.batches, ["shard"], lambda labels: self._shards.detailed(labels["shard"]) != labels["shard"])
        forget(self.rows, ["track", "shard", "revision"], self._is_renamed)
        for row in [row for row in self._used if self._shards.wide(row[1]) != row[1]]:
            del self._used[row]
            self._unused.pop(row, None)

    def _is_renamed(self, labels: Mapping[str, str]) -> bool:
        return self._shards.wide(labels["shard"]) != labels["shard"]

    def _row(self, event: events.BackfillEvent) -> Row:
        named = {revision for track, _shard, revision in self._used if track == event.track}
        revision = short(event.revision)
        if revision not in named and len(named) >= MAX_REVISIONS:
            revision = OTHER
        row = event.track, self._shards.wide(event.shard), revision
        self._used.setdefault(row, set()).add(event.rollout)
        self._unused.pop(row, None)
        return row

    def _end(self, rollout: str, at: datetime) -> None:
        for row, rollouts in self._used.items():
            if rollout in rollouts:
                rollouts.discard(rollout)
                if not rollouts:
                    self._unused[row] = at

    def _forget_rows(self) -> None:
        for row, at in list(self._unused.items()):
            if (self._clock() - at).total_seconds() >= KEPT_SECONDS:
                del self._unused[row]
                self._used.pop(row, None)
                self.rows.remove(*row)

    def collect(self) -> Iterator[Metric]:
        ratios = GaugeMetricFamily(
            "orchestrator_backfill_progress_ratio",
            "Rows passed by rows to pass, 0 to 1, over the backfills that have begun in active rollouts.",
            labels=["track", "revision"],
        )
        self._forget_rows()
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
        for read, value in first(greatest(self.signals(), self._shards.detailed)).items():
            signals.add_metric(read, value)
        yield signals
        throttled = CounterMetricFamily(
            "orchestrator_backfill_throttled_seconds",
            "Time in which backfills of the shard waited, by reason.",
            labels=["shard", "reason"],
        )
        for held, seconds in bounded(relabelled(self.throttled(), self._shards.wide)).items():
            throttled.add_metric(held, seconds)
        yield throttled


def greatest(values: Mapping[tuple[str, str], float], label: Callable[[str], str]) -> Mapping[tuple[str, str], float]:
    """Of shards that are not named, the largest value of each signal."""
    found: dict[tuple[str, str], float] = {}
    for (shard, name), value in values.items():
        key = (label(shard), name)
        found[key] = max(value, found.get(key, value))
    return found


def relabelled(values: Mapping[tuple[str, str], float], label: Callable[[str], str]) -> Mapping[tuple[str, str], float]:
    """Of shards that are not named, the sum for each reason."""
    found: dict[tuple[str, str], float] = {}
    for (shard, reason), value in values.items():
        key = (label(shard), reason)
        found[key] = found.get(key, 0.0) + value
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


def bounded(seconds: Mapping[tuple[str, str], float]) -> Mapping[tuple[str, str], float]:
    """At most so many reasons of each shard: the first that there were, and the rest as one."""
    shown: dict[tuple[str, str], float] = {}
    reasons: Tally[str] = Tally()
    for (shard, reason), value in seconds.items():
        reasons[shard] += 1
        key = (shard, reason if reasons[shard] <= MAX_REASONS else "other")
        shown[key] = shown.get(key, 0.0) + value
    return shown
