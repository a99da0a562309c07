"""What is in a panel: numbers, tables and graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from tests.dashboards import charts, colours, questions, series, timelines, words
from tests.dashboards.asking import Answered
from tests.dashboards.marks import Mark
from tests.dashboards.series import Series

Json = dict[str, Any]
Cell = str | float | None


def content(panel: Json, answered: Answered, marks: Sequence[Mark], width: int, height: int) -> str:
    """Raises ValueError for a kind that none of our dashboards has had."""
    lines = _lines(panel, answered)
    match panel["type"]:
        case "stat":
            return stat(panel, lines, width, height)
        case "bargauge":
            return bars(panel, lines)
        case _ if not lines:
            return f'<div class="empty">{escape(empty(panel))}</div>'
        case "timeseries":
            return charts.drawn(panel, lines, answered.window, marks, width, height)
        case "state-timeline":
            return timelines.drawn(panel, lines, answered.window, width, height)
        case "table":
            return table(panel, lines)
    raise ValueError(f"panels of kind {panel['type']} are not known: add them to tests/dashboards/panels.py")


def _lines(panel: Json, answered: Answered) -> list[Series]:
    found: list[Series] = []
    for target in panel.get("targets", []):
        where = questions.where(panel, target)
        found += series.read(target["legendFormat"], answered.asked[where], answered.answers[where])
    return found


def empty(panel: Json) -> str:
    return str(panel["fieldConfig"]["defaults"].get("noValue", "No data"))


def stat(panel: Json, lines: Sequence[Series], width: int, height: int) -> str:
    """The last value of each line, in the colour of its threshold."""
    said = [words.said(panel, line.last) for line in lines if line.last is not None]
    shown = said or [(empty(panel), colours.TEXT)]
    share = width / len(shown)
    return "".join(
        f'<div class="stat" style="width:{share:.0f}px;color:{colour};'
        f'font-size:{_size(text, share, height)}px">{escape(text)}</div>'
        for text, colour in shown
    )


def _size(text: str, width: float, height: int) -> int:
    """As large as there is room for, up to 64 pixels."""
    return int(max(14, min(64, height * 0.6, (width - 24) / (0.55 * max(1, len(text))))))


def bars(panel: Json, lines: Sequence[Series]) -> str:
    """A bar for each line, as long as its last value is large."""
    values = [(line, line.last) for line in lines if line.last is not None]
    if not values:
        return f'<div class="empty">{escape(empty(panel))}</div>'
    most = panel["fieldConfig"]["defaults"].get("max") or max(value for _, value in values) or 1
    rows = []
    for line, value in values:
        text, colour = words.said(panel, value)
        bar = f'<b style="width:{min(100, value / most * 100):.1f}%;background:{colour}"></b>'
        rows.append(f'<div class="bar"><span>{escape(line.legend)}</span><em>{bar}</em><u>{escape(text)}</u></div>')
    return "".join(rows)


def table(panel: Json, lines: Sequence[Series]) -> str:
    headings, rows = cells(panel, lines)
    head = "".join(f"<th>{escape(name)}</th>" for name in headings)
    body = "".join(f"<tr>{''.join(_cell(panel, name, row.get(name)) for name in headings)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def cells(panel: Json, lines: Sequence[Series]) -> tuple[list[str], list[dict[str, Cell]]]:
    """Headings and rows: labels and `Value`, left out, ordered and renamed as the transformation `organize` says."""
    options = _organized(panel)
    left_out, order, names = options["excludeByName"], options["indexByName"], options["renameByName"]
    every = dict.fromkeys(["Time", *(label for line in lines for label in line.labels), "Value"])
    kept = sorted((name for name in every if not left_out.get(name)), key=lambda name: order.get(name, len(order)))
    rows: list[dict[str, Cell]] = [
        {names.get(name, name): line.last if name == "Value" else line.labels.get(name) for name in kept}
        for line in lines
    ]
    for by in reversed(panel.get("options", {}).get("sortBy", [])):
        rows.sort(key=lambda row: _order(row.get(by["displayName"])), reverse=by.get("desc", False))
    return [names.get(name, name) for name in kept], rows


def _organized(panel: Json) -> Mapping[str, Any]:
    for made in panel.get("transformations", []):
        if made["id"] == "organize":
            options: Mapping[str, Any] = made["options"]
            return options
    return {"excludeByName": {}, "indexByName": {}, "renameByName": {}}


def _order(cell: Cell) -> tuple[float, str]:
    return (cell, "") if isinstance(cell, float) else (0.0, cell or "")


def _cell(panel: Json, heading: str, cell: Cell) -> str:
    """A number as its column says; the text of a cell in its mapping's colour, where the column has one."""
    own = {one["id"]: one["value"] for one in colours.properties(heading, panel["fieldConfig"].get("overrides", []))}
    width = f' style="width:{own["custom.width"]}px"' if "custom.width" in own else ""
    if isinstance(cell, float):
        text, colour = words.said(panel, cell)
        shade = f' style="color:{colour}"' if _colours_text(panel, own) else ""
        return f'<td class="number"{width}><span{shade}>{escape(text)}</span></td>'
    meant = [mapping["options"].get(cell) for mapping in own.get("mappings", []) if mapping["type"] == "value"]
    colour = next((colours.colour(one["color"]) for one in meant if one), colours.TEXT)
    return f'<td{width}><span style="color:{colour}">{escape(cell or "")}</span></td>'


def _colours_text(panel: Json, own: Mapping[str, Any]) -> bool:
    custom = panel["fieldConfig"]["defaults"].get("custom", {})
    return bool(own.get("custom.cellOptions", custom.get("cellOptions", {})).get("type") == "color-text")
