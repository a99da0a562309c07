"""The registry's schedules as people see and steer them, and what one run comes to."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from orchestrator.access import acts, callers
from orchestrator.api.ports import PlanGroup, RolloutView
from orchestrator.api.time_ports import ScheduleView
from orchestrator.errors import ConflictError, NotFoundError
from orchestrator.events import ScheduleRan, ScheduleSwitched
from orchestrator.registry import selector
from orchestrator.registry.model import Registry
from orchestrator.registry.times import Schedule
from orchestrator.rollout import windows
from orchestrator.rollout.schedules import Run, RunOutcome, Standing, upcoming
from orchestrator.rollout.state import EVERY, Direction, FleetState, Request, Scheduled
from orchestrator.service.wiring import Parts

_UNREAD = (FleetState.UNREACHABLE, FleetState.UNKNOWN)


class Service(Protocol):
    """What is needed of the orchestrator."""

    @property
    def registry(self) -> Registry: ...

    async def preview(self, request: Request) -> Sequence[PlanGroup]: ...

    async def start_rollout(self, request: Request) -> tuple[RolloutView, bool]: ...


class Timetable:
    """Implements `api.time_ports.Schedules`. The clock's runs are `scheduling`'s to find."""

    def __init__(self, parts: Parts, service: Service) -> None:
        self._parts, self._service = parts, service

    async def listed(self, upcoming: int) -> Sequence[ScheduleView]:
        schedules, now = self._service.registry.schedules, self._parts.clock()
        standings = await self._parts.store.schedules.standings(now)
        return [await self._view(schedules[name], standings, now, upcoming, 1) for name in sorted(schedules)]

    async def show(self, name: str, *, upcoming: int, runs: int) -> ScheduleView:
        schedule, now = self.find(name), self._parts.clock()
        return await self._view(schedule, await self._parts.store.schedules.standings(now), now, upcoming, runs)

    async def _view(
        self, schedule: Schedule, standings: Mapping[str, Standing], now: datetime, count: int, runs: int
    ) -> ScheduleView:
        standing = standings.get(schedule.name, Standing(now))
        latest = await self._parts.store.schedules.runs(schedule.name, runs)
        return ScheduleView(schedule, standing, upcoming(schedule, standing, now, count), latest)

    async def switch(self, name: str, *, enabled: bool, by: str) -> ScheduleView:
        schedule = self.find(name)
        now, filed = self._parts.clock(), schedule.enabled
        await self._parts.store.schedules.switch(name, definition(schedule), enabled, by, now, filed)
        self._parts.bus.publish(ScheduleSwitched(schedule=name, enabled=enabled, by=by))
        return await self.show(name, upcoming=5, runs=1)

    async def run(self, name: str, *, by: str) -> Run:
        schedule, now = self.find(name), self._parts.clock()
        freeze = await self._parts.store.freeze.current()
        if freeze is not None:
            raise windows.refused(freeze)
        return await self.carry_out(schedule, Scheduled(name, now, is_asked=True), by)

    def find(self, name: str) -> Schedule:
        """Raises NotFoundError, which names one that may be meant."""
        schedules = self._service.registry.schedules
        if name not in schedules:
            close = difflib.get_close_matches(name, schedules, n=1)
            known = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(schedules) or 'none'}"
            raise NotFoundError(f"there is no schedule {name!r}", remedy=known)
        return schedules[name]

    async def carry_out(self, schedule: Schedule, run: Scheduled, by: str | None = None) -> Run:
        """Start the run, unless there is nothing to do; what it came to is recorded. Raises what `start_rollout`
        raises: then nothing is recorded."""
        request = requested(schedule, run, by)
        if (idle := await self._idle(schedule, request)) is not None:
            return await self.close(schedule, run, RunOutcome.NOTHING_PENDING, idle, by)
        acts.tell(run_outcome=str(RunOutcome.STARTED))
        try:
            view, fresh = await self._service.start_rollout(request)
        except Exception:
            acts.tell(run_outcome=None)
            raise
        came = Run(
            schedule.name, run.planned_at, RunOutcome.STARTED, view.rollout.created_at, view.rollout.id, None, by
        )
        if fresh:
            self._tell(came)
        return came

    async def close(
        self, schedule: Schedule, run: Scheduled, outcome: RunOutcome, reason: str | None, by: str | None = None
    ) -> Run:
        """Record that a run has started nothing."""
        came = Run(schedule.name, run.planned_at, outcome, self._parts.clock(), None, reason, by)
        if await self._parts.store.schedules.record(came):
            self._tell(came)
        return came

    async def _idle(self, schedule: Schedule, request: Request) -> str | None:
        """Why there is nothing to do; None when there is something, or may be: a target that cannot be read is the
        rollout's to account for."""
        wanted, registry = selector.parse(schedule.select), self._service.registry
        if not any(request.track in (one.track, EVERY) and wanted.matches(one) for one in registry.targets):
            return f"no target of track {request.track} is selected"
        groups = await self._service.preview(request)
        if any(group.steps or group.state in _UNREAD for group in groups):
            return None
        return f"nothing to run on {sum(group.count for group in groups)} targets"

    def _tell(self, run: Run) -> None:
        self._parts.bus.publish(
            ScheduleRan(
                schedule=run.schedule,
                planned_at=run.planned_at,
                outcome=str(run.outcome),
                rollout=run.rollout,
                reason=run.reason,
                by=run.by,
            )
        )


def definition(schedule: Schedule) -> str:
    """What makes it mean other times; off means none, so one that the file turns on counts from then on."""
    times = f"{schedule.cron.text} {schedule.cron.timezone} {schedule.jitter_seconds:g}"
    return times if schedule.enabled else f"{times} off"


def requested(schedule: Schedule, run: Scheduled, by: str | None) -> Request:
    return Request(
        schedule.track,
        schedule.to,
        schedule.select,
        schedule.strategy,
        Direction(schedule.direction),
        created_by=by or f"{callers.SCHEDULE}{schedule.name}",
        scheduled=run,
    )


def overlap(exc: ConflictError) -> str:
    return f"its targets are held: {exc.message}"
