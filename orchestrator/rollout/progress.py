"""How far a rollout is, as numbers. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.rollout.state import UNFINISHED, MigrationState


def finished(counts: Mapping[MigrationState, int]) -> int:
    return sum(n for state, n in counts.items() if state not in UNFINISHED)


def eta_seconds(total: int, counts: Mapping[MigrationState, int], elapsed_seconds: float) -> float | None:
    """Seconds until the last target at the rate so far; None while nothing has finished.

    Targets found at the goal cost next to nothing, so they say nothing about the rate and are left out of it.

    >>> eta_seconds(100, {MigrationState.UP_TO_DATE: 50, MigrationState.SUCCEEDED: 10}, 20.0)
    80.0
    """
    remaining = total - finished(counts)
    if remaining <= 0:
        return 0.0
    worked = finished(counts) - counts.get(MigrationState.UP_TO_DATE, 0)
    return remaining * elapsed_seconds / worked if worked > 0 else None
