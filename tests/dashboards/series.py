"""What Prometheus answered, as lines and numbers with a name."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.dashboards.questions import Question, Sample

Point = tuple[float, float | None]  # Unix seconds, and the value; None where there was none


@dataclass(frozen=True)
class Series:
    legend: str
    labels: Mapping[str, str]
    points: Sequence[Point]

    @property
    def last(self) -> float | None:
        """The last value that is one."""
        return next((value for _, value in reversed(self.points) if value is not None), None)


def legend(form: str, labels: Mapping[str, str]) -> str:
    """
    >>> legend("{{shard}} limit", {"shard": "eu"}), legend("{{no}}", {}), legend("__auto", {"a": "1"})
    ('eu limit', '', '{a="1"}')
    """
    if form != "__auto":
        return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: labels.get(found[1], ""), form)
    name = labels.get("__name__", "")
    others = ", ".join(f'{key}="{value}"' for key, value in labels.items() if key != "__name__")
    return f"{name}{{{others}}}" if others else name or "Value"


def read(form: str, question: Question, answer: Sequence[Sample]) -> list[Series]:
    """One for each sample. A graph has a point for each step, so that what is missing leaves a gap."""
    found = []
    for sample in answer:
        pairs = sample["values"] if "values" in sample else [sample["value"]]
        points = [(float(time), number(text)) for time, text in pairs]
        if question.step is not None:
            points = _gaps(points, question.step)
        found.append(Series(legend(form, sample["metric"]), sample["metric"], points))
    return found


def number(text: str) -> float | None:
    """
    >>> number("0.5"), number("NaN"), number("+Inf")
    (0.5, None, inf)
    """
    value = float(text)
    return None if math.isnan(value) else value


def _gaps(points: Sequence[Point], step: float) -> list[Point]:
    """
    >>> _gaps([(1, 5.0), (2, 6.0), (5, 7.0)], 1)
    [(1, 5.0), (2, 6.0), (3, None), (5, 7.0)]
    """
    made: list[Point] = []
    for point in points:
        if made and point[0] - made[-1][0] > step * 1.5:
            made.append((made[-1][0] + step, None))
        made.append(point)
    return made


def stacked(lines: Sequence[Series]) -> list[tuple[Sequence[Point], Sequence[Point]]]:
    """Lower and upper edge of each line's area. A line without a value at a time adds nothing there.

    >>> stacked([Series("a", {}, [(0, 1.0)]), Series("b", {}, [(0, 2.0), (1, 1.0)])])[1]
    ([(0, 1.0), (1, 0.0)], [(0, 3.0), (1, 1.0)])
    """
    heights: dict[float, float] = {}
    edges: list[tuple[Sequence[Point], Sequence[Point]]] = []
    for line in lines:
        lower: list[Point] = []
        upper: list[Point] = []
        for time, value in line.points:
            below = heights.get(time, 0.0)
            lower.append((time, None if value is None else below))
            upper.append((time, None if value is None else below + value))
            if value is not None:
                heights[time] = below + value
        edges.append((lower, upper))
    return edges
