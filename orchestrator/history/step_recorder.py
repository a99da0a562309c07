"""Records what revisions send while env.py runs them, where all that they ask is the catalog.

Statements are taken where SQLAlchemy is given them, and written as text as compiling does; what the catalog is asked is
left out. Whatever else a revision asks or does, so that another target might be sent something else, is noted as the
reason why it cannot be recorded. Nothing of what is sent is changed but the order of a new table's indexes, and no
answer is.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from types import FrameType
from typing import Any, NamedTuple

from alembic.runtime.migration import MigrationContext
from sqlalchemy import event, text
from sqlalchemy.engine import Connection
from sqlalchemy.sql.dml import Insert, UpdateBase

from orchestrator.history import dialects, index_order, noticing, session, watching
from orchestrator.history.bind import returns_rows
from orchestrator.history.literals import Literals, Pieces, UnfaithfulError
from orchestrator.history.spoken import Speaker, Spoken
from orchestrator.plan import catalog_reads, recorded
from orchestrator.plan.compiled import Mark
from orchestrator.plan.objections import objection
from orchestrator.plan.recorded import RecordedStep

# Characters of all that is recorded of one run.
MOST = 8_000_000
# So many times the schema is read in one run: it takes as long as there is much in it.
MOST_LOOKS = 16
_REFLECTING = ("sqlalchemy.engine.reflection", "sqlalchemy.dialects.postgresql")


class _Kind(Enum):
    """What the statement is that goes to the server next."""

    WRITE = "write"
    QUESTION = "question"
    REFLECTION = "reflection"
    OURS = "ours"


class _Caller(NamedTuple):
    """Who has given SQLAlchemy a statement: Alembic, or a revision by itself; what of SQLAlchemy it came through."""

    is_alembic: bool
    reflects: bool
    by_orm: bool
    schema: str | None


class StepRecorder:
    """Follows the revisions of one run, on a connection of PostgreSQL. `schema` is the tenant's, where it has one, and
    `question` asks for what is in it, in lines.

    `steps`: what was recorded, by revision; of one that has failed, nothing.
    """

    def __init__(self, schema: str | None, question: str) -> None:
        self._schema, self._question_of_lines = schema, question
        self._lines: tuple[str, ...] | None = None
        self._looks_left = MOST_LOOKS
        self.steps: dict[str, RecordedStep] = {}
        self.current: str | None = None
        self._items: list[str | Mark] = []
        self._reason: str | None = None
        self._next: _Kind | None = None
        self._characters = 0
        self._at_will = self._by_data = self._within = self._writes = self._has_asked = self._looks_elsewhere = False
        self._connection: Connection | None = None
        self._speaker: Speaker | None = None
        self._wire: list[str] = []
        self._version: Any = None

    def note(self, reason: str) -> None:
        """Keep the first reason why the current revision cannot be recorded."""
        if self.current is not None:
            self._reason = self._reason or reason

    def attach(self, context: MigrationContext) -> None:
        """Listen to the connection that env.py has given Alembic."""
        connection = context.connection
        if connection is None or self._connection is not None:
            return
        self._connection, self._version = connection, context._version
        self._speaker = Speaker(Literals(dialects.for_literals(connection.dialect)), connection.dialect)
        # The engine's own dialect and connections serve other runs, too.
        dialect: Any = copy.copy(connection.dialect)
        dialect.__class__ = watching.watched(type(dialect), self, watching.DIALECT)
        dialect.inspector = noticing.inspector(dialect.inspector, self, self._schema)
        connection.dialect = context.dialect = context.impl.dialect = dialect
        event.listen(connection, "before_execute", self._given)
        index_order.settle(context.impl)  # any order is Alembic's; this one is the same on the next target
        shown: Any = connection
        shown.__class__ = noticing.connection(type(connection), self)
        replaced: Any = context
        replaced.__class__ = noticing.context(watching.watched(type(context), self, watching.CONTEXT), self)
        implementation: Any = context.impl
        implementation.__class__ = watching.watched(type(implementation), self, watching.IMPLEMENTATION)
        self._read(connection)

    def looks(self, context: MigrationContext) -> None:
        """Between two revisions: read the schema where the one that has run may have made it another than elsewhere."""
        self._lines = None
        may_differ = bool(self.steps) and (self._reason is not None or self._at_will)
        if (
            may_differ
            and context._transaction_per_migration
            and self._looks_left > 0
            and context.connection is not None
        ):
            self._looks_left -= 1
            self._lines = self._read(context.connection)

    def _read(self, connection: Connection) -> tuple[str, ...] | None:
        lines = session.lines(connection, self._question_of_lines)
        self._by_data = lines is None or recorded.goes_by_data(lines, whole=self._schema is None)
        return lines

    def following(self, revision: str, function: Callable[..., None], reason: str | None) -> Callable[..., None]:
        """The revision's function, recorded; `reason`: why it is known not to be of use to others."""

        def followed(*args: Any, **options: Any) -> None:
            self.current, self._items, self._reason = revision, [], reason
            self._next, self._at_will, self._has_asked, self._wire = None, False, False, []
            try:
                function(*args, **options)
                self.steps[revision] = self._recorded()
            finally:
                self.current = None

        return followed

    def _recorded(self) -> RecordedStep:
        if not self._items and not self._has_asked:  # as in compiling; what it does may make schemas differ
            self.note("it sends no SQL, so what it does is done elsewhere")
        items = tuple(self._items) if self._reason is None else ()
        return RecordedStep(items, self._reason, self._lines, self._at_will)

    # What SQLAlchemy and its listeners tell

    def _given(
        self, connection: Any, construct: Any, several: Sequence[Any], values: Any, options: Mapping[str, Any]
    ) -> None:
        """SQLAlchemy was given something to execute."""
        if self.current is None:
            return
        if getattr(construct, "table", None) is self._version:
            self._next = _Kind.OURS
            return
        caller = _caller(sys._getframe(1))
        if caller.by_orm:
            self.note("it works through a Session of SQLAlchemy's ORM")
        if options.get("schema_translate_map"):
            self.note("it translates schemas")
        if not returns_rows(construct) or (caller.is_alembic and not caller.reflects):
            self._next = _Kind.WRITE
            self._take(construct, several or [values], answers=not caller.is_alembic)
        elif caller.reflects:
            self._next = _Kind.REFLECTION
            self._reflects(caller)
        else:
            self._next = _Kind.QUESTION
            self._asks(construct, several, values)

    def sends(self, connection: int, sql: str) -> None:
        """A statement goes to the server, on any of the run's connections."""
        if self.current is None:
            return
        kind, self._next = self._next, None
        self._writes = kind is _Kind.WRITE
        if connection != id(self._connection):
            self.note("it works on a connection of its own")
        elif kind is None:
            self.note("it sends SQL past Alembic")
        elif kind is _Kind.REFLECTION and (stranger := catalog_reads.strangers(sql)) is not None:
            self.note(f"it reads {stranger}")

    def hears(self, digest: str) -> None:
        """The cursor was handed a statement, whatever others have made of it."""
        if self._writes and (not self._wire or self._wire.pop(0) != digest):
            self.note("what is sent is not what SQLAlchemy was given")

    def ends(self) -> None:
        """A transaction is committed, or rolled back."""
        if not self._within:
            self.note("it ends its transaction by itself")

    def given_text(self, sql: str, parameters: Any) -> None:
        """A revision gives the driver a statement as it is."""
        self._next = _Kind.QUESTION
        if self.current is None:
            return
        if parameters or "%" in sql:  # as in compiling
            self.note("it gives the driver parameters or a percent sign")
        elif returns_rows(text(sql.replace(":", r"\:"))):
            self._question(sql)
        else:
            self._next = _Kind.WRITE
            self._wire = [*self._wire_of(sql)]
            self._add(sql.strip())

    @contextmanager
    def in_autocommit(self) -> Iterator[None]:
        """Alembic's autocommit block ends its transaction, and begins another at its end."""
        before, self._within = self._within, True
        try:
            yield
        finally:
            self._within = before

    def mark(self, mark: Mark) -> None:
        if self.current is not None:
            self._items.append(mark)

    def _take(self, construct: Any, several: Sequence[Any], *, answers: bool) -> None:
        """`answers`: whoever has it executed is given its rows, if there are any."""
        if isinstance(construct, Insert) and len({frozenset(row) for row in several if row}) > 1:
            self.note("it inserts rows with different columns: executed together, all have those of the first")
        if self._reason is None and (spoken := self._spoken(construct, several)) is not None:
            self._wire = list(spoken.wire)
            for sql in spoken.texts:
                if answers and not isinstance(construct, UpdateBase) and returns_rows(text(sql)):
                    self.note("it executes something of its own that returns rows")
                self._add(sql)

    def _add(self, sql: str | None) -> None:
        if sql is None or self._reason is not None:
            return
        if (problem := objection(sql, "postgresql")) is not None:
            self.note(problem)
        self._by_data = self._by_data or recorded.brings_such(sql)
        self._at_will = self._at_will or self._by_data or recorded.acts_at_will(sql)
        self._looks_elsewhere = self._looks_elsewhere or recorded.looks_elsewhere(sql)
        self._characters += len(sql)
        if self._characters > MOST:
            self._items.clear()
            self.note(f"more than {MOST:,} characters were sent")
        self._items.append(sql)

    def _wire_of(self, sql: str) -> tuple[str, ...]:
        spoken = self._spoken(text(sql.replace(":", r"\:")), [None])
        return () if spoken is None else spoken.wire

    def _spoken(self, construct: Any, several: Sequence[Any]) -> Spoken | None:
        assert self._speaker is not None
        try:
            pieces = [self._pieces(self._speaker, construct, values) for values in several]
            return self._speaker.spoken(pieces, construct, several if len(several) > 1 else several[0])
        except UnfaithfulError as exc:
            self.note(f"it cannot be written as text: {exc}")
        except Exception as exc:  # whatever it is, the revision itself goes on
            self.note(f"it cannot be written as text: {type(exc).__name__}")
        return None

    def _pieces(self, speaker: Speaker, construct: Any, values: Any) -> Pieces:
        if isinstance(construct, Insert) and values:
            construct, values = construct.values(**values), {}
        return speaker.pieces(construct, values or {})

    def _text(self, construct: Any, values: Any) -> str | None:
        spoken = self._spoken(construct, [values])
        return None if spoken is None else spoken.texts[0]

    def _asks(self, construct: Any, several: Sequence[Any], values: Any) -> None:
        if several:
            self.note("it asks with many sets of parameters")
        elif (question := self._text(construct, values)) is not None:
            self._question(question)

    def _question(self, sql: str) -> None:
        if (doubt := catalog_reads.doubt(sql)) is not None:
            self.note(doubt)
        elif self._schema is not None:
            self.note("it asks the catalog in its own words, where other tenants' schemas are in the database")
        self._look_around()

    def _reflects(self, caller: _Caller) -> None:
        if self._schema is not None and caller.schema is not None:
            self.note("it asks for a schema by name")
        self._look_around()

    def _look_around(self) -> None:
        self._has_asked = True
        if self._looks_elsewhere:
            self.note("it asks the catalog with a search path or a role of its own")
        if self._at_will:
            self.note("it asks the catalog after a statement that may do otherwise where the data is another")


def _caller(frame: FrameType | None) -> _Caller:
    reflects = by_orm = False
    schema = None
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if not module.startswith("sqlalchemy.") and module != noticing.__name__:
            break
        if module.startswith(_REFLECTING):
            reflects = True
            schema = frame.f_locals.get("schema", schema)
        by_orm = by_orm or module.startswith("sqlalchemy.orm")
        frame = frame.f_back
    module = frame.f_globals.get("__name__", "") if frame is not None else ""
    return _Caller(module.startswith("alembic."), reflects, by_orm, schema)
