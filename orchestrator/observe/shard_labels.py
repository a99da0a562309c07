"""Which shards /metrics names, so that there are not more series than a monitoring system is asked to keep.

What belongs to other shards is summed up as `other`. Counters and gauges take few series of each shard, histograms
many: so they may name fewer. What shards leave is for active rollouts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from typing import NamedTuple, Protocol

from prometheus_client import Metric

OTHER = "other"
# As many series as there should be at most, and how many of them belong to no shard: the process and a track with its
# revisions; further tracks, and their revisions; as many as active rollouts have in any case.
MOST_SERIES, OF_PROCESS, OF_FURTHER_TRACK, OF_REVISIONS, OF_ROLLOUTS = 2_000, 110, 9, 60, 190
# Signals of load that a shard has, as a rule.
SIGNALS = 3
# What a shard may come to: counters and gauges, for itself and for each track that has targets there (a test counts).
WIDE, WIDE_OF_TRACK = 9 + SIGNALS, 18
# The same of histograms, and of what else only some shards are named for.
DETAILED, DETAILED_OF_TRACK = 21 + SIGNALS, 23
# Even of many shards, so many have histograms of their own.
FEWEST_DETAILED = 3


class Room(NamedTuple):
    """How many shards are named, and how many of them in histograms, too; how many series rollouts may have."""

    wide: int
    detailed: int
    of_rollouts: int = MOST_SERIES


def room(shards: int, places: int, tracks: int = 1, most: int | None = None) -> Room:
    """For `places` pairs of track and shard. `most`: name so many, however many series that makes.

    >>> room(1, 1), room(16, 16)
    (Room(wide=1, detailed=1, of_rollouts=1813), Room(wide=16, detailed=16, of_rollouts=658))
    >>> room(50, 50), room(200, 200)
    (Room(wide=50, detailed=3, of_rollouts=202), Room(wide=49, detailed=3, of_rollouts=202))
    >>> room(16, 128, 8)
    Room(wide=3, detailed=3, of_rollouts=311)
    >>> room(200, 200, most=20), room(0, 0)
    (Room(wide=20, detailed=20, of_rollouts=273), Room(wide=0, detailed=0, of_rollouts=1890))
    """
    of_each = places / shards if shards else 1
    wide, detailed = WIDE + WIDE_OF_TRACK * of_each, DETAILED + DETAILED_OF_TRACK * of_each
    left = MOST_SERIES - OF_PROCESS - OF_FURTHER_TRACK * (tracks - 1) - OF_REVISIONS * (tracks > 1)
    if most is not None:
        named = some = min(shards, most)
    else:
        named = _fits(shards, shards, left - OF_ROLLOUTS - (FEWEST_DETAILED + 1) * detailed, wide)
        for_some = left - OF_ROLLOUTS - _with_other(named, shards) * wide
        some = max(min(FEWEST_DETAILED, named), _fits(named, shards, for_some, detailed))
    taken = _with_other(named, shards) * wide + _with_other(some, shards) * detailed
    return Room(named, some, max(OF_ROLLOUTS, int(left - taken)))


def _with_other(named: int, shards: int) -> int:
    return named + (named < shards)


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
        self.room = Room(0, 0)

    def describe(self, shards: Iterable[str], targets: Mapping[tuple[str, str], int]) -> bool:
        """Take over the registry's shards, and the number of targets by track and shard; whether a shard is named
        otherwise than before."""
        names = list(dict.fromkeys(shards))
        sizes: Counter[str] = Counter()
        for (_track, shard), number in targets.items():
            sizes[shard] += number
        tracks = len({track for track, _shard in targets})
        self.room = found = room(len(names), max(len(names), len(targets)), max(1, tracks), self._most)
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

    def of_signals(self, read: Collection[tuple[str, str]]) -> Callable[[str], str]:
        """How shards are labelled in what was `read` of their load, pairs of shard and signal."""
        if self._wide is None:
            return self.wide
        found = {(self.wide(shard), signal) for shard, signal in read}
        most = SIGNALS * (len(self._wide) + len(self._detailed or ()) + 2)
        return self.wide if len(found) <= most else self.detailed


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
