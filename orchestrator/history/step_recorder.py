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
from sqlalchemy.dialects.postgresql.base import PGInspector
from sqlalchemy.engine import Connection, Dialect, Engine
from sqlalchemy.sql.dml import Insert, UpdateBase

from orchestrator.history import index_order, session, watching
from orchestrator.history.bind import returns_rows
from orchestrator.history.literals import Literals, UnfaithfulError
from orchestrator.history.spoken import Speaker, Spoken
from orchestrator.plan import catalog_reads, recorded
from orchestrator.plan.compiled import Mark
from orchestrator.plan.recorded import RecordedStep
from orchestrator.plan.statements import objection

# Characters of all that is recorded of one run.
MOST = 8_000_000
# So many times the schema is read in one run: it takes as long as there is much in it.
MOST_LOOKS = 16
# What a revision may use of its connection without anything being made of it.
_USABLE = frozenset({"execute", "exec_driver_sql", "scalar", "scalars", "dialect", "closed", "in_transaction"})
_USABLE_OF_ENGINES = frozenset({"name", "driver", "dialect"})
_FIRST = frozenset({"first", "scalar", "fetchone"})
_CONNECTING = frozenset({"connect", "begin", "raw_connection"})
_OURS = __name__.partition(".")[0]
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
        self._speaker = Speaker(Literals(_for_literals(connection.dialect)), connection.dialect)
        # The engine's own dialect and connections serve other runs, too.
        dialect: Any = copy.copy(connection.dialect)
        dialect.__class__ = watching.watched(type(dialect), self, watching.DIALECT)
        dialect.inspector = _inspector(dialect.inspector, self, self._schema)
        connection.dialect = context.dialect = context.impl.dialect = dialect
        event.listen(connection, "before_execute", self._given)
        index_order.settle(context.impl)  # any order is Alembic's; this one is the same on the next target
        shown: Any = connection
        shown.__class__ = _connection(type(connection), self)
        replaced: Any = context
        replaced.__class__ = _context(watching.watched(type(context), self, watching.CONTEXT), self)
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
        if (problem := objection(sql)) is not None:
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
            return self._speaker.together(pieces, construct, several if len(several) > 1 else several[0])
        except UnfaithfulError as exc:
            self.note(f"it cannot be written as text: {exc}")
        except Exception as exc:  # whatever it is, the revision itself goes on
            self.note(f"it cannot be written as text: {type(exc).__name__}")
        return None

    def _pieces(self, speaker: Speaker, construct: Any, values: Any) -> list[str]:
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
        if not module.startswith("sqlalchemy.") and module != __name__:
            break
        if module.startswith(_REFLECTING):
            reflects = True
            schema = frame.f_locals.get("schema", schema)
        by_orm = by_orm or module.startswith("sqlalchemy.orm")
        frame = frame.f_back
    module = frame.f_globals.get("__name__", "") if frame is not None else ""
    return _Caller(module.startswith("alembic."), reflects, by_orm, schema)


def _asks_from_outside() -> bool:
    """Whether our caller was called by the code of a revision, or by what that calls."""
    try:
        module = sys._getframe(2).f_globals.get("__name__", "")
    except ValueError:  # by nobody: it is the first in a greenlet, as of `op.run_async`
        return True
    return not watching.is_library(module) and module.partition(".")[0] != _OURS


def _for_literals(dialect: Dialect) -> Dialect:
    """A copy that `Literals` may change: as the dialect knows its server, and as compiling names parameters, since
    other styles double each percent sign."""
    made: Any = copy.copy(dialect)
    made.paramstyle, made.positional = "named", False
    made.__dict__.pop("_type_memos", None)
    made.identifier_preparer = made.preparer(made)
    made.type_compiler_instance = made.type_compiler = made.type_compiler_cls(made)
    named: Dialect = made
    return named


def _connection(kind: type, recorder: StepRecorder) -> type:
    """The connection's class, noticing what a revision does with it, and with what it answers."""

    class Watched(kind):  # type: ignore[misc]
        def __getattribute__(self, name: str) -> Any:
            usable = recorder.current is None or name in _USABLE or name.startswith("__")
            if usable or not _asks_from_outside():
                return super().__getattribute__(name)
            if name == "engine":
                return _engine(super().__getattribute__(name), self.dialect, recorder)
            recorder.note(f"it asks the connection for an answer: {name}")
            return super().__getattribute__(name)

        def execute(self, *args: Any, **options: Any) -> Any:
            outsider = _asks_from_outside()
            result = super().execute(*args, **options)
            return _unasked(result, recorder) if outsider else result

        def scalar(self, *args: Any, **options: Any) -> Any:
            if not _asks_from_outside():
                return super().scalar(*args, **options)
            result = super().execute(*args, **options)
            _refuse_first(result, recorder)
            return result.scalar()

        def exec_driver_sql(self, statement: str, parameters: Any = None, *args: Any, **options: Any) -> Any:
            if not _asks_from_outside():
                return super().exec_driver_sql(statement, parameters, *args, **options)
            recorder.given_text(statement, parameters)
            result = super().exec_driver_sql(statement, parameters, *args, **options)
            return _unasked(result, recorder)

    Watched.__name__ = kind.__name__
    return Watched


def _engine(engine: Engine, dialect: Dialect, recorder: StepRecorder) -> Engine:
    """A copy of the engine, which serves other runs too, that notices what a revision does with it besides asking which
    kind of database it is for."""
    shown: Any = copy.copy(engine)

    class Watched(type(engine)):  # type: ignore[misc]
        def __getattribute__(self, name: str) -> Any:
            usable = name in _USABLE_OF_ENGINES or name.startswith("__")
            if name in _CONNECTING or (not usable and _asks_from_outside()):
                recorder.note(f"it asks the connection for an answer: engine.{name}")
            return super().__getattribute__(name)

    Watched.__name__ = type(engine).__name__
    shown.__class__ = Watched
    shown.dialect = dialect
    made: Engine = shown
    return made


def _unasked(result: Any, recorder: StepRecorder) -> Any:
    """The result, noticing whoever asks how many rows were changed, or takes the first of several."""
    if recorder.current is None:
        return result
    has_rows = result.returns_rows

    class Watched(type(result)):  # type: ignore[misc]
        __slots__ = ()

        def __getattribute__(self, name: str) -> Any:
            if has_rows and name in _FIRST:
                _refuse_first(self, recorder)
            elif not has_rows and not name.startswith("__") and _asks_from_outside():
                recorder.note(f"it asks the connection for an answer: the result's {name}")
            return super().__getattribute__(name)

        def __iter__(self) -> Any:
            if not has_rows:
                recorder.note("it asks the connection for an answer: the result's rows")
            return super().__iter__()

    Watched.__name__ = type(result).__name__
    result.__class__ = Watched
    return result


def _refuse_first(result: Any, recorder: StepRecorder) -> None:
    """Which one that is hangs on the order in which another target's catalog was written."""
    if result.returns_rows and result.rowcount > 1:
        recorder.note("it takes the first of several rows")


def _inspector(kind: type[PGInspector], recorder: StepRecorder, schema: str | None) -> type[PGInspector]:
    """The inspector's class, noticing what the schema's fingerprint does not hold."""

    class Watched(kind):  # type: ignore[misc, valid-type]
        @property
        def engine(self) -> Any:
            engine = self.__dict__["engine"]
            unwatched = recorder.current is None or not _asks_from_outside()
            return engine if unwatched else _engine(engine, self.dialect, recorder)

        @engine.setter
        def engine(self, engine: Any) -> None:
            self.__dict__["engine"] = engine

        @property
        def dialect(self) -> Any:
            return self.bind.dialect

        @dialect.setter
        def dialect(self, engines: Any) -> None:
            """The inspector takes its engine's, on which nobody notices anything."""

        @property
        def default_schema_name(self) -> str | None:
            recorder.note("it asks for the default schema")
            name: str | None = super().default_schema_name
            return name

        def get_table_oid(self, *args: Any, **options: Any) -> int:
            recorder.note("it asks for a table's number")
            number: int = super().get_table_oid(*args, **options)
            return number

        def get_schema_names(self, **options: Any) -> list[str]:
            self._refuse_neighbours()
            names: list[str] = super().get_schema_names(**options)
            return names

        def has_schema(self, *args: Any, **options: Any) -> bool:
            self._refuse_neighbours()
            found: bool = super().has_schema(*args, **options)
            return found

        def get_enums(self, *args: Any, **options: Any) -> Any:
            self._refuse_own_name()
            return super().get_enums(*args, **options)

        def get_domains(self, *args: Any, **options: Any) -> Any:
            self._refuse_own_name()
            return super().get_domains(*args, **options)

        def _refuse_own_name(self) -> None:
            if schema is not None:
                recorder.note("it asks for types, which are told with the schema that they are in")

        def _refuse_neighbours(self) -> None:
            if schema is not None:
                recorder.note("it asks which schemas there are, where other tenants' are in the database")

    Watched.__name__ = kind.__name__
    return Watched


def _context(kind: type, recorder: StepRecorder) -> type:
    class Recorded(kind):  # type: ignore[misc]
        @contextmanager
        def autocommit_block(self) -> Iterator[None]:
            recorder.mark(Mark.COMMIT)
            with recorder.in_autocommit(), super().autocommit_block():
                yield
            recorder.mark(Mark.BEGIN)

    Recorded.__name__ = kind.__name__
    return Recorded
