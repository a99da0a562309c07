"""What is shown of backfills that are underway."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from orchestrator.backfill.model import Backfill, Progress

# Pauses that belong to how a backfill goes: they are counted, shown when they are long, and not told as events.
DUTY, BUDGET, REFUSED, FIRST = "duty", "budget", "refused", "first_reading"
ROUTINE = frozenset({DUTY, BUDGET, REFUSED, FIRST})
# A person has ordered it.
PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a backfill waits: `reason` is one of a bounded set of words, as in metrics; `text` says it with numbers."""

    reason: str
    text: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Underway:
    """One target's backfill, as it stands. `size`: rows of the next batch; `rows_per_second`: rows passed, over the
    last half minute or so; None before the first batch."""

    rollout: str
    tenant: str
    track: str
    shard: str
    backfill: Backfill
    progress: Progress
    size: int
    rows_per_second: float | None
    eta_seconds: float | None
    holds: tuple[Hold, ...]
    started_at: datetime
    updated_at: datetime
