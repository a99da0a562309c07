"""Values as Grafana writes them, by unit."""

from __future__ import annotations

import math
from collections.abc import Sequence

# Each with how many of the one before it has.
Scale = Sequence[tuple[float, str]]

_SHORT: Scale = [(1, ""), (1000, " K"), (1000, " Mil"), (1000, " Bil")]
_BYTES: Scale = [(1, " B"), (1024, " KiB"), (1024, " MiB"), (1024, " GiB"), (1024, " TiB")]
_SECONDS: Scale = [(1, " s"), (60, " mins"), (60, " hours"), (24, " days"), (7, " weeks"), (365.25 / 7, " years")]
_PARTS_OF_SECONDS: Scale = [(1, " s"), (1 / 1000, " ms"), (1 / 1000, " µs"), (1 / 1000, " ns")]
# After a number scaled as for `short`.
_RATES = {"ops": " ops/s", "rowsps": " rows/s", "reqps": " req/s"}


def written(value: float, unit: str) -> str:
    """A value and its unit. Raises ValueError for a unit that none of our dashboards has had.

    >>> written(0.5, "percentunit"), written(1234, "short"), written(90, "s"), written(0.004, "s")
    ('50%', '1.23 K', '1.50 mins', '4 ms')
    >>> written(3 * 2**20, "bytes"), written(2.5, "ops"), written(12, "none")
    ('3 MiB', '2.50 ops/s', '12')
    """
    if math.isnan(value):
        return "NaN"
    match unit:
        case "none":
            return digits(value)
        case "short":
            return _scaled(value, _SHORT)
        case "percentunit":
            return f"{digits(value * 100)}%"
        case "bytes":
            return _scaled(value, _BYTES)
        case "s":
            return _scaled(value, _SECONDS) if abs(value) >= 1 or value == 0 else _shrunk(value, _PARTS_OF_SECONDS)
        case _ if unit in _RATES:
            return _scaled(value, _SHORT) + _RATES[unit]
        case _ if unit.startswith("suffix:"):
            return f"{_scaled(value, _SHORT)} {unit.removeprefix('suffix:')}"
    raise ValueError(f"unit {unit} is not known: add it to tests/dashboards/numbers.py")


def digits(value: float) -> str:
    """About three digits that count, none after a whole number.

    >>> digits(0.12345), digits(12.345), digits(2.0), digits(1234.6)
    ('0.123', '12.3', '2', '1235')
    """
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if value == round(value):
        return f"{value:.0f}"
    decimals = 1 - math.floor(math.log10(abs(value)))
    decimals += abs(value) * 10**decimals > 2.25
    text = f"{value:.{max(0, decimals)}f}"
    return text


def _scaled(value: float, scale: Scale) -> str:
    suffix = scale[0][1]
    for factor, larger in scale[1:]:
        if abs(value) < factor:
            break
        value, suffix = value / factor, larger
    return digits(value) + suffix


def _shrunk(value: float, scale: Scale) -> str:
    suffix = scale[0][1]
    for factor, smaller in scale[1:]:
        if abs(value) >= 1:
            break
        value, suffix = value / factor, smaller
    return digits(round(value, 9)) + suffix
