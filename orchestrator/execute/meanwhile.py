"""Somebody else's hand in the version table: a plain `alembic upgrade` knows nothing of our lock. Pure."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.databases.questions import VERIFY
from orchestrator.databases.refusals import BACKUP
from orchestrator.errors import (
    BACKFILL_ABORTED,
    BACKFILL_STOPPED,
    HALF_APPLIED,
    HeadsChangedError,
    MigrationFailedError,
    TargetError,
)
from orchestrator.history.workers import WORKER_DIED
from orchestrator.plan.steps import Direction, Plan
from orchestrator.registry.model import Heads

_OWN = (HALF_APPLIED, WORKER_DIED, BACKUP, VERIFY, BACKFILL_STOPPED, BACKFILL_ABORTED)


class Ours:
    """What one attempt has done, so that what it has not done is told from it.

    `after(heads, steps, direction)` gives the heads when these steps have run.
    """

    def __init__(self, after: Callable[[Heads, tuple[str, ...], Direction], Heads]) -> None:
        self._after = after
        self._done: list[str] = []
        self._plan: Plan | None = None

    def begins(self, plan: Plan) -> None:
        """From what the plan found on, what is done is counted."""
        self._plan = plan
        self._done.clear()

    def noting(self, on_step: Callable[[str, float], None]) -> Callable[[str, float], None]:
        """`on_step`, with a note taken of each step."""

        def noted(revision: str, seconds: float) -> None:
            self._done.append(revision)
            on_step(revision, seconds)

        return noted

    def moved(self, found: Heads | None) -> HeadsChangedError | None:
        """The error, retriable, where the version table holds what this attempt cannot have written."""
        plan = self._plan
        if plan is None or not plan.steps or found is None or found in self._possible(plan):
            return None
        before, now = (", ".join(heads) or "nothing" for heads in (plan.heads, found))
        return HeadsChangedError(
            f"the version table went from {before} to {now} while this migration ran: somebody else was quicker",
            retriable=True,
        )

    def instead_of(self, exc: TargetError, found: Heads | None) -> HeadsChangedError | None:
        """What a failure is where somebody else was quicker: what they made was there already, or a row that was to be
        changed had gone. Should it be the revision's own fault after all, it fails again, with nobody else about."""
        if not isinstance(exc, MigrationFailedError) or exc.kind in _OWN:
            return None
        meanwhile = self.moved(found)
        if meanwhile is not None:
            meanwhile.message += f" ({exc.message.splitlines()[0]})"
        return meanwhile

    def _possible(self, plan: Plan) -> set[Heads]:
        if plan.direction == "stamp":
            return {plan.heads, plan.goal}
        steps = tuple(self._done)
        return {self._after(plan.heads, steps[:number], plan.direction) for number in range(len(steps) + 1)}
