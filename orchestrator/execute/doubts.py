"""Whether a revision that was cut short may be run again: of one attempt at one target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.databases.base import Place
from orchestrator.errors import HALF_APPLIED, NOT_AT_GOAL, MigrationFailedError, TargetError, TargetUnreachableError
from orchestrator.execute.online import GUARD_LOST
from orchestrator.history.workers import WORKER_DIED
from orchestrator.plan import doubt
from orchestrator.plan.steps import Heads, Plan
from orchestrator.registry.model import MYSQL_DIALECTS

if TYPE_CHECKING:
    from orchestrator.execute.migrate import Attempt, Work


class Doubts:
    """What attempts before may have left, and what this one may; the ledger has both."""

    def __init__(self, work: Work, place: Place, attempt: Attempt) -> None:
        self._work, self._attempt = work, attempt
        self._began, self._noted = False, ""
        self._keeps_ddl = place.url.get_backend_name() in MYSQL_DIALECTS

    async def judge(self, plan: Plan) -> None:
        """What the version table, read under the lock, tells of attempts before. Raises MigrationFailedError, of kind
        `HALF_APPLIED`: a person has to look, and may retry then."""
        found = self._work.doubt
        if found is None:
            self._attempt.judged = True
            return
        if self._keeps_ddl:
            if self._work.reverting or plan.steps:
                self._attempt.judged = True
                raise may_be_half_applied(_CUT_SHORT, plan.heads)
        elif doubt.revision_of(found) and not doubt.is_cleared(found, plan.heads, self._work.history):
            self._attempt.judged = True
            raise _begun(doubt.revision_of(found) or "", plan.heads)
        await self._work.on_doubt(None)
        self._attempt.judged = True

    def begins(self, plan: Plan) -> None:
        """What the plan runs is about to begin."""
        self._began = plan.direction != "stamp"

    async def note(self, plan: Plan, revision: str) -> None:
        """Write down that the revision is about to do something that stays."""
        self._attempt.judged, self._noted = False, doubt.about(plan.direction, revision)
        await self._work.on_doubt(self._noted)

    def ended(self, exc: TargetError | None) -> None:
        """The attempt has come to an end; what could say what it has left behind, has said so."""
        if exc is None or not _is_silent(exc):
            self._attempt.judged = self._attempt.judged or bool(self._noted)
        elif self._began and self._keeps_ddl:
            self._attempt.judged, self._attempt.doubt = False, doubt.UNKNOWN

    def instead_of(self, exc: TargetError, heads: Heads) -> MigrationFailedError | None:
        """What the end of a worker means where nothing is taken back, and that of an env.py that commits half."""
        if exc.kind == WORKER_DIED and self._keeps_ddl:
            self._attempt.judged = True
            return may_be_half_applied(exc.message, heads)
        if exc.kind == NOT_AT_GOAL and self._noted and not doubt.is_cleared(self._noted, heads, self._work.history):
            revision = doubt.revision_of(self._noted)
            message = f"{exc.message}. Revision {revision} had begun {_STAYS}, so it may be half applied"
            return MigrationFailedError(message, kind=HALF_APPLIED, revision=revision, remedy=_REMEDY)
        return None


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
        f"an attempt before was cut short in revision {revision}, which may be half applied: it had begun {_STAYS}. "
        f"The version table says {', '.join(heads) or 'nothing'}",
        kind=HALF_APPLIED,
        revision=revision,
        remedy=_REMEDY,
    )


def _is_silent(exc: TargetError) -> bool:
    """Whether nobody has told how the attempt ended on the server: who ran it died, or the way there was lost."""
    if exc.kind == GUARD_LOST:
        return not isinstance(exc.__cause__, TargetError) or _is_silent(exc.__cause__)
    return exc.kind == WORKER_DIED or isinstance(exc, TargetUnreachableError)
