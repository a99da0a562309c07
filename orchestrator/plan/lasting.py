"""What stays of a revision that fails half-way, where the database does not take DDL back. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

from orchestrator.errors import HALF_APPLIED, MigrationFailedError, TargetError
from orchestrator.plan.remains import REMEDY, Part
from orchestrator.registry.model import Heads
from orchestrator.sessions import SessionRules

_WORDS = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/|\()*(\w+)\s*(\w*)", re.DOTALL)
_READS = frozenset({"SELECT", "SHOW", "SET", "PRAGMA", "EXPLAIN", "DESCRIBE", "DESC", "USE", "VALUES"})
_ENDS = frozenset({"COMMIT", "END"})
# MySQL commits before and after each statement but these.
_WITHIN_MYSQL = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE", "WITH", "LOAD", "CALL", "DO", "HANDLER"})
# Python's driver begins a transaction before these, and nowhere else: DDL before the first of them stays.
_BEGINS_SQLITE = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE", "BEGIN", "SAVEPOINT"})
# What a statement is told that was executed before: by an attempt that was cut short, most likely.
_DONE_BEFORE = frozenset({"1050", "1051", "1060", "1061", "1091"})
# MySQL's clients say so where no answer came: whether the statement was executed is not known.
_UNANSWERED = frozenset({"2006", "2013", "2055"})
_NAMES = {"mysql": "The server", "sqlite": "SQLite's driver"}


class Lasting:
    """Follows the statements of one migration, and tells after a failure which of them the database keeps."""

    def __init__(self, dialect: str, heads: Heads) -> None:
        self._dialect = dialect
        self._kept, self._open = Part(heads=heads), Part()
        self._transaction = dialect == "mysql"

    @classmethod
    def of(cls, rules: SessionRules, heads: Heads) -> Lasting | None:
        """None where a failure takes back all that its transaction did."""
        return cls(rules.dialect, heads) if rules.dialect in ("mysql", "sqlite") else None

    def started(self) -> None:
        """Revisions begin: what came before is env.py's own, but for a transaction that it may have begun."""
        self._kept, self._open = Part(heads=self._kept.heads), Part()

    def begins(self, sql: str) -> None:
        """The statement is about to run: what it begins stays begun when it fails."""
        if self._dialect == "sqlite" and _words(sql)[0] in _BEGINS_SQLITE:
            self._transaction = True

    def executed(self, sql: str, outside: bool = False) -> None:
        """The statement has run; `outside` of any transaction."""
        first, second = _words(sql)
        if first == "ROLLBACK" and second != "TO":
            self._open = Part()
            self._transaction = self._dialect == "mysql"
        elif first in _ENDS or self._commits(first, second):
            self.committed()
        elif self._dialect == "sqlite" and first in _BEGINS_SQLITE:
            self._transaction = True
        if first not in _READS | _ENDS | {"ROLLBACK", "BEGIN", "START", "SAVEPOINT", "RELEASE"}:
            (self._open if self._stays_open(first, second) and not outside else self._kept).add(sql)

    def stamped(self, heads: Heads) -> None:
        """The version table was brought along with what came before."""
        self._open.take(Part(heads=heads))

    def committed(self) -> None:
        self._kept.take(self._open)
        self._open = Part()
        self._transaction = self._dialect == "mysql"

    def not_taken_back(self, failed: str | None) -> None:
        """A rollback has left something, of what came before or of what has `failed`."""
        if failed is not None and not self._open.count:
            self._open.add(failed)
        self.committed()

    def complete(self, exc: TargetError, redact: Callable[[str], str]) -> None:
        """Add to the failure what is left of the revision, and how to go on; secrets are taken out by `redact`."""
        if not isinstance(exc, MigrationFailedError):
            return
        if exc.statement and self._commits(*_words(exc.statement)):
            self.committed()
            if exc.code in _UNANSWERED:
                self._kept.add(f"perhaps {exc.statement}")
        if self._kept.count:
            exc.message = f"{exc.message}\n{self._told(redact)}"
            exc.kind, exc.remedy, exc.retriable = HALF_APPLIED, REMEDY, False
        elif exc.code in _DONE_BEFORE or "already exists" in exc.message:
            exc.remedy = f"{exc.remedy}; an earlier attempt that was cut short may have applied a part of it already"

    def _told(self, redact: Callable[[str], str]) -> str:
        return (
            f"{_NAMES[self._dialect]} does not take DDL back, so the revision is half applied: {self._kept.count} of "
            f"its statements stay ({self._kept.told(redact)}). The version table still says {self._kept.version}"
        )

    def _commits(self, first: str, second: str) -> bool:
        """Whether MySQL commits what came before, and the statement itself, whether it succeeds or not."""
        if self._dialect != "mysql" or second == "TEMPORARY":
            return False
        return first not in _READS | _WITHIN_MYSQL | {"SAVEPOINT", "RELEASE", "ROLLBACK"}

    def _stays_open(self, first: str, second: str) -> bool:
        return self._transaction and not self._commits(first, second)


def _words(sql: str) -> tuple[str, str]:
    """The first two words outside of comments, in capitals.

    >>> _words("/* app */ CREATE TABLE t (id int)")
    ('CREATE', 'TABLE')
    """
    found = _WORDS.match(sql)
    return (found[1].upper(), found[2].upper()) if found else ("", "")
