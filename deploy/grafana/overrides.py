"""What single series and columns of a panel look like: colours of states, and limits as dashed lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Json = dict[str, Any]

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
# Colours of a rollout's states, in tables.
ROLLOUTS = {"running": "green", "paused": "orange", "awaiting_approval": "yellow"}


def of_table(states: Mapping[str, str]) -> list[Json]:
    """Colours for what stands in the column `state`."""
    if not states:
        return []
    words = mapping({state: (state, colour) for state, colour in states.items()})
    return [_override("byName", "state", ("mappings", [words]), ("custom.cellOptions", {"type": "color-text"}))]


def of_lines(legends: Sequence[str]) -> list[Json]:
    made = []
    if any(legend in ("{{state}}", "{{outcome}}") for legend in legends):
        made += [
            _override("byName", state, ("color", {"mode": "fixed", "fixedColor": colour}))
            for state, colour in COLOURS.items()
        ]
    if any(legend.endswith(" limit") for legend in legends):
        dashed = ("custom.lineStyle", {"fill": "dash", "dash": [6, 6]}), ("custom.lineWidth", 1)
        made.append(_override("byRegexp", "/ limit$/", *dashed))
    return made


def mapping(words: Mapping[str, tuple[str, str]]) -> Json:
    """What values mean, with the colours of that."""
    placed = enumerate(words.items())
    options = {key: {"text": text, "color": colour, "index": place} for place, (key, (text, colour)) in placed}
    return {"type": "value", "options": options}


def _override(matcher: str, names: str, *properties: tuple[str, Any]) -> Json:
    return {
        "matcher": {"id": matcher, "options": names},
        "properties": [{"id": name, "value": value} for name, value in properties],
    }
