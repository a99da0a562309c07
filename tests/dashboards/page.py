"""A whole dashboard as a page of HTML that needs nothing besides."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape
from typing import Any

from tests.dashboards import colours, marks, panels, variables
from tests.dashboards.asking import Answered
from tests.dashboards.marks import Mark

Json = dict[str, Any]

WIDTH, COLUMNS, MARGIN, ROW, TITLE = 1400, 24, 8, 30, 32
_TOP = 84
STYLE = f"""
* {{ box-sizing: border-box }}
body {{ margin: 0; background: {colours.PAGE}; color: {colours.TEXT}; width: {WIDTH}px;
  font: 12px Inter, "DejaVu Sans", "Liberation Sans", Arial, sans-serif; position: relative }}
header {{ position: absolute; left: 16px; right: 16px; top: 12px }}
header h1 {{ font-size: 18px; margin: 0 0 10px; font-weight: 500 }}
header h1 small {{ color: {colours.FAINT}; font-size: 12px; font-weight: 400; margin-left: 12px }}
header time {{ position: absolute; right: 0; top: 4px; color: {colours.FAINT} }}
header span {{ background: {colours.CARD}; border: 1px solid {colours.LINES}; padding: 4px 10px; margin-right: 8px }}
header span b {{ font-weight: 400; color: {colours.FAINT}; margin-right: 8px }}
header span i {{ font-style: normal; font-size: 10px; margin-right: 6px }}
section {{ position: absolute; background: {colours.CARD}; border: 1px solid {colours.LINES}; overflow: hidden }}
section h2 {{ margin: 0; padding: 9px 12px; font-size: 13px; font-weight: 500; height: {TITLE}px; line-height: 14px;
  white-space: nowrap }}
section h2 abbr {{ color: {colours.FAINT}; text-decoration: none; margin-left: 6px;
  font: italic 10px/12px Georgia, serif; display: inline-block; width: 13px; height: 13px; text-align: center;
  border: 1px solid {colours.FAINT}; border-radius: 50% }}
.row {{ background: none; border: none }}
.row h2 {{ padding-left: 0; font-size: 14px }}
svg {{ display: block }}
svg text {{ fill: {colours.TEXT}; font-size: 11px }}
svg .grid {{ stroke: {colours.LINES}; stroke-width: 1 }}
.legend {{ padding: 0 10px; max-height: 64px; overflow: hidden; line-height: 20px; color: {colours.TEXT} }}
.legend span {{ margin-right: 12px; white-space: nowrap; display: inline-block }}
.legend i {{ display: inline-block; width: 14px; height: 4px; border-radius: 2px; margin-right: 6px;
  vertical-align: middle }}
.empty {{ height: calc(100% - {TITLE}px); display: flex; align-items: center; justify-content: center;
  font-size: 14px; color: {colours.FAINT}; padding: 0 20px; text-align: center }}
.stat {{ height: calc(100% - {TITLE}px - 6px); display: inline-flex; align-items: center; justify-content: center;
  font-weight: 500; text-align: center; line-height: 1.1; white-space: nowrap }}
.text {{ padding: 0 12px; line-height: 1.5 }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ text-align: left; padding: 7px 10px; border-bottom: 1px solid {colours.LINES}; font-weight: 400;
  white-space: nowrap; overflow: hidden; text-overflow: ellipsis; max-width: 360px }}
th {{ color: #6e9fff }}
.number {{ text-align: left }}
.bar {{ display: flex; align-items: center; padding: 5px 12px; gap: 10px }}
.bar span {{ width: 40% }} .bar em {{ flex: 1; background: #22252b; height: 14px }}
.bar b {{ display: block; height: 14px }} .bar u {{ text-decoration: none; width: 70px }}
"""


def html(answered: Answered) -> str:
    """Pixels to draw on are WIDTH and `height`."""
    noted = _marks(answered)
    drawn = "".join(_panel(panel, answered, noted) for panel in answered.dashboard["panels"])
    title = escape(answered.dashboard["title"])
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
        f'<body style="height:{height(answered.dashboard)}px">{_header(answered)}{drawn}</body></html>\n'
    )


def height(dashboard: Json) -> int:
    """Of the page, in pixels."""
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"])
    return _TOP + int(rows) * (ROW + MARGIN) + MARGIN


def _marks(answered: Answered) -> list[Mark]:
    return [
        mark
        for one in answered.dashboard["annotations"]["list"]
        if one["enable"]
        for mark in marks.of(one, answered.asked[one["name"]], answered.answers[one["name"]])
    ]


def _header(answered: Answered) -> str:
    dashboard, window = answered.dashboard, answered.window
    start, end = (datetime.fromtimestamp(moment, UTC).strftime("%H:%M:%S") for moment in (window.start, window.end))
    chosen = "".join(
        f"<span><b>{escape(one.title)}</b>{escape(variables.shown(one, answered.chosen))}</span>"
        for one in answered.choices
        if not one.hidden
    )
    shades = {one["name"]: colours.colour(one["iconColor"]) for one in dashboard["annotations"]["list"]}
    told = "".join(f'<span><i style="color:{shade}">&#9650;</i>{escape(name)}</span>' for name, shade in shades.items())
    return (
        f"<header><h1>{escape(dashboard['title'])}<small>{escape(dashboard['description'])}</small></h1>"
        f"{chosen}{told}<time>{start} to {end} UTC</time></header>"
    )


def _panel(panel: Json, answered: Answered, noted: list[Mark]) -> str:
    place = panel["gridPos"]
    column = (WIDTH - 2 * MARGIN) / COLUMNS
    left, wide = round(MARGIN + place["x"] * column), round(place["w"] * column) - MARGIN
    top, high = _TOP + place["y"] * (ROW + MARGIN), place["h"] * (ROW + MARGIN) - MARGIN
    box = f'style="left:{left + MARGIN // 2}px;top:{top}px;width:{wide}px;height:{high}px"'
    if panel["type"] == "row":
        return f'<section class="row" {box}><h2>&#8964; {escape(panel["title"])}</h2></section>'
    told = f'<abbr title="{escape(panel["description"])}">i</abbr>' if panel.get("description") else ""
    inside = panels.content(panel, answered, noted, wide - 2, high - TITLE - 4)
    return f"<section {box}><h2>{escape(panel['title'])}{told}</h2>{inside}</section>"
