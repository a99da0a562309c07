"""What a panel says of a value, and in which colour."""

from __future__ import annotations

from typing import Any

from tests.dashboards import colours, numbers

Json = dict[str, Any]


def said(panel: Json, value: float) -> tuple[str, str]:
    """A mapping of values to words goes before unit and thresholds."""
    defaults = panel["fieldConfig"]["defaults"]
    colour = colours.of_step(value, defaults["thresholds"]["steps"])
    for mapping in defaults.get("mappings", []):
        for key, meant in mapping["options"].items() if mapping["type"] == "value" else ():
            if float(key) == value:
                return meant["text"], colours.colour(meant["color"]) if "color" in meant else colour
    return numbers.written(value, defaults.get("unit", "short")), colour
