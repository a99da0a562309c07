"""Which shards /metrics names, so that there are not more series than a monitoring system is asked to keep.

What belongs to other shards is summed up as `other`. Counters and gauges take few series of each shard, histograms
many: so they may name fewer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import NamedTuple, Protocol

from prometheus_client import Metric

OTHER = "other"
# As many series as there should be at most, and how many of them belong to no shard: tracks, revisions, some active
# rollouts, the process.
MOST_SERIES, OF_NO_SHARD = 2_000, 300
# What a shard may come to: counters and gauges, for itself and for each track that has targets there (a test counts).
WIDE, WIDE_OF_TRACK = 9, 18
# The same of histograms, and of what else only some shards are named for.
DETAILED, DETAILED_OF_TRACK = 27, 23
# Even of many shards, so many have histograms of their own.
FEWEST_DETAILED = 3


class Room(NamedTuple):
    """How many shards are named, and how many of them in histograms, too."""

    wide: int
    detailed: int


def room(shards: int, places: int, most: int | None = None) -> Room:
    """For `places` pairs of track and shard. `most`: name so many, however many series that makes.

    >>> room(16, 16), room(50, 50), room(200, 200)
    (Room(wide=16, detailed=16), Room(wide=50, detailed=6), Room(wide=54, detailed=3))
    >>> room(200, 200, 20), room(0, 0)
    (Room(wide=20, detailed=20), Room(wide=0, detailed=0))
    """
    if most is not None:
        return Room(min(shards, most), min(shards, most))
    tracks = places / shards if shards else 1
    wide, detailed = WIDE + WIDE_OF_TRACK * tracks, DETAILED + DETAILED_OF_TRACK * tracks
    left: float = MOST_SERIES - OF_NO_SHARD
    named = _fits(shards, shards, left - (FEWEST_DETAILED + 1) * detailed, wide)
    left -= (named + (named < shards)) * wide
    return Room(named, max(min(FEWEST_DETAILED, named), _fits(named, shards, left, detailed)))


def _fits(wanted: int, shards: int, left: float, each: float) -> int:
    """So many of the wanted ones; if they are not all there are, `other` takes as much as one of them."""
    fits = int(max(left, 0) // each)
    return wanted if wanted + (wanted < shards) <= fits else max(0, fits - 1)


class Shards:
    """Gives each shard its label. One that has a name keeps it as long as there is room; then those with the most
    targets are named. Until `describe` was called, all are."""

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._wide: frozenset[str] | None = None
        self._detailed: frozenset[str] | None = None

    def describe(self, shards: Iterable[str], targets: Mapping[tuple[str, str], int]) -> bool:
        """Take over the registry's shards, and the number of targets by track and shard; whether a shard is named
        otherwise than before."""
        names = list(dict.fromkeys(shards))
        sizes: Counter[str] = Counter()
        for (_track, shard), number in targets.items():
            sizes[shard] += number
        found = room(len(names), max(len(names), len(targets)), self._most)
        before = self._wide, self._detailed
        wide = chosen(self._wide or frozenset(), names, sizes, found.wide)
        detailed = chosen(self._detailed or frozenset(), wide, sizes, found.detailed)
        self._wide, self._detailed = frozenset(wide), frozenset(detailed)
        return before != (self._wide, self._detailed)

    def wide(self, shard: str) -> str:
        """Its label in counters and gauges."""
        return shard if self._wide is None or shard in self._wide else OTHER

    def detailed(self, shard: str) -> str:
        """Its label in histograms, and where only some are named."""
        return shard if self._detailed is None or shard in self._detailed else OTHER


def chosen(before: Set[str], names: Sequence[str], sizes: Mapping[str, int], most: int) -> Sequence[str]:
    """
    >>> chosen({"b"}, ["a", "b", "c"], {"a": 1, "c": 2}, 2)
    ['b', 'c']
    """
    largest_first = sorted(names, key=lambda name: -sizes.get(name, 0))
    return sorted(largest_first, key=lambda name: name not in before)[:most]


def summed(values: Mapping[str, float], label: Callable[[str], str]) -> Mapping[str, float]:
    """By label: the sums of what belongs to shards."""
    found: dict[str, float] = {}
    for shard, value in values.items():
        name = label(shard)
        found[name] = found.get(name, 0) + value
    return found


class Labelled(Protocol):
    """A metric with labels, of the library's."""

    def collect(self) -> Iterable[Metric]: ...
    def remove(self, *labels: str) -> None: ...


def forget(metric: Labelled, names: Sequence[str], is_gone: Callable[[Mapping[str, str]], bool]) -> None:
    """Remove the series of which `is_gone` says so; `names`: of the metric's labels, in their order."""
    found = {tuple(one.labels[name] for name in names) for family in metric.collect() for one in family.samples}
    for labels in found:
        if is_gone(dict(zip(names, labels, strict=True))):
            metric.remove(*labels)
