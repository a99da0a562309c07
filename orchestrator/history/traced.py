"""The statements of one migration and how long each took, for whoever makes traces: values of rows and literals stay
in this process."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime

from orchestrator.events import Statement, now
from orchestrator.plan import sanitise

# Statements of one run of env.py that are named; those that fail beyond it are as well, up to twice as many.
NAMED = 100


@dataclass(frozen=True, slots=True)
class Traced:
    """What was sent, in order; `unnamed`: so many more."""

    statements: tuple[Statement, ...]
    unnamed: int = 0


@dataclass(frozen=True, slots=True)
class _Sent:
    sql: str
    revision: str | None
    at: datetime
    began: float


class Tracer:
    """Told of each statement as it begins and as it has been executed; connections are told apart by a number."""

    def __init__(self, dialect: str) -> None:
        self._dialect = dialect
        self._pending: dict[int, _Sent] = {}
        self._done: list[Statement] = []
        self._unnamed = 0

    def begins(self, connection: int, sql: str, revision: str | None) -> None:
        self._failed(connection, None)  # what nobody said was executed
        self._pending[connection] = _Sent(sql, revision, now(), time.monotonic())

    def executed(self, connection: int) -> None:
        if (sent := self._pending.pop(connection, None)) is None:
            return
        if len(self._done) < NAMED:
            self._done.append(self._statement(sent))
        else:
            self._unnamed += 1

    def ended(self, code: str | None) -> Traced:
        """Env.py has ended; `code`: the server's word for why it failed, if it has."""
        for connection in list(self._pending):
            self._failed(connection, code)
        return Traced(tuple(self._done), self._unnamed)

    def _failed(self, connection: int, code: str | None) -> None:
        if (sent := self._pending.pop(connection, None)) is None:
            return
        if len(self._done) < 2 * NAMED:
            self._done.append(self._statement(sent, failed=True, code=code))
        else:
            self._unnamed += 1

    def _statement(self, sent: _Sent, *, failed: bool = False, code: str | None = None) -> Statement:
        seconds = time.monotonic() - sent.began
        text = sanitise.shown(sent.sql, self._dialect)  # takes its time for a long statement
        return Statement(
            operation=sanitise.operation(text),
            text=text,
            began_at=sent.at,
            seconds=seconds,
            revision=sent.revision,
            failed=failed,
            code=code,
        )
