"""Which run of a schedule is due, and what becomes of one that was missed. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice

from orchestrator.events import timestamp
from orchestrator.registry.times import Schedule

# A run may begin so late and is still on time: a daemon restarts, or another one takes over the lead.
ON_TIME_SECONDS = 120.0
# One that is older is not even told of as missed.
LOOKS_BACK = timedelta(days=32)
# What is recorded further ahead than this, was recorded while the clock was wrong.
AHEAD = timedelta(days=1)


class RunOutcome(StrEnum):
    """What became of one run of a schedule."""

    STARTED = "started"
    NOTHING_PENDING = "nothing_pending"
    SKIPPED = "skipped"
    MISSED = "missed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a schedule. `planned_at` is its time by the schedule, or the moment at which a person asked for it."""

    schedule: str
    planned_at: datetime
    outcome: RunOutcome
    at: datetime
    rollout: str | None = None
    reason: str | None = None
    by: str | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a schedule beside the file. What was to start up to `since` does not count; `handled` is the
    time of the latest run that was recorded. `enabled` None: nobody has said other than the file; else `by` has, at
    `at`."""

    since: datetime
    handled: datetime | None = None
    enabled: bool | None = None
    by: str | None = None
    at: datetime | None = None

    def is_enabled(self, schedule: Schedule) -> bool:
        return schedule.enabled if self.enabled is None else self.enabled


@dataclass(frozen=True, slots=True)
class Due:
    """A run that is to be started; or, with `missed`, only recorded, since it was due too long ago."""

    planned_at: datetime
    missed: str | None = None


def due(schedule: Schedule, standing: Standing, now: datetime) -> Due | None:
    """What is to be done at this moment; None: nothing.

    Of several that were due, the last one counts. Whatever the clock does, what was recorded is not due again: neither
    that run nor, unless it lies more than a day ahead, one before it.
    """
    if not standing.is_enabled(schedule):
        return None
    patience = max(ON_TIME_SECONDS, schedule.missed_seconds if schedule.missed == "run_once" else 0.0)
    after = max(standing.since - _longest(schedule), now - LOOKS_BACK)
    if standing.handled is not None and standing.handled <= now + AHEAD:
        after = max(after, standing.handled)
    last: datetime | None = None
    for planned in schedule.cron.after(after):
        start = planned + jitter(schedule, planned)
        if start > now:
            break
        if start > standing.since:
            last = planned
    if last is None:
        return None
    late = (now - last - jitter(schedule, last)).total_seconds()
    if late <= patience:
        return Due(last)
    return Due(last, f"no daemon was there at {timestamp(last)}, which is {late:.0f} s ago")


def jitter(schedule: Schedule, planned: datetime) -> timedelta:
    """How long after its time a run starts: the same in each process, spread evenly."""
    if not schedule.jitter_seconds:
        return timedelta()
    digest = hashlib.sha256(f"{schedule.name}\0{timestamp(planned)}".encode()).digest()
    return timedelta(seconds=int.from_bytes(digest[:6], "big") / 2**48 * schedule.jitter_seconds)


def _longest(schedule: Schedule) -> timedelta:
    return timedelta(seconds=schedule.jitter_seconds)


def upcoming(schedule: Schedule, standing: Standing, now: datetime, count: int) -> list[datetime]:
    """When the next runs start, jitter included; none while it is disabled."""
    if not standing.is_enabled(schedule):
        return []
    begin = max(standing.since, now)
    after = begin - _longest(schedule)
    if standing.handled is not None and standing.handled <= now + AHEAD:
        after = max(after, standing.handled)
    starts = (planned + jitter(schedule, planned) for planned in schedule.cron.after(after))
    return list(islice((start for start in starts if start > begin), count))
