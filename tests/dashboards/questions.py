"""What a dashboard asks Prometheus, for a time and with values for its variables."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.dashboards import variables
from tests.dashboards.variables import Choice, Chosen

Json = dict[str, Any]
Sample = Json  # of an answer: `metric` with `value` or `values`

_NICE_SECONDS = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Window:
    """What is looked at, in Unix seconds. `scrape_seconds`: how often is scraped, as the data source is told."""

    start: float
    end: float
    scrape_seconds: float = 15

    @property
    def seconds(self) -> float:
        return self.end - self.start

    def step(self, points: int) -> float:
        """Seconds between values of a graph of so many points: never less than a scrape apart."""
        least = max(self.seconds / points, self.scrape_seconds)
        return next((step for step in _NICE_SECONDS if step >= least), 86400)


@dataclass(frozen=True)
class Question:
    """`step`: seconds between values; None asks for those at the end."""

    promql: str
    window: Window
    step: float | None = None


def of_dashboard(dashboard: Json, choices: Sequence[Choice], chosen: Chosen, window: Window) -> dict[str, Question]:
    """All questions, by `where`."""
    written = {choice.name: variables.written(choice, chosen) for choice in choices}
    found: dict[str, Question] = {}
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            found[where(panel, target)] = of_target(target, written, window, _points(panel))
    for annotation in dashboard["annotations"]["list"]:
        step = _seconds(annotation["step"])
        found[annotation["name"]] = _question(annotation["expr"], written, window, step)
    return found


def where(panel: Json, target: Json) -> str:
    return f"{panel['id']} {target['refId']}"


def of_target(target: Json, written: Mapping[str, str], window: Window, points: int) -> Question:
    if target.get("instant"):
        return _question(target["expr"], written, window, None)
    return _question(target["expr"], written, window, window.step(points))


def _points(panel: Json) -> int:
    """As many as the panel has pixels, more or less."""
    return max(50, round(1400 * int(panel["gridPos"]["w"]) / 24))


def _question(expr: str, written: Mapping[str, str], window: Window, step: float | None) -> Question:
    interval = step or window.step(1000)
    rate = max(interval + window.scrape_seconds, 4 * window.scrape_seconds)
    ours = {
        "__interval": f"{interval:g}s",
        "__rate_interval": f"{rate:g}s",
        "__range": f"{math.ceil(window.seconds)}s",
    }
    return Question(variables.filled(expr, {**written, **ours}), window, step)


def _seconds(text: str) -> float:
    """
    >>> _seconds("10s"), _seconds("2m")
    (10.0, 120.0)
    """
    found = re.fullmatch(r"(\d+)([smhd])", text)
    if found is None:
        raise ValueError(f"{text} is no time that is known here")
    return float(found[1]) * _SECONDS[found[2]]
