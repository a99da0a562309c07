"""What SQLAlchemy would hand a driver for a construct, without a database: its own execution, over a cursor that only
takes down what it is given.

So bind processors, casts, defaults, expanded lists and many rows at once are as they are online. Nobody listens: what a
listener changes is seen where something is really sent.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.engine import Connection, Dialect, Engine, make_url
from sqlalchemy.exc import ResourceClosedError
from sqlalchemy.pool import NullPool


class Sent(NamedTuple):
    """One call of a cursor. `rows`: its sets of parameters, one unless it is `many`."""

    statement: str
    rows: tuple[Any, ...]
    many: bool = False


class Rehearsal:
    """Executes what a dialect's connection is given, and tells what its cursor was handed."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = copy.copy(dialect)
        self._sent: list[Sent] = []
        pool = NullPool(_unreachable, dialect=self.dialect)
        engine = Engine(pool, self.dialect, make_url(f"{dialect.name}://"), query_cache_size=0)
        unheard: Any
        for unheard in (self.dialect, engine):
            unheard._has_events = False
        handed: Any = _Handed(self._sent)
        self._connection = Connection(engine, handed)

    def of(self, construct: Any, parameters: Any = None) -> tuple[Sent, ...]:
        """What would be sent. Raises whatever SQLAlchemy does."""
        self._sent.clear()
        statement = text(construct) if isinstance(construct, str) else construct
        with suppress(ResourceClosedError):  # nobody answers what the server has made of it
            self._connection.execute(statement, parameters or None)
        return tuple(self._sent)


def _unreachable() -> Any:
    raise AssertionError("nothing connects")


class _Handed:
    """Stands for a connection of the driver."""

    is_valid = True

    def __init__(self, sent: list[Sent]) -> None:
        self._sent = sent
        self.info: dict[Any, Any] = {}

    @property
    def dbapi_connection(self) -> _Handed:
        return self

    driver_connection = dbapi_connection

    def cursor(self, *_: Any, **__: Any) -> _Cursor:
        return _Cursor(self, self._sent)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _nothing


def _nothing(*_: Any, **__: Any) -> None:
    pass


class _Cursor:
    description = None
    rowcount = -1
    lastrowid = None
    arraysize = 1

    def __init__(self, connection: _Handed, sent: list[Sent]) -> None:
        self.connection, self._sent = connection, sent

    def execute(self, statement: str, parameters: Any = None, *_: Any, **__: Any) -> None:
        self._sent.append(Sent(statement, (parameters,)))

    def executemany(self, statement: str, rows: Sequence[Any], *_: Any, **__: Any) -> None:
        self._sent.append(Sent(statement, tuple(rows), many=True))

    def fetchall(self) -> list[Any]:
        return []

    fetchmany = fetchall

    def fetchone(self) -> None:
        return None

    setinputsizes = close = _nothing
