"""What of a shard's rules counts for one backfill at one moment. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from orchestrator.backfill.model import Progress
from orchestrator.events import timestamp
from orchestrator.registry import hours
from orchestrator.registry.backfills import (
    DEFAULT_RULES,
    DEFAULT_THRESHOLDS,
    PROBE,
    SIGNALS,
    ProbeSignal,
    Rules,
    Signal,
    Threshold,
)

__all__ = [
    "DEAD_PART",
    "DEFAULT_RULES",
    "DEFAULT_THRESHOLDS",
    "PROBE",
    "SIGNALS",
    "Hours",
    "ProbeSignal",
    "Rules",
    "Signal",
    "Threshold",
    "of_server",
    "of_table",
    "opening",
    "readings",
    "told",
]

# Dead rows count where they are more than this part of the table: as many in a far larger one are no harm.
DEAD_PART = 0.5


def of_server(rules: Rules, dialect: str) -> Mapping[str, Threshold]:
    """The thresholds of what a server of this kind tells of itself, and those of the probes."""
    probes = {probe.name: rules.thresholds.get(probe.name, probe.threshold) for probe in rules.probes}
    return {**_among(rules, dialect, of_table=False), **probes}


def of_table(rules: Rules, dialect: str) -> Mapping[str, Threshold]:
    """The thresholds of what a server of this kind tells of the table that a backfill changes."""
    return _among(rules, dialect, of_table=True)


def _among(rules: Rules, dialect: str, *, of_table: bool) -> dict[str, Threshold]:
    return {
        name: threshold
        for name, threshold in rules.thresholds.items()
        if (signal := SIGNALS.get(name)) and signal.of_table is of_table and dialect in signal.dialects
    }


def readings(progress: Progress) -> Mapping[str, float | None]:
    """What a backfill's progress says of its table; None where the database does not tell.

    >>> dict(readings(Progress(estimated=10_000_000, dead_rows=2_000_000, vacuuming=True)))
    {'dead_rows': 0.0, 'autovacuum': 1.0}
    """
    dead, table = progress.dead_rows, progress.estimated
    few = dead is not None and table is not None and dead <= table * DEAD_PART
    return {
        "dead_rows": None if dead is None else 0.0 if few else float(dead),
        "autovacuum": None if progress.vacuuming is None else float(progress.vacuuming),
    }


class Hours(NamedTuple):
    """Whether batches may run, and until when that stays so; None: as far as one can see."""

    open: bool
    until: datetime | None


def opening(rules: Rules, now: datetime) -> Hours:
    """Whether all of the rules' hours are open. While `until` has not come it need not be asked again."""
    if not rules.hours:
        return Hours(True, None)
    span = next(hours.common(rules.hours, now), None)
    if span is None:
        return Hours(False, None)
    return Hours(True, span.end) if span.begin <= now else Hours(False, span.begin)


def told(rules: Rules, found: Hours) -> str:
    """Why batches wait for hours that are not open, in words."""
    names = " and ".join(dict.fromkeys(window.name for window in rules.hours if window.name))
    whose = f"its hours ({names})" if names else "its hours"
    if found.until is None:
        return f"outside of {whose}, which never open as far as one can see: change `hours` of the shard's `backfill`"
    return f"outside of {whose}, which open {timestamp(found.until)}"
