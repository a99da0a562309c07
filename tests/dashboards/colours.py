"""Colours by Grafana's names, in its dark theme."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

TEXT, FAINT, LINES = "#ccccdc", "#8e8ea0", "#2c2f36"
PAGE, CARD = "#111217", "#181b1f"
_NAMED = {
    "text": TEXT,
    "transparent": "transparent",
    "green": "#73bf69",
    "dark-green": "#37872d",
    "semi-dark-green": "#56a64b",
    "light-green": "#96d98d",
    "yellow": "#fade2a",
    "dark-yellow": "#e0b400",
    "semi-dark-yellow": "#f2cc0c",
    "red": "#f2495c",
    "dark-red": "#c4162a",
    "semi-dark-red": "#e02f44",
    "light-red": "#ff7383",
    "orange": "#ff9830",
    "dark-orange": "#fa6400",
    "light-orange": "#ffb357",
    "blue": "#5794f2",
    "dark-blue": "#1f60c4",
    "light-blue": "#8ab8ff",
    "purple": "#b877d9",
    "dark-purple": "#8f3bb8",
    "light-purple": "#ca95e5",
}
# What series have that no override gives a colour, in their order.
PALETTE = (
    *("#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#705da0", "#37872d", "#fade2a"),
    *("#447ebc", "#c15c17", "#890f02", "#0a437c", "#6d1f62", "#584477", "#b7dbab", "#f4d598", "#70dbed", "#f9ba8f"),
)


def colour(name: str) -> str:
    """The colour's code. Raises ValueError for a name that is not known."""
    if name.startswith("#"):
        return name
    if name not in _NAMED:
        raise ValueError(f"colour {name} is not known: add it to tests/dashboards/colours.py")
    return _NAMED[name]


def of_step(value: float, steps: Sequence[Mapping[str, Any]]) -> str:
    """The colour of the last threshold that is not above the value.

    >>> of_step(3, [{"value": None, "color": "green"}, {"value": 3, "color": "red"}]) == colour("red")
    True
    """
    reached = [step for step in steps if step["value"] is None or value >= step["value"]]
    return colour(str((reached or steps)[-1]["color"]))


def of_series(legends: Sequence[str], overrides: Sequence[Mapping[str, Any]]) -> list[str]:
    """The colour of each series of a graph: what an override fixes, else the palette's by its place."""
    return [_fixed(legend, overrides) or PALETTE[place % len(PALETTE)] for place, legend in enumerate(legends)]


def _fixed(legend: str, overrides: Sequence[Mapping[str, Any]]) -> str | None:
    for made in properties(legend, overrides):
        if made["id"] == "color":
            return colour(made["value"]["fixedColor"])
    return None


def properties(name: str, overrides: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """What overrides say of a series or column. Raises ValueError for a matcher that is not known."""
    found: list[Mapping[str, Any]] = []
    for override in overrides:
        if matches(name, override["matcher"]):
            found.extend(override["properties"])
    return found


def matches(name: str, matcher: Mapping[str, Any]) -> bool:
    match matcher["id"]:
        case "byName":
            return bool(name == matcher["options"])
        case "byRegexp":
            pattern = str(matcher["options"]).removeprefix("/").removesuffix("/")
            return re.search(pattern, name) is not None
    raise ValueError(f"matcher {matcher['id']} is not known: add it to tests/dashboards/colours.py")
