"""What is done for one target around its change, under its lock: a backup and counts before, verification after."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.databases.base import Guard, Place
from orchestrator.execute import verify
from orchestrator.execute.backup import Backups
from orchestrator.execute.making import Subject
from orchestrator.plan.steps import Plan

if TYPE_CHECKING:
    from orchestrator.execute.migrate import Work


@dataclass(slots=True)
class Care:
    """What the precautions of all targets share and remember; one instance serves all tasks."""

    backups: Backups = field(default_factory=Backups)


class Precautions:
    """Of one attempt at one target."""

    def __init__(self, care: Care, work: Work, place: Place, guard: Guard) -> None:
        self._care, self._work, self._place, self._guard = care, work, place, guard
        self._taken, self._counted = False, work.counted

    async def before(self, plan: Plan) -> None:
        """To be called before anything is changed; a second call does nothing.

        Raises TargetError: the target was not touched, and must not be.
        """
        if self._taken:
            return
        work = self._work
        subject = Subject(work.registry, work.target, self._place, work.occasion, plan)
        await self._care.backups.take(subject, self._guard)
        await self._count(plan)
        self._taken = True

    async def _count(self, plan: Plan) -> None:
        """Not again after a try that may have changed something: those from before count."""
        work = self._work
        wanted = [*verify.guards(verify.chosen(work.history, self._steps(plan), plan.direction))]
        untouched = work.since in (None, plan.heads) or work.reverting
        if wanted and work.counted is None and untouched:
            self._counted = await verify.count(self._guard, wanted)
            await work.on_counted(self._counted)

    async def after(self, plan: Plan, heads: tuple[str, ...]) -> None:
        """To be called when the target is at the goal. What a try before has changed is verified as well, also where
        this one had nothing to run. Raises TargetError."""
        wanted = verify.chosen(self._work.history, self._steps(plan), plan.direction)
        await verify.verify(self._guard, wanted, self._counted, heads)

    def _steps(self, plan: Plan) -> tuple[str, ...]:
        """All that the rollout runs on the target, this attempt and those before; of the way back, what is left."""
        since = self._work.since
        if since in (None, plan.heads) or self._work.reverting:
            return plan.steps
        return self._work.planner.plan(since, since).steps
