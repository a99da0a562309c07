"""What the HTTP surface needs of the service to speak of schedules and of a freeze."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from orchestrator.registry.times import Schedule
from orchestrator.rollout.schedules import Run, Standing
from orchestrator.rollout.windows import Freeze


@dataclass(frozen=True, slots=True)
class ScheduleView:
    """A schedule with its next runs, jitter included, and the latest ones, newest first."""

    schedule: Schedule
    standing: Standing
    upcoming: Sequence[datetime]
    runs: Sequence[Run] = ()

    @property
    def enabled(self) -> bool:
        return self.standing.is_enabled(self.schedule)


class Schedules(Protocol):
    """Errors are NotFoundError for a schedule that the registry does not have, and StoreError."""

    async def listed(self, upcoming: int) -> Sequence[ScheduleView]:
        """By name, each with so many of its next runs and its latest one."""
        ...

    async def show(self, name: str, *, upcoming: int, runs: int) -> ScheduleView: ...

    async def switch(self, name: str, *, enabled: bool, by: str) -> ScheduleView:
        """Enable or disable it, until somebody says otherwise; what was due meanwhile is not made up for."""
        ...

    async def run(self, name: str, *, by: str) -> Run:
        """Start it now, also where it is disabled. Raises what starting a rollout raises, and FrozenError."""
        ...


class Freezing(Protocol):
    """Errors are StoreError."""

    async def current(self) -> Freeze | None: ...

    async def set(self, *, by: str, reason: str) -> Freeze:
        """Nothing starts any more, on no shard and in no process, once this returns; what runs is finished. A fleet
        that is frozen stays so as it was."""
        ...

    async def lift(self, *, by: str) -> Freeze | None:
        """What was lifted; None when the fleet was not frozen."""
        ...
