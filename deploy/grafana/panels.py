"""The parts that dashboards are made of, as the JSON that Grafana reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from deploy.grafana import overrides, variables
from deploy.grafana.variables import JOB, OF_TRACK, SOURCE, Json

Words = Mapping[int, tuple[str, str]]

COLUMNS = 24
# Leaves out what a process that stands by tells of the fleet and of rollouts. It binds loosely: put it in parentheses.
LEADER = f"and on (job, instance) (orchestrator_leader{{{JOB}}} == 1)"
# Histograms whose buckets may have the trace of one that fell into them.
EXEMPLARS = ("orchestrator_migration_duration_seconds", "orchestrator_lock_wait_seconds")
# Minutes over which what happens seldom is summed up, so that its line has no holes.
SELDOM = "[5m]"


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
    largest_first: bool = False  # of a table: by its value
    states: Mapping[str, str] = field(default_factory=dict)  # of a table: colours of what stands under `state`
    words: Words = field(default_factory=dict)  # what a value means, and its colour


def graph(title: str, queries: Sequence[tuple[str, str]], told: str, **options: Any) -> Panel:
    return Panel(title, "timeseries", queries, told, **options)


def number(title: str, query: str, told: str, **options: Any) -> Panel:
    return Panel(title, "stat", [("", query)], told, **{"width": 4, "height": 4, **options})


def table(title: str, query: str, told: str, columns: Mapping[str, str], **options: Any) -> Panel:
    return Panel(title, "table", [("", query)], told, columns=columns, **options)


def timeline(
    title: str, query: tuple[str, str], told: str, words: Mapping[int, tuple[str, str]], **options: Any
) -> Panel:
    """A bar for each series, in the colours of what its values mean."""
    return Panel(title, "state-timeline", [query], told, words=words, **options)


def dashboard(uid: str, title: str, told: str, chosen: Sequence[Json], panels: Sequence[Panel]) -> Json:
    """Panels say for themselves which of the variables they do not go by."""
    names = [variable["name"] for variable in chosen]
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
        "templating": {"list": [variables.datasource(), variables.installation(), *chosen]},
        "annotations": {"list": _annotations(names)},
        "links": [
            {
                "type": "dashboards",
                "title": "Migrations",
                "tags": ["migrations"],
                "asDropdown": True,
                "keepTime": True,
                "includeVars": True,
            }
        ],
        "panels": _placed([_narrowed(panel, names) for panel in panels]),
    }


def _narrowed(panel: Panel, names: Sequence[str]) -> Panel:
    """Says which variables make no difference: those that a query of the panel leaves out."""
    left_out = [name for name in names if any(f"${name}" not in promql for _, promql in panel.queries)]
    if not left_out:
        return panel
    return replace(panel, told=f"{panel.told} Not narrowed by the chosen {' or '.join(left_out)}.")


def _annotations(names: Sequence[str]) -> list[Json]:
    here = ",".join([JOB, *([OF_TRACK] if "track" in names else [])])
    begun = f"(orchestrator_rollout_started_timestamp_seconds{{{here}}} {LEADER}) * 1000 > 0"
    ended = f"sum by (track, outcome) (increase(orchestrator_rollouts_total{{{here}}}[$__rate_interval])) > 0"
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
    if panel.words:
        defaults["mappings"] = [overrides.mapping({str(value): word for value, word in panel.words.items()})]
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
        "fieldConfig": {"defaults": defaults | _custom(panel), "overrides": _overrides(panel)},
        "options": _options(panel),
    }
    if panel.kind == "table":
        made["transformations"] = [_columns(panel.columns)]
    return made


def _custom(panel: Panel) -> Json:
    match panel.kind:
        case "timeseries":
            stacking = {"mode": "normal" if panel.stacked else "none", "group": "A"}
            drawn = {"fillOpacity": 30, "lineWidth": 1} if panel.stacked else {"fillOpacity": 0, "lineWidth": 2}
            return {"custom": {**drawn, "stacking": stacking, "showPoints": "auto"}}
        case "state-timeline":
            return {"custom": {"fillOpacity": 60, "lineWidth": 0}}
        case _:
            return {}


def _target(letter: str, legend: str, expr: str, kind: str) -> Json:
    target: Json = {"refId": letter, "datasource": SOURCE, "expr": expr, "legendFormat": legend or "__auto"}
    if kind in ("timeseries", "state-timeline"):
        traced = any(f"{name}_bucket" in expr for name in EXEMPLARS)
        return {**target, "range": True, **({"exemplar": True} if traced else {})}
    return {**target, "instant": True, **({"format": "table"} if kind == "table" else {})}


def _options(panel: Panel) -> Json:
    match panel.kind:
        case "timeseries":
            return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
        case "table":
            by = [{"displayName": panel.columns["Value"], "desc": True}] if panel.largest_first else []
            return {"showHeader": True, "cellHeight": "sm", "sortBy": by}
        case "state-timeline":
            return {
                "showValue": "auto",
                "mergeValues": True,
                "rowHeight": 0.8,
                "alignValue": "left",
                "legend": {"showLegend": False},
            }
        case _:
            return {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "none"}


def _overrides(panel: Panel) -> list[Json]:
    if panel.kind == "table":
        return overrides.of_table(panel.states)
    return overrides.of_lines([legend for legend, _ in panel.queries])


def _columns(headings: Mapping[str, str]) -> Json:
    left_out = ("Time", "job", "instance", "__name__", "Value")
    options: Json = {
        "excludeByName": {name: True for name in left_out if name not in headings},
        "indexByName": {name: place for place, name in enumerate(headings)},
        "renameByName": dict(headings),
    }
    return {"id": "organize", "options": options}
