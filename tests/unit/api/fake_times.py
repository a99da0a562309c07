"""Schedules and a freeze of dictionaries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from orchestrator import errors
from orchestrator.api.time_ports import ScheduleView
from orchestrator.registry import cron
from orchestrator.registry.times import Schedule
from orchestrator.rollout.schedules import Run, RunOutcome, Standing, upcoming
from orchestrator.rollout.windows import Freeze

START = datetime(2026, 11, 21, 2, 0, tzinfo=UTC)
NIGHTLY = Schedule("nightly", cron.parse("0 2 * * *", "Europe/Berlin"), "app")


@dataclass
class FakeSchedules:
    standing: Standing = field(default_factory=lambda: Standing(START))
    came: list[Run] = field(default_factory=list)

    async def listed(self, upcoming: int) -> Sequence[ScheduleView]:
        return [await self.show("nightly", upcoming=upcoming, runs=1)]

    async def show(self, name: str, *, upcoming: int, runs: int) -> ScheduleView:
        if name != NIGHTLY.name:
            raise errors.NotFoundError(f"there is no schedule {name!r}", remedy="did you mean 'nightly'?")
        return ScheduleView(NIGHTLY, self.standing, self._upcoming(upcoming), self.came[::-1][:runs])

    def _upcoming(self, count: int) -> Sequence[datetime]:
        return upcoming(NIGHTLY, self.standing, START, count)

    async def switch(self, name: str, *, enabled: bool, by: str) -> ScheduleView:
        self.standing = replace(self.standing, enabled=enabled, by=by, at=START)
        return await self.show(name, upcoming=5, runs=1)

    async def run(self, name: str, *, by: str) -> Run:
        await self.show(name, upcoming=0, runs=0)
        self.came.append(Run(name, START, RunOutcome.STARTED, START, "r001", None, by))
        return self.came[-1]


@dataclass
class FakeFreezing:
    freeze: Freeze | None = None

    async def current(self) -> Freeze | None:
        return self.freeze

    async def set(self, *, by: str, reason: str) -> Freeze:
        self.freeze = self.freeze or Freeze(by, reason, START)
        return self.freeze

    async def lift(self, *, by: str) -> Freeze | None:
        self.freeze, lifted = None, self.freeze
        return lifted
