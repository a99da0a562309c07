"""Classes for what a revision is given while it is recorded, which notice what it does with them, and with what they
answer."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from sqlalchemy.dialects.postgresql.base import PGInspector
from sqlalchemy.engine import Dialect, Engine

from orchestrator.history import watching
from orchestrator.plan.compiled import Mark

# What a revision may use of its connection without anything being made of it.
_USABLE = frozenset({"execute", "exec_driver_sql", "scalar", "scalars", "dialect", "closed", "in_transaction"})
_USABLE_OF_ENGINES = frozenset({"name", "driver", "dialect"})
_FIRST = frozenset({"first", "scalar", "fetchone"})
_CONNECTING = frozenset({"connect", "begin", "raw_connection"})
_OURS = __name__.partition(".")[0]


class Recorder(watching.Watcher, Protocol):
    """Told also of statements that are given to the driver as they are, and of transactions' ends and beginnings."""

    def given_text(self, sql: str, parameters: Any) -> None: ...

    def mark(self, mark: Mark) -> None: ...

    def in_autocommit(self) -> AbstractContextManager[None]: ...


def _asks_from_outside() -> bool:
    """Whether our caller was called by the code of a revision, or by what that calls."""
    try:
        module = sys._getframe(2).f_globals.get("__name__", "")
    except ValueError:  # by nobody: it is the first in a greenlet, as of `op.run_async`
        return True
    return not watching.is_library(module) and module.partition(".")[0] != _OURS


def connection(kind: type, recorder: Recorder) -> type:
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


def _engine(engine: Engine, dialect: Dialect, recorder: Recorder) -> Engine:
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


def _unasked(result: Any, recorder: Recorder) -> Any:
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


def _refuse_first(result: Any, recorder: Recorder) -> None:
    """Which one that is hangs on the order in which another target's catalog was written."""
    if result.returns_rows and result.rowcount > 1:
        recorder.note("it takes the first of several rows")


def inspector(kind: type[PGInspector], recorder: Recorder, schema: str | None) -> type[PGInspector]:
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


def context(kind: type, recorder: Recorder) -> type:
    class Recorded(kind):  # type: ignore[misc]
        @contextmanager
        def autocommit_block(self) -> Iterator[None]:
            recorder.mark(Mark.COMMIT)
            with recorder.in_autocommit(), super().autocommit_block():
                yield
            recorder.mark(Mark.BEGIN)

    Recorded.__name__ = kind.__name__
    return Recorded
