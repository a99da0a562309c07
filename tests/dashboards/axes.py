"""Where values and times are on a drawing, and which of them are written beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

_TIMES = (1, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800)
_STEPS = (1, 2, 2.5, 5, 10)
# Times and sizes have steps of their own: minutes, hours, powers of two.
_OF_UNITS = {
    "s": (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 15, 30, *_TIMES[5:]),
    "bytes": tuple(2.0**power for power in range(60)),
}


@dataclass(frozen=True)
class Axis:
    """From values to pixels; `first` and `last` are pixels."""

    low: float
    high: float
    first: float
    last: float

    def at(self, value: float) -> float:
        """
        >>> Axis(0, 10, 100, 0).at(2.5)
        75.0
        """
        part = (value - self.low) / ((self.high - self.low) or 1)
        return round(self.first + part * (self.last - self.first), 1)


def ticks(low: float, high: float, count: int, unit: str) -> list[float]:
    """Round values from `low` on, at most about `count` of them; the last is not below `high`.

    >>> ticks(0, 7, 4, "short"), ticks(0, 1, 4, "percentunit"), ticks(0, 200, 4, "s")
    ([0, 2, 4, 6, 8], [0.0, 0.25, 0.5, 0.75, 1.0], [0, 60, 120, 180, 240])
    """
    step = _step((high - low) / count or 1, unit)
    first, last = math.floor(low / step), math.ceil(round(high / step, 6))
    return [round(number * step, 12) for number in range(first, max(last, first + 1) + 1)]


def _step(least: float, unit: str) -> float:
    for step in _OF_UNITS.get(unit, ()):
        if step >= least:
            return step
    power = 10.0 ** math.floor(math.log10(least))
    step = next(factor * power for factor in _STEPS if factor * power >= least * 0.999999)
    return int(step) if step >= 1 and step == int(step) else step


def times(start: float, end: float, count: int) -> Sequence[tuple[float, str]]:
    """Round moments between the two, with what is written there, in UTC.

    >>> times(0, 300, 5)
    [(0, '00:00'), (60, '00:01'), (120, '00:02'), (180, '00:03'), (240, '00:04'), (300, '00:05')]
    """
    step = next((step for step in _TIMES if step >= (end - start) / count), _TIMES[-1])
    form = "%H:%M:%S" if step < 60 else "%H:%M" if step < 86400 else "%m/%d"
    moments = range(math.ceil(start / step) * step, math.floor(end) + 1, step)
    return [(moment, datetime.fromtimestamp(moment, UTC).strftime(form)) for moment in moments]
