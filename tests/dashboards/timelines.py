"""A panel of kind `state-timeline`: a row for each series, a bar for each time that it had one value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from tests.dashboards import axes, words
from tests.dashboards.axes import Axis
from tests.dashboards.charts import BELOW, LETTER
from tests.dashboards.questions import Window
from tests.dashboards.series import Series

Json = dict[str, Any]


def drawn(panel: Json, lines: Sequence[Series], window: Window, width: int, height: int) -> str:
    left = 14 + LETTER * max(len(line.legend) for line in lines)
    across = Axis(window.start, window.end, left, width - 8)
    row = (height - BELOW) / len(lines)
    filled = panel["options"].get("rowHeight", 0.9)
    parts = []
    for place, line in enumerate(lines):
        middle = (place + 0.5) * row
        parts.append(f'<text x="{left - 6}" y="{middle + 4:.1f}" text-anchor="end">{escape(line.legend)}</text>')
        parts += _bars(panel, line, across, middle - row * filled / 2, row * filled)
    for moment, text in axes.times(window.start, window.end, int((across.last - across.first) // 75)):
        parts.append(
            f'<text x="{min(across.at(moment), across.last - 18)}" y="{height - 6}" text-anchor="middle">{text}</text>'
        )
    return f'<svg width="{width}" height="{height}">{"".join(parts)}</svg>'


def _bars(panel: Json, line: Series, across: Axis, top: float, high: float) -> Iterator[str]:
    opacity = panel["fieldConfig"]["defaults"].get("custom", {}).get("fillOpacity", 70) / 100
    for first, last, value in spells(line):
        text, colour = words.said(panel, value)
        x, wide = across.at(max(first, across.low)), across.at(last) - across.at(max(first, across.low))
        box = f'x="{x}" y="{top:.1f}" width="{wide:.1f}" height="{high:.1f}"'
        yield f'<rect {box} fill="{colour}" fill-opacity="{opacity}"/>'
        if wide > LETTER * len(text) + 12:
            yield f'<text x="{x + 6}" y="{top + high / 2 + 4:.1f}">{escape(text)}</text>'


def spells(line: Series) -> list[tuple[float, float, float]]:
    """From when to when it had which value.

    >>> spells(Series("a", {}, [(0, 1.0), (1, 1.0), (2, 0.0), (3, None), (4, 1.0)]))
    [(0, 2, 1.0), (2, 3, 0.0), (4, 4, 1.0)]
    """
    found: list[tuple[float, float, float]] = []
    begun: tuple[float, float] | None = None
    for time, value in [*line.points, (line.points[-1][0], None)]:
        if begun is not None and value != begun[1]:
            found.append((begun[0], time, begun[1]))
            begun = None
        if begun is None and value is not None:
            begun = time, value
    return found
