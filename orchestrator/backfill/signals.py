"""What signals hold: readings against thresholds, with hysteresis, and closed where a signal is lost. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.registry.backfills import PROBE, SIGNALS, Threshold, Unit

# A reading that is older tells nothing any more.
LOST_SECONDS = 15.0
LOST = "signal_lost"
_BYTES = ("B", "kB", "MB", "GB", "TB")


@dataclass(frozen=True, slots=True)
class Held:
    """Why backfills are held, and since when, in seconds of the clock that was given."""

    reason: str
    text: str
    since: float


@dataclass(slots=True)
class _Reading:
    """`at`: when it was heard; before that, when somebody first looked for it."""

    at: float
    value: float | None = None
    failure: str | None = None


class Readings:
    """What the signals of one shard, or of one backfill's table, have told last. Times are seconds of a clock that
    never goes back."""

    def __init__(self) -> None:
        self._told: dict[str, _Reading] = {}

    def hear(self, name: str, value: float | None, now: float) -> None:
        """A reading. None: there is nothing to tell, and nothing is held for it."""
        self._told[name] = _Reading(now, value)

    def fail(self, name: str, why: str, now: float) -> None:
        """It could not be read, and why; what was read before counts until it is too old."""
        self._look(name, now).failure = why

    def restart(self) -> None:
        """Nobody has listened for a while: forget all."""
        self._told.clear()

    def values(self) -> Mapping[str, float]:
        """The last readings, however old, for whoever shows them or waits for the first."""
        return {name: told.value for name, told in self._told.items() if told.value is not None}

    def _look(self, name: str, now: float) -> _Reading:
        return self._told.setdefault(name, _Reading(now))


class Signals:
    """What holds one backfill, by readings that it may share with others."""

    def __init__(self, readings: Readings) -> None:
        self._readings = readings
        self._held_since: dict[str, float] = {}

    def holds(self, thresholds: Mapping[str, Threshold], now: float) -> tuple[Held, ...]:
        """Every reason to hold, by these thresholds; a signal that none of them names holds nothing.

        A signal that was never heard holds nothing until it counts as lost: whoever must not begin blind waits for
        `Readings.values` to name it.
        """
        for name in self._held_since.keys() - thresholds.keys():
            del self._held_since[name]
        found: list[Held] = []
        lost: dict[str, _Reading] = {}
        for name, threshold in thresholds.items():
            told = self._readings._look(name, now)
            if now - told.at > LOST_SECONDS:
                lost[name] = told
            elif told.value is not None and self._is_held(name, told.value, threshold, now):
                found.append(Held(name, said(name, told.value, threshold), self._held_since[name]))
        return (*found, _lost(lost)) if lost else tuple(found)

    def _is_held(self, name: str, value: float, threshold: Threshold, now: float) -> bool:
        if value <= threshold.below:
            self._held_since.pop(name, None)
        elif not value <= threshold.above:  # what is not a number is above everything
            self._held_since.setdefault(name, now)
        return name in self._held_since


def _lost(lost: Mapping[str, _Reading]) -> Held:
    """One reason, however many are lost: they are lost together when a session breaks."""
    why = next((f" ({told.failure})" for told in lost.values() if told.failure), "")
    text = (
        f"nothing was heard of {', '.join(lost)} for {LOST_SECONDS:g} s{why}: let it be read, or take it out under "
        "`backfill` of the shard (`signals: {NAME: off}`, or its probe)"
    )
    return Held(LOST, text, min(told.at for told in lost.values()) + LOST_SECONDS)


def said(name: str, value: float, threshold: Threshold) -> str:
    """
    >>> said("replication_lag", 7.25, Threshold.over(5.0))
    'the replication lag is 7.2 s, above 5 s: held until it is at most 4 s'
    >>> said("probe:queue", 120.0, Threshold(100.0, 50.0))
    'the probe queue is 120, above 100: held until it is at most 50'
    """
    signal = SIGNALS.get(name)
    what, unit = (signal.what, signal.unit) if signal else (f"the probe {name.removeprefix(PROBE)}", "count")
    if unit == "switch":
        return f"{what} is at work: held until it has ended"
    verb = "are" if signal and not what.startswith("the ") and unit != "bytes" and name != "threads_running" else "is"
    above, below = shown(threshold.above, unit), shown(threshold.below, unit)
    limits = f"held until it is at most {below}"
    if value <= threshold.above:
        return f"{what} {verb} {shown(value, unit)}, was above {above}: {limits}"
    return f"{what} {verb} {shown(value, unit)}, above {above}: {limits}"


def shown(value: float, unit: Unit) -> str:
    """
    >>> shown(90.0, "seconds"), shown(1.5 * 2**30, "bytes"), shown(1_000_000.0, "count"), shown(0.5, "count")
    ('90 s', '1.5 GB', '1,000,000', '0.5')
    """
    if unit == "seconds":
        return f"{value:.0f} s" if value >= 10 else f"{value:.2g} s"
    if unit == "bytes":
        power = min(4, max(0, int(math.log(value, 1024)))) if value >= 1 else 0
        value /= 1024**power
        return f"{value:.0f} {_BYTES[power]}" if value >= 100 else f"{value:.3g} {_BYTES[power]}"
    return f"{value:,.0f}" if value == round(value) else f"{value:,.4g}"
