"""Schedules and the freeze as they go over the wire."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.api.schemas import Body, Moment, Word, masked
from orchestrator.api.time_ports import ScheduleView
from orchestrator.registry.times import Missed
from orchestrator.rollout import schedules
from orchestrator.rollout.schedules import RunOutcome
from orchestrator.rollout.state import Direction
from orchestrator.rollout.windows import Freeze as Frozen


class Run(Body):
    """What became of one run of a schedule."""

    schedule: str
    planned_at: Moment = Field(description="Its time by the schedule, or when a person asked for it.")
    outcome: RunOutcome
    at: Moment
    rollout: str | None
    reason: str | None = Field(description="Why nothing was started.")
    by: str | None = Field(description="Who asked for it; null: the clock did.")


class Schedule(Body):
    name: str
    cron: str
    timezone: str
    track: str
    to: str = Field(description="The goal; empty: each track's own.")
    select: str
    strategy: str
    direction: Direction
    enabled: bool
    switched_by: str | None = Field(description="Who enabled or disabled it; null: it is as the file says.")
    switched_at: Moment | None
    missed: Missed
    missed_seconds: float
    jitter_seconds: float
    next_runs: list[Moment] = Field(description="Jitter included; empty while it is disabled.")
    runs: list[Run] = Field(description="The latest first; one in listings.")


class Freeze(Body):
    """Whether anything may start on the fleet."""

    frozen: bool
    by: str | None = None
    reason: str | None = None
    since: Moment | None = None


class SetFreeze(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    reason: Word = Field(description="Why, for all who will wonder.")


class Override(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    reason: Word = Field(description="Why, for the record.")


def run(it: schedules.Run) -> Run:
    return Run(
        schedule=it.schedule,
        planned_at=it.planned_at,
        outcome=it.outcome,
        at=it.at,
        rollout=it.rollout,
        reason=masked(it.reason),
        by=it.by,
    )


def schedule(view: ScheduleView) -> Schedule:
    it, standing = view.schedule, view.standing
    return Schedule(
        name=it.name,
        cron=it.cron.text,
        timezone=it.cron.timezone,
        track=it.track,
        to=it.to,
        select=it.select,
        strategy=it.strategy,
        direction=Direction(it.direction),
        enabled=view.enabled,
        switched_by=standing.by,
        switched_at=standing.at,
        missed=it.missed,
        missed_seconds=it.missed_seconds,
        jitter_seconds=it.jitter_seconds,
        next_runs=list(view.upcoming),
        runs=[run(one) for one in view.runs],
    )


def freeze(it: Frozen | None) -> Freeze:
    if it is None:
        return Freeze(frozen=False)
    return Freeze(frozen=True, by=it.by, reason=masked(it.reason), since=it.since)
