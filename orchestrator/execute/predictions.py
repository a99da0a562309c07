"""How long a migration will take, from how long others took. Pure."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.registry.model import Heads

QUANTILE = 0.95
# The newest count: tables grow.
KEPT = 200


@dataclass(frozen=True, slots=True)
class Stretch:
    """The way of one target: from its heads (None: they are not known yet) to a goal."""

    track: str
    shard: str
    begin: Heads | None
    end: Heads


class Predictions:
    """Remembers durations in seconds, and tells what they come to for another target. `primed`: of which tracks it
    was told what the store has."""

    def __init__(self) -> None:
        self.primed: set[str] = set()
        self._taken: dict[Stretch, deque[float]] = defaultdict(lambda: deque(maxlen=KEPT))

    def note(self, done: Stretch, seconds: float) -> None:
        for kind in _kinds(done):
            self._taken[kind].append(seconds)

    def prime(self, track: str, done: Iterable[tuple[Stretch, float]]) -> None:
        """Take what the store has of the track, the oldest first, for all that is known of it: what was noted before is
        among it."""
        for kind in [kind for kind in self._taken if kind.track == track]:
            del self._taken[kind]
        for stretch, seconds in done:
            self.note(stretch, seconds)
        self.primed.add(track)

    def of(self, wanted: Stretch, expected: float) -> float:
        """A high quantile of what the same stretch took on the shard, or else on the track; `expected` where nothing is
        known. What only had the same goal tells too little of one whose heads are known: it is `expected` at least."""
        kind = next((kind for kind in _kinds(wanted) if kind in self._taken), None)
        if kind is None:
            return expected
        found = quantile(self._taken[kind])
        return found if kind.begin == wanted.begin else max(expected, found)


def quantile(taken: deque[float]) -> float:
    """The nearest of those that were taken, and so of few the longest; in two digits, rounded up, so that what is made
    of it does not change all the time.

    >>> quantile(deque([1.0, 2.0, 3.21])), quantile(deque([float(n) for n in range(1, 101)]))
    (3.3, 95.0)
    """
    return rounded(sorted(taken)[math.ceil(QUANTILE * len(taken)) - 1])


def rounded(seconds: float) -> float:
    """
    >>> rounded(0.0), rounded(61.0), rounded(0.123)
    (0.0, 61.0, 0.13)
    >>> rounded(3601.0)
    3700.0
    """
    if seconds <= 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(seconds)) - 1)
    return round(math.ceil(round(seconds / unit, 6)) * unit, 6)


def _kinds(stretch: Stretch) -> list[Stretch]:
    """The stretch and what is like it, the nearest first; "" for any shard."""
    begins = [stretch.begin] if stretch.begin is None else [stretch.begin, None]
    return [Stretch(stretch.track, shard, begin, stretch.end) for begin in begins for shard in (stretch.shard, "")]
