"""When things may happen, as values: rollouts that start by the clock, and hours in which targets may be migrated."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from orchestrator.registry.cron import Cron

Missed = Literal["skip", "run_once"]
Way = Literal["upgrade", "downgrade", "stamp"]

MINUTES_OF_A_DAY = 24 * 60


@dataclass(frozen=True, slots=True)
class Schedule:
    """A rollout that starts by the clock.

    `to` empty: each track's own goal. `missed`: what becomes of a run for which no daemon was there, if it is not
    older than `missed_seconds`. A run starts up to `jitter_seconds` after its time, always the same for one time.
    `enabled` is what holds until a person says otherwise.
    """

    name: str
    cron: Cron
    track: str
    to: str = ""
    select: str = ""
    strategy: str = "default"
    direction: Way = "upgrade"
    enabled: bool = True
    missed: Missed = "skip"
    missed_seconds: float = 3600.0
    jitter_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Hours:
    """Opening hours of some days of the week (0 is Monday), in minutes after midnight; those of a night end after
    `MINUTES_OF_A_DAY`."""

    days: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Blackout:
    """Local times, without a zone, between which nothing starts and nothing should run."""

    begin: datetime
    end: datetime
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """Hours in which the targets that `select` takes may be migrated: those of `open`, any when there are none, but
    not in the `blackouts`. `expect_seconds`: how long a migration is taken to last when nothing is known of it."""

    name: str
    timezone: str
    select: str = ""
    open: tuple[Hours, ...] = ()
    blackouts: tuple[Blackout, ...] = ()
    expect_seconds: float = 600.0
