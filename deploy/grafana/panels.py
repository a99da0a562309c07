"""The parts that dashboards are made of, as the JSON that Grafana reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

SOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24
# What a process that stands by tells of the fleet and of rollouts counts as nothing.
LEADER = "* on (job, instance) group_left () orchestrator_leader"
# Colours of states, the same on every panel.
COLOURS = {
    "succeeded": "green",
    "up_to_date": "green",
    "behind": "yellow",
    "running": "blue",
    "pending": "#8e8e8e",
    "failed": "red",
    "ahead": "purple",
    "unreachable": "orange",
    "locked": "dark-orange",
    "unknown": "#8e8e8e",
    "unprovisioned": "light-blue",
    "rolled_back": "dark-yellow",
    "cancelled": "#8e8e8e",
    "skipped": "#8e8e8e",
}


@dataclass(frozen=True)
class Panel:
    """`queries`: pairs of legend and PromQL. `empty`: what it says when there
    is nothing to show. `told`: what it shows, in a sentence."""

    title: str
    kind: str
    queries: Sequence[tuple[str, str]]
    told: str
    empty: str = "nothing to show"
    unit: str = "short"
    width: int = 12
    height: int = 8
    stacked: bool = False
    largest: float | None = None
    steps: Sequence[tuple[float | None, str]] = ()
    columns: Mapping[str, str] = field(default_factory=dict)  # of a table: a label, and its heading


def graph(title: str, queries: Sequence[tuple[str, str]], told: str, **options: Any) -> Panel:
    return Panel(title, "timeseries", queries, told, **options)


def number(title: str, query: str, told: str, **options: Any) -> Panel:
    return Panel(title, "stat", [("", query)], told, **{"width": 4, "height": 4, **options})


def table(title: str, query: str, told: str, columns: Mapping[str, str], **options: Any) -> Panel:
    return Panel(title, "table", [("", query)], told, columns=columns, **options)


def dashboard(uid: str, title: str, told: str, variables: Sequence[Json], panels: Sequence[Panel]) -> Json:
    return {
        "uid": uid,
        "title": title,
        "description": told,
        "tags": ["migrations"],
        "editable": False,
        "graphTooltip": 1,
        "schemaVersion": 39,
        "version": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "",
        "templating": {"list": [_datasource(), *variables]},
        "annotations": {"list": _annotations()},
        "links": [
            {"type": "dashboards", "title": "Migrations", "tags": ["migrations"], "asDropdown": True, "keepTime": True}
        ],
        "panels": _placed(panels),
    }


def variable(name: str, metric: str, label: str | None = None) -> Json:
    """A choice among the values of a label, several or all at once."""
    query = f"label_values({metric}, {label or name})"
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": SOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _datasource() -> Json:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {}}


def _annotations() -> list[Json]:
    begun = f"(orchestrator_rollout_started_timestamp_seconds {LEADER}) * 1000 > 0"
    ended = "sum by (track, outcome) (increase(orchestrator_rollouts_total[$__rate_interval])) > 0"
    common: Json = {"datasource": SOURCE, "enable": True, "hide": False, "tagKeys": "track", "step": "10s"}
    return [
        {
            **common,
            "name": "Rollouts begun",
            "expr": begun,
            "titleFormat": "rollout {{rollout}}",
            "textFormat": "track {{track}}",
            "useValueForTime": True,
            "iconColor": "blue",
        },
        {
            **common,
            "name": "Rollouts ended",
            "expr": ended,
            "titleFormat": "a rollout {{outcome}}",
            "textFormat": "track {{track}}",
            "iconColor": "purple",
        },
    ]


def _placed(panels: Sequence[Panel]) -> list[Json]:
    """From left to right, row by row."""
    placed: list[Json] = []
    x = y = tallest = 0
    for number_, panel in enumerate(panels, 1):
        if x + panel.width > COLUMNS:
            x, y, tallest = 0, y + tallest, 0
        placed.append(_panel(number_, panel, {"x": x, "y": y, "w": panel.width, "h": panel.height}))
        x, tallest = x + panel.width, max(tallest, panel.height)
    return placed


def _panel(number_: int, panel: Panel, place: Json) -> Json:
    steps = panel.steps or [(None, "text" if panel.kind == "stat" else "green")]
    defaults: Json = {
        "unit": panel.unit,
        "noValue": panel.empty,
        "min": 0,
        "thresholds": {"mode": "absolute", "steps": [{"value": value, "color": colour} for value, colour in steps]},
    }
    if panel.largest is not None:
        defaults["max"] = panel.largest
    if panel.kind == "timeseries":
        stacking = {"mode": "normal" if panel.stacked else "none", "group": "A"}
        defaults["custom"] = {"fillOpacity": 30 if panel.stacked else 5, "stacking": stacking, "showPoints": "never"}
    has_states = any(legend in ("{{state}}", "{{outcome}}") for legend, _ in panel.queries)
    made: Json = {
        "id": number_,
        "title": panel.title,
        "description": panel.told,
        "type": panel.kind,
        "datasource": SOURCE,
        "gridPos": place,
        "targets": [
            _target(letter, *query, panel.kind) for letter, query in zip("ABCDEF", panel.queries, strict=False)
        ],
        "fieldConfig": {"defaults": defaults, "overrides": _colours() if has_states else []},
        "options": _options(panel.kind),
    }
    if panel.kind == "table":
        made["transformations"] = [_columns(panel.columns)]
    return made


def _target(letter: str, legend: str, expr: str, kind: str) -> Json:
    target: Json = {"refId": letter, "datasource": SOURCE, "expr": expr, "legendFormat": legend or "__auto"}
    if kind == "timeseries":
        return {**target, "range": True}
    return {**target, "instant": True, **({"format": "table"} if kind == "table" else {})}


def _options(kind: str) -> Json:
    match kind:
        case "timeseries":
            return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
        case "table":
            return {"showHeader": True, "cellHeight": "sm"}
        case "bargauge":
            return {"orientation": "horizontal", "displayMode": "basic", "reduceOptions": {"calcs": ["lastNotNull"]}}
        case _:
            return {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "none"}


def _colours() -> list[Json]:
    return [
        {
            "matcher": {"id": "byName", "options": state},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
        }
        for state, colour in COLOURS.items()
    ]


def _columns(headings: Mapping[str, str]) -> Json:
    left_out = ("Time", "job", "instance", "__name__")
    options: Json = {
        "excludeByName": {name: True for name in left_out if name not in headings},
        "indexByName": {name: place for place, name in enumerate(headings)},
        "renameByName": dict(headings),
    }
    return {"id": "organize", "options": options}
