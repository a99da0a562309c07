"""Whether a revision that was cut short may be run again: of one attempt at one target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.backfill.model import Report
from orchestrator.databases.base import Place
from orchestrator.databases.refusals import GUARD_LOST
from orchestrator.errors import HALF_APPLIED, NOT_AT_GOAL, MigrationFailedError, TargetError, TargetUnreachableError
from orchestrator.history.workers import WORKER_DIED
from orchestrator.plan import doubt
from orchestrator.plan.steps import Plan
from orchestrator.registry.model import MYSQL_DIALECTS, Heads

if TYPE_CHECKING:
    from orchestrator.execute.migrate import Attempt, Work


class Doubts:
    """What attempts before may have left, and what this one may; the ledger has both."""

    def __init__(self, work: Work, place: Place, attempt: Attempt) -> None:
        self._work, self._attempt = work, attempt
        self._direction, self._noted, self._backfill = "", "", ""
        self._keeps_ddl = place.url.get_backend_name() in MYSQL_DIALECTS
        self._takes_notes = place.url.get_backend_name() == "postgresql"

    async def judge(self, plan: Plan) -> None:
        """What the version table, read under the lock, tells of attempts before. Raises MigrationFailedError, of kind
        `HALF_APPLIED`: a person has to look, and may retry then, or stamp the target: that may always be."""
        found = self._work.doubt
        if found is not None:
            if plan.direction == "stamp" and not self._work.reverting:
                if plan.steps:
                    return  # nothing is in doubt any more when it is done
            elif not self._is_cleared(found, plan):
                revision = doubt.revision_of(found)
                raise _begun(revision, plan.heads) if revision else may_be_half_applied(_CUT_SHORT, plan.heads)
            if found == self._first_backfill(plan):
                self._backfill = found  # it stays written down: it goes on to be so
            else:
                await self._work.on_doubt(None)
        self._attempt.judged = True

    def _is_cleared(self, found: str, plan: Plan) -> bool:
        if doubt.revision_of(found) is not None:
            return doubt.is_cleared(found, plan.heads, self._work.history)
        if doubt.is_of_backfill(found) and doubt.is_still_backfill(found, plan.heads, self._work.history):
            return True
        if self._keeps_ddl or found.removeprefix(doubt.PASSED_ON) == doubt.HALF:
            return not self._work.reverting and not plan.steps
        return True  # where notes are taken, nothing was noted

    async def begins(self, plan: Plan) -> None:
        """What the plan runs is about to begin."""
        self._direction = "" if plan.direction == "stamp" else plan.direction
        if (first := self._first_backfill(plan)) is not None:
            await self._note_backfill(first)

    async def batch(self, report: Report) -> None:
        """A backfill is about to change rows."""
        if self._keeps_ddl and not report.progress.finished:
            await self._note_backfill(doubt.about_backfill(report.backfill.direction, report.backfill.revision))

    def _first_backfill(self, plan: Plan) -> str | None:
        """The note of the plan's next step, where notes of backfills are taken and it is one."""
        if not self._keeps_ddl or plan.direction == "stamp" or not plan.steps:
            return None
        first = plan.steps[0]
        return doubt.about_backfill(plan.direction, first) if self._is_backfill(first, plan) else None

    def _is_backfill(self, revision: str, plan: Plan) -> bool:
        return revision in self._work.history.backfills(plan.direction)

    async def _note_backfill(self, note: str) -> None:
        """Nobody must take what a killed backfill leaves for half applied DDL."""
        if self._backfill != note:
            await self._work.on_doubt(note)
            self._backfill = note

    async def note(self, plan: Plan, revision: str) -> None:
        """Write down that the revision is about to do something that stays."""
        self._attempt.judged, self._noted = False, doubt.about(plan.direction, revision)
        await self._work.on_doubt(self._noted)

    def ended(self, exc: TargetError | None) -> None:
        """The attempt has come to an end; what could say what it has left behind, has said so. What is half applied
        stays in doubt; an index that was not built whole does not, where notes are taken: it is looked for before it is
        built again."""
        if exc is None:
            self._attempt.judged = True
        elif exc.kind == HALF_APPLIED:
            if self._direction and (self._noted or not self._takes_notes):
                self._remains(self._noted or self._about(exc.revision))
        elif not _is_silent(exc):
            self._attempt.judged = self._attempt.judged or bool(self._noted)
        elif self._direction and self._keeps_ddl:
            self._remains(self._backfill or doubt.UNKNOWN)

    def _about(self, revision: str | None) -> str:
        return doubt.HALF if revision is None else f"{self._direction} {revision}"

    def _remains(self, found: str) -> None:
        self._attempt.judged, self._attempt.doubt = False, found

    def instead_of(self, exc: TargetError, found: Heads | None) -> MigrationFailedError | None:
        """What the end of a worker means where nothing is taken back, and that of an env.py that commits half; `found`
        is None where the heads could not be read."""
        heads = found or ()
        if exc.kind == WORKER_DIED and self._keeps_ddl:
            return None if self._was_backfill(found) else may_be_half_applied(exc.message, heads)
        if exc.kind == NOT_AT_GOAL and self._noted and not doubt.is_cleared(self._noted, heads, self._work.history):
            revision = doubt.revision_of(self._noted)
            self._remains(self._noted)
            message = f"{exc.message}. Revision {revision} had begun {_STAYS}, so it may be half applied"
            return MigrationFailedError(message, kind=HALF_APPLIED, revision=revision, remedy=_REMEDY)
        return None

    def _was_backfill(self, heads: Heads | None) -> bool:
        """Whether nothing but a backfill can have been cut short."""
        if not self._backfill or heads is None:
            return False
        return doubt.is_still_backfill(self._backfill, heads, self._work.history)


_STAYS = "what stays whatever becomes of its transaction"
_CUT_SHORT = "the process that migrated it ended in the middle"
_REMEDY = "look at what is there of the revision: take it back by hand, or finish it and stamp the target; then retry"


def may_be_half_applied(why: str, heads: Heads) -> MigrationFailedError:
    """Of a database that takes no DDL back."""
    return MigrationFailedError(
        f"{why}: the revision that ran may be half applied, since the server does not take DDL back. The version table "
        f"says {', '.join(heads) or 'nothing'}",
        kind=HALF_APPLIED,
        remedy="look at what is there of the next revision: take it back by hand, or finish it and stamp the target; "
        "then retry",
    )


def _begun(revision: str, heads: Heads) -> MigrationFailedError:
    return MigrationFailedError(
        f"an attempt before ended in the middle of revision {revision}, which may be half applied: it had begun "
        f"{_STAYS}. The version table says {', '.join(heads) or 'nothing'}. Nothing was run",
        kind=HALF_APPLIED,
        revision=revision,
        remedy=_REMEDY,
    )


def _is_silent(exc: TargetError) -> bool:
    """Whether nobody has told how the attempt ended on the server: who ran it died, or the way there was lost."""
    if exc.kind == GUARD_LOST:
        return not isinstance(exc.__cause__, TargetError) or _is_silent(exc.__cause__)
    return exc.kind == WORKER_DIED or isinstance(exc, TargetUnreachableError)
