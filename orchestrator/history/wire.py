"""Takes down what env.py's connection hands its driver while revisions run, and in which transactions.

It listens where SQLAlchemy calls the cursor, after everybody who may change a statement. Digests are kept, never a
statement or a value.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from typing import Any

from alembic.runtime.migration import MigrationContext
from sqlalchemy.engine import Connection, Dialect

from orchestrator.history import connections, handed, index_order
from orchestrator.history.rehearsal import Sent
from orchestrator.plan.sent import MOVE, UNCOUNTED, Line, Lines

# SQLAlchemy's events by which somebody takes the place of its call of the cursor.
INSTEAD = ("do_execute", "do_executemany", "do_execute_no_params")
_ELSEWHERE = "on another connection"
# So many statements of one run are kept to be compared: each takes some 200 bytes, in the daemon too.
MOST = 100_000
# Databases on which a transaction holds DDL too, so that its boundaries are those of what is replayed.
_TRANSACTIONAL = frozenset({"postgresql"})
_WRITES = ("INSERT", "UPDATE", "DELETE")


class Wire:
    """One run of env.py, from its first revision to its last.

    `remark` is told of what keeps others from knowing what is sent; `version_table` is the target's. `hears`, where it
    is set, is told of each digest.
    """

    def __init__(self, version_table: str, remark: Callable[[str], None]) -> None:
        self.hears: Callable[[str], None] | None = None
        self._version_table, self._remark = _bare(version_table), remark
        self._lines: list[Line] = []
        self._connection: Connection | None = None
        self._revision: str | None = None
        self._within = False
        self._transaction = 0

    @property
    def lines(self) -> Lines:
        return tuple(self._lines)

    def attach(self, context: MigrationContext) -> None:
        """Listen to the connection that env.py has given Alembic. The engine's own dialect serves other runs, too."""
        connection = context.connection
        if connection is None or self._connection is not None:
            return
        self._connection = connection
        if not type(connection.dialect).__module__.startswith("sqlalchemy."):
            self._remark(f"env.py's dialect is not SQLAlchemy's own: {type(connection.dialect).__qualname__}")
        heard: Any = copy.copy(connection.dialect)
        heard.__class__ = _listening(type(heard), self._heard)
        connection.dialect = context.dialect = context.impl.dialect = heard
        index_order.settle(context.impl)

    def following(self, revision: str, function: Callable[..., None], *, in_batches: bool) -> Callable[..., None]:
        """The revision's function, listened to; but for batches, which go by the data."""

        def followed(*args: Any, **options: Any) -> None:
            self._revision, self._within = revision, not in_batches
            try:
                function(*args, **options)
            finally:
                self._within = False

        return followed

    def finished(self) -> None:
        """The last revision has ended, and the version table says so."""
        self._revision = None

    def begins(self, connection: int) -> None:
        """A statement is about to be sent on any of the run's connections."""
        if self._revision is not None and connection != id(self._connection):
            self._note(Line(self._revision, _ELSEWHERE, None))

    def ends(self, connection: int) -> None:
        """A connection's transaction is committed, or rolled back."""
        if connection == id(self._connection):
            self._transaction += 1

    def _heard(self, sent: Sent, context: Any) -> None:
        connection, revision = self._connection, self._revision
        if context is None or connection is None or revision is None or context.root_connection is not connection:
            return
        if any(len(getattr(connection.dialect.dispatch, name)) for name in INSTEAD):
            self._remark("somebody takes the place of SQLAlchemy's call of the cursor")
        if not self._within and not self._is_move(sent.statement):
            return  # ours: callbacks and listeners of others are remarked elsewhere
        transaction = None if connections.commits_each(connection) else self._transaction
        if connection.dialect.name not in _TRANSACTIONAL:
            transaction = UNCOUNTED
        what = MOVE
        if self._within:
            what = handed.digest(sent, connection.dialect)
            if self.hears is not None:
                self.hears(what)
        self._note(Line(revision, what, transaction))

    def _note(self, line: Line) -> None:
        if len(self._lines) < MOST:
            self._lines.append(line)
        else:
            self._remark(f"more than {MOST:,} statements were sent")

    def _is_move(self, sql: str) -> bool:
        return sql.lstrip().upper().startswith(_WRITES) and self._version_table in _bare(sql)


def _bare(text: str) -> str:
    """Without what quotes a name, and what drivers double in it."""
    return re.sub(r"\W", "", text)


def _listening(kind: type[Dialect], heard: Callable[[Sent, Any], None]) -> type[Dialect]:
    """The dialect's class, telling what it hands to cursors."""

    class Listening(kind):  # type: ignore[misc, valid-type]
        supports_statement_cache = getattr(kind, "supports_statement_cache", True)

        def do_execute(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> Any:
            heard(Sent(statement, (parameters,)), context)
            return super().do_execute(cursor, statement, parameters, context)

        def do_execute_no_params(self, cursor: Any, statement: str, context: Any = None) -> Any:
            heard(Sent(statement, (None,)), context)
            return super().do_execute_no_params(cursor, statement, context)

        def do_executemany(self, cursor: Any, statement: str, parameters: Sequence[Any], context: Any = None) -> Any:
            heard(Sent(statement, tuple(parameters), many=True), context)
            return super().do_executemany(cursor, statement, parameters, context)

    Listening.__name__ = kind.__name__
    return Listening
