"""A panel of kind `timeseries`, as SVG with its legend below."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Any

from tests.dashboards import axes, colours, numbers, series
from tests.dashboards.axes import Axis
from tests.dashboards.marks import Mark
from tests.dashboards.questions import Window
from tests.dashboards.series import Point, Series

Json = dict[str, Any]

LEGEND_LINE, BELOW, LETTER = 20, 22, 6.6
_ROW = 40  # pixels between lines of the grid, at least


@dataclass(frozen=True)
class Style:
    """What a line looks like: the panel's own defaults, and what overrides say of one series."""

    colour: str
    width: float
    fill: float
    dashes: str
    points: str
    stacks: bool
    stepped: bool


def drawn(panel: Json, lines: Sequence[Series], window: Window, marks: Sequence[Mark], width: int, height: int) -> str:
    defaults, overrides = panel["fieldConfig"]["defaults"], panel["fieldConfig"].get("overrides", [])
    styles = _styles(lines, defaults, overrides)
    legend = _legend(lines, styles, width)
    height -= min(_lines_of_legend(lines, width), height // 3 // LEGEND_LINE) * LEGEND_LINE
    edges = _edges(lines, styles)
    shown = axes.ticks(*_extent(edges, defaults), max(2, (height - BELOW) // _ROW), defaults.get("unit", "short"))
    written = [numbers.written(value, defaults.get("unit", "short")) for value in shown]
    left = 14 + LETTER * max(len(text) for text in written)
    across, up = Axis(window.start, window.end, left, width - 8), Axis(shown[0], shown[-1], height - BELOW, 8)
    parts = [
        *_grid(across, up, list(zip(shown, written, strict=True)), window),
        *_thresholds(defaults, across, up),
        *_marks(marks, across, up),
        *(part for style, edge in zip(styles, edges, strict=True) for part in _line(style, edge, across, up)),
    ]
    return f'<svg width="{width}" height="{height}">{"".join(parts)}</svg>{legend}'


def _styles(lines: Sequence[Series], defaults: Json, overrides: Sequence[Json]) -> list[Style]:
    legends = [line.legend for line in lines]
    return [
        _style(colour, defaults.get("custom", {}), colours.properties(legend, overrides))
        for legend, colour in zip(legends, colours.of_series(legends, overrides), strict=True)
    ]


def _style(colour: str, custom: Json, own: Sequence[Any]) -> Style:
    merged = {**custom, **{one["id"].removeprefix("custom."): one["value"] for one in own if "custom." in one["id"]}}
    line = merged.get("lineStyle", {})
    return Style(
        colour,
        merged.get("lineWidth", 1),
        merged.get("fillOpacity", 0) / 100,
        " ".join(str(part) for part in line.get("dash", [])) if line.get("fill") == "dash" else "",
        merged.get("showPoints", "auto"),
        merged.get("stacking", {}).get("mode", "none") == "normal",
        merged.get("lineInterpolation", "linear") == "stepAfter",
    )


def _edges(lines: Sequence[Series], styles: Sequence[Style]) -> list[tuple[Sequence[Point], Sequence[Point]]]:
    """Lower and upper edge of each line."""
    piled = [line for line, style in zip(lines, styles, strict=True) if style.stacks]
    heaps = iter(series.stacked(piled))
    return [
        next(heaps)
        if style.stacks
        else ([(time, None if value is None else 0.0) for time, value in line.points], line.points)
        for line, style in zip(lines, styles, strict=True)
    ]


def _extent(edges: Sequence[tuple[Sequence[Point], Sequence[Point]]], defaults: Json) -> tuple[float, float]:
    values = [value for _, upper in edges for _, value in upper if value is not None and abs(value) != float("inf")]
    low = defaults["min"] if "min" in defaults else min([*values, 0.0])
    soft = defaults.get("custom", {}).get("axisSoftMax", low)
    high = defaults["max"] if "max" in defaults else max([*values, soft])
    return low, high if high > low else low + 1


def _grid(across: Axis, up: Axis, rows: Sequence[tuple[float, str]], window: Window) -> Iterator[str]:
    for value, text in rows:
        y = up.at(value)
        yield f'<line class="grid" x1="{across.first}" x2="{across.last}" y1="{y}" y2="{y}"/>'
        yield f'<text x="{across.first - 6}" y="{y + 4}" text-anchor="end">{escape(text)}</text>'
    for moment, text in axes.times(window.start, window.end, int((across.last - across.first) // 75)):
        x = across.at(moment)
        yield f'<line class="grid" x1="{x}" x2="{x}" y1="{up.last}" y2="{up.first}"/>'
        yield f'<text x="{min(x, across.last - 18)}" y="{up.first + 16}" text-anchor="middle">{text}</text>'


def _thresholds(defaults: Json, across: Axis, up: Axis) -> Iterator[str]:
    """Lines where thresholds are, if the panel shows them."""
    if defaults.get("custom", {}).get("thresholdsStyle", {}).get("mode", "off") == "off":
        return
    for step in defaults["thresholds"]["steps"]:
        if step["value"] is not None and up.low <= step["value"] <= up.high:
            y, colour = up.at(step["value"]), colours.colour(step["color"])
            line = f'x1="{across.first}" x2="{across.last}" y1="{y}" y2="{y}" stroke-dasharray="8 6"'
            yield f'<line {line} stroke="{colour}" stroke-opacity=".7"/>'


def _marks(marks: Sequence[Mark], across: Axis, up: Axis) -> Iterator[str]:
    """Annotations: a dashed line where each begins, and a strip for those that last."""
    for mark in marks:
        first, last = across.at(max(mark.start, across.low)), across.at(min(mark.end, across.high))
        title = f"<title>{escape(mark.title)}: {escape(mark.text)}</title>"
        if last - first > 1:
            area = f'x="{first}" width="{last - first:.1f}" y="{up.last}" height="{up.first - up.last}"'
            yield f'<rect {area} fill="{mark.colour}" fill-opacity=".12">{title}</rect>'
        for x in {first, last}:
            line = f'x1="{x}" x2="{x}" y1="{up.last}" y2="{up.first}" stroke="{mark.colour}"'
            yield f'<line class="mark" {line} stroke-dasharray="4 3">{title}</line>'
        yield f'<path d="M{first - 4} {up.first + 5}h8l-4 -5z" fill="{mark.colour}"/>'


def _line(style: Style, edge: tuple[Sequence[Point], Sequence[Point]], across: Axis, up: Axis) -> Iterator[str]:
    lower, upper = edge
    for first, last in _runs(upper):
        top = _path([(across.at(time), up.at(value)) for time, value in upper[first:last] if value is not None], style)
        foot = [(across.at(time), up.at(value)) for time, value in lower[first:last] if value is not None]
        if style.fill and last - first > 1:
            back = _path(foot, style, back=True)
            yield f'<path d="M{top}L{back}z" fill="{style.colour}" fill-opacity="{style.fill}"/>'
        if last - first > 1:
            dashes = f' stroke-dasharray="{style.dashes}"' if style.dashes else ""
            yield f'<path d="M{top}" fill="none" stroke="{style.colour}" stroke-width="{style.width}"{dashes}/>'
        elif style.points != "never":
            yield f'<circle cx="{top.split()[0]}" cy="{top.split()[1]}" r="2.5" fill="{style.colour}"/>'


def _runs(points: Sequence[Point]) -> list[tuple[int, int]]:
    """Where values follow each other without a gap.

    >>> _runs([(0, 1.0), (1, 2.0), (2, None), (3, 1.0)])
    [(0, 2), (3, 4)]
    """
    found, first = [], 0
    for place, (_, value) in enumerate([*points, (0, None)]):
        if value is None:
            if place > first:
                found.append((first, place))
            first = place + 1
    return found


def _path(points: Sequence[tuple[float, float]], style: Style, *, back: bool = False) -> str:
    if style.stepped:
        points = [points[0], *(pair for (_, y), b in pairwise(points) for pair in ((b[0], y), b))]
    return " L".join(f"{x:g} {y:g}" for x, y in (reversed(points) if back else points))


def _legend(lines: Sequence[Series], styles: Sequence[Style], width: int) -> str:
    shown = (
        f'<span><i style="background:{style.colour}"></i>{escape(line.legend)}</span>'
        for line, style in zip(lines, styles, strict=True)
    )
    return f'<div class="legend" style="max-width:{width}px">{"".join(shown)}</div>'


def _lines_of_legend(lines: Sequence[Series], width: int) -> int:
    """About how many lines the legend takes."""
    taken, count = 0.0, 1
    for line in lines:
        own = 34 + LETTER * len(line.legend)
        if taken and taken + own > width - 16:
            taken, count = 0.0, count + 1
        taken += own
    return count
