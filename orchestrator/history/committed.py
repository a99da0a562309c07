"""What revisions have committed before they came to their end, on a server that takes back everything else. Pure.

PostgreSQL takes a failed transaction back as a whole. But a revision may send statements outside of transactions, or
commit in the middle: an `autocommit_block` does both, since Alembic commits what came before it. Whether what is
committed has changed anything, the server is asked: a SELECT may call a function, and what is sent past SQLAlchemy is
not heard of. It cannot tell where the transaction had changed something before the revision began.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.errors import HALF_APPLIED, MigrationFailedError, TargetError
from orchestrator.plan import indexes, outside, remains
from orchestrator.plan.remains import REMEDY, Part, shortened
from orchestrator.registry.model import Heads

# SQLSTATEs of a connection that was lost: what was on its way may have been done.
_CONNECTION_LOST = "08"
UNSEEN = "something that a function did, or that was sent past SQLAlchemy"


@dataclass(slots=True)
class _Session:
    """One of env.py's connections: what its transaction holds, and what is being committed.

    `alone`: its last statement was in no transaction; `bare`: nor will the next one be, whatever its driver believes,
    since a COMMIT was sent as a statement. `before`: its transaction had changed something when the revision began;
    `calls`: the revision has called a function in it since; `closed`: the version table was brought along since.
    """

    open: Part = field(default_factory=Part)
    committing: Part | None = None
    alone: bool = False
    bare: bool = False
    before: bool = False
    calls: str | None = None
    closed: bool = False

    def ends(self) -> None:
        """Its transaction comes to an end."""
        self.open, self.before, self.calls, self.closed = Part(), False, None, False

    def holds(self, written: Callable[[], bool]) -> bool:
        """Whether its transaction has changed something that belongs to no version; what is not known by its statement
        is taken to `open`."""
        if self.open.count or self.closed:
            return self.open.count > 0
        found = self.calls is not None if self.before else written()
        if found:
            self.open.add(self.calls or UNSEEN)
        return found


class Committed:
    """Follows the statements of one migration from its first revision on; sessions are told apart by a number.

    `note` is called before the first thing of each revision that would stay if the process died: it returns when that
    is written down.
    """

    def __init__(self, heads: Heads, note: Callable[[str], None]) -> None:
        self._kept, self._note = Part(heads=heads), note
        self._sessions: dict[int, _Session] = {}
        self._revision: str | None = None
        self._noted = False
        self._on_its_way: str | None = None

    def revision(self, name: str | None, session: int = 0, written: bool = False) -> None:
        """From now on it is this revision's, whose session is in a transaction that has changed something if
        `written`."""
        self._revision, self._noted = name, False
        one = self._session(session)
        one.before, one.calls, one.closed = written, None, False

    def begins(self, session: int, sql: str, alone: bool, written: Callable[[], bool]) -> None:
        """The statement is about to be sent, `alone` if in no transaction; `written` asks whether the session's
        transaction has changed anything."""
        self._settle()
        if self._revision is None:
            return
        one = self._session(session)
        if alone or one.bare:
            if outside.may_leave(sql):
                self._write_down()
                self._on_its_way = sql
        elif outside.commits(sql) and (outside.changes(sql) or outside.may_leave(sql) or one.holds(written)):
            self._write_down()

    def executed(self, session: int, sql: str, alone: bool) -> None:
        """The statement has been executed; after it, the session has no transaction open if `alone`."""
        self._on_its_way = None
        if self._revision is None:
            return
        one = self._session(session)
        if outside.changes(sql) or (alone and outside.may_leave(sql)):
            one.open.add(sql)
        elif outside.may_leave(sql):
            one.calls = one.calls or sql
        one.alone, one.bare = alone, alone and (one.bare or outside.commits(sql))
        if alone:
            self._kept.take(one.open)
            one.ends()

    def stamped(self, session: int, heads: Heads) -> None:
        """The version table was brought along with what came before."""
        one = self._session(session)
        (self._kept if one.alone else one.open).take(Part(heads=heads))
        one.calls, one.closed = None, not one.alone

    def commits(self, session: int, written: Callable[[], bool]) -> None:
        """The session's transaction is about to be committed; `written` asks whether it has changed anything."""
        self._settle()
        one = self._session(session)
        if self._revision is not None and one.holds(written):
            self._write_down()
        one.committing, one.bare = one.open, False
        one.ends()

    def rolled_back(self, session: int) -> None:
        self._settle()
        self._sessions.pop(session, None)

    def complete(self, exc: TargetError, redact: Callable[[str], str]) -> None:
        """Add to the failure what is left of the revisions, and how to go on; secrets are taken out by `redact`. An
        index that could not be built concurrently stays as well, and is invalid."""
        lost = (exc.code or "").startswith(_CONNECTION_LOST)
        if exc.code is None or exc.statement is not None or lost:
            self._settle()  # what the server would not commit, it has taken back
        invalid = isinstance(exc, MigrationFailedError) and indexes.may_leave_one(exc.statement, exc.code)
        if told := self._told(redact, lost):
            exc.message = f"{exc.message}\n{told}"
            exc.kind, exc.remedy, exc.retriable = HALF_APPLIED, REMEDY, False
        if invalid:
            exc.kind, exc.retriable = HALF_APPLIED, False
            exc.remedy = f"{indexes.LOOK}; then {exc.remedy if told else 'correct the cause and retry'}"

    def _told(self, redact: Callable[[str], str], lost: bool) -> str | None:
        if self._kept.count:
            return remains.told(self._kept, redact)
        if lost and self._on_its_way is not None:
            return (
                "The revision may be half applied: nobody knows whether the server has done what it was sent outside "
                f"of transactions ({shortened(redact(self._on_its_way))})"
            )
        return None

    def _settle(self) -> None:
        """What was being committed, is."""
        for one in self._sessions.values():
            if one.committing is not None:
                self._kept.take(one.committing)
                one.committing = None

    def _write_down(self) -> None:
        if not self._noted and self._revision is not None:
            self._note(self._revision)
            self._noted = True

    def _session(self, number: int) -> _Session:
        return self._sessions.setdefault(number, _Session())
