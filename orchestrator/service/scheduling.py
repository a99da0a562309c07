"""The clock's part: the process that leads looks each second which runs are due, and carries them out.

That none is started twice is not decided here but by the store: a run's row is written with its rollout.
"""

from __future__ import annotations

from functools import partial

import anyio
import anyio.abc
import structlog

from orchestrator.access import acts, callers
from orchestrator.access.acts import Act
from orchestrator.errors import ConflictError, OrchestratorError, StateError, StoreError, UnavailableError
from orchestrator.events import timestamp
from orchestrator.registry.times import Schedule
from orchestrator.rollout.schedules import ON_TIME_SECONDS, Due, RunOutcome, due, jitter, upcoming
from orchestrator.rollout.state import Scheduled
from orchestrator.service.orchestrator import Orchestrator
from orchestrator.service.repeating import again_and_again
from orchestrator.service.timetable import definition, overlap
from orchestrator.service.wiring import Parts

LOOK_SECONDS = 1.0
# What cannot be reached just now is asked again, while the run is on time.
AGAIN_SECONDS = 5.0

log = structlog.get_logger(__name__)


class Scheduler:
    """Starts what is due, while this process leads. `underway`: the schedules with a run that is being started."""

    def __init__(self, parts: Parts, service: Orchestrator) -> None:
        self._parts, self._service, self._timetable = parts, service, service.schedules
        self._followed: str | None = None
        self.underway: set[str] = set()

    async def run(self, *, look_seconds: float = LOOK_SECONDS) -> None:
        """For ever. While the store gives no answer, nothing is started."""
        async with anyio.create_task_group() as tasks:
            await again_and_again(partial(self._look_led, tasks), _tell, look_seconds)

    async def _look_led(self, tasks: anyio.abc.TaskGroup) -> None:
        if self._service.steering.leads and not self._service.readiness():
            await self.look(tasks)

    async def look(self, tasks: anyio.abc.TaskGroup) -> None:
        """Begin what is due now, each run in a task of its own. Raises StoreError."""
        registry, now = self._service.registry, self._parts.clock()
        if registry.digest != self._followed:
            texts = {name: definition(schedule) for name, schedule in registry.schedules.items()}
            await self._parts.store.schedules.follow(texts, now)
            self._followed = registry.digest
            self._parts.metrics.describe_schedules({})
        if not registry.schedules:
            return
        standings = await self._parts.store.schedules.standings(now)
        following: dict[str, float] = {}
        for name, schedule in registry.schedules.items():
            standing = standings.get(name)
            if standing is None:  # another daemon has another file, and follows it
                self._followed = None
                continue
            following.update((name, run.timestamp()) for run in upcoming(schedule, standing, now, 1))
            if name not in self.underway and (found := due(schedule, standing, now)) is not None:
                self.underway.add(name)
                tasks.start_soon(self._carry_out, schedule, found)
        self._parts.metrics.describe_schedules(following)

    async def _carry_out(self, schedule: Schedule, found: Due) -> None:
        details = {"schedule": schedule.name, "planned_at": timestamp(found.planned_at)}
        act = Act("run_schedule", f"{callers.SCHEDULE}{schedule.name}", details=details)
        try:
            with acts.acting(act):
                await self._close(schedule, found)
        except StoreError as exc:  # it is due still, and looked at again
            log.warning("schedule_not_recorded", schedule=schedule.name, message=exc.message)
        finally:
            self.underway.discard(schedule.name)

    async def _close(self, schedule: Schedule, found: Due) -> None:
        """Bring a run to what it comes to. Raises StoreError."""
        run = Scheduled(schedule.name, found.planned_at)
        if found.missed is not None:
            await self._timetable.close(schedule, run, RunOutcome.MISSED, found.missed)
            return
        if (freeze := await self._parts.store.freeze.current()) is not None:
            await self._timetable.close(schedule, run, RunOutcome.SKIPPED, str(freeze))
            return
        try:
            await self._timetable.carry_out(schedule, run)
        except ConflictError as exc:
            await self._timetable.close(schedule, run, RunOutcome.SKIPPED, overlap(exc))
        except StateError as exc:  # somebody was quicker: it is recorded, or was just disabled
            log.info("schedule_not_started", schedule=schedule.name, message=exc.message)
        except StoreError:
            raise
        except OrchestratorError as exc:
            if isinstance(exc, UnavailableError) and self._is_on_time(schedule, found):
                await anyio.sleep(AGAIN_SECONDS)
                return
            await self._timetable.close(schedule, run, RunOutcome.FAILED, exc.message)
        except Exception as exc:
            log.exception("schedule_crashed", schedule=schedule.name)
            await self._timetable.close(schedule, run, RunOutcome.FAILED, f"this is a bug: {type(exc).__name__}")

    def _is_on_time(self, schedule: Schedule, found: Due) -> bool:
        start = found.planned_at + jitter(schedule, found.planned_at)
        return (self._parts.clock() - start).total_seconds() < ON_TIME_SECONDS


def _tell(exc: StoreError) -> None:
    log.warning("schedules_not_read", message=exc.message, remedy=exc.remedy)
