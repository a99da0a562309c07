"""Statements that go with every batch: made once, and handed to psycopg as they are where nobody listens.

Of a batch of 1,000 rows, what SQLAlchemy does around each statement takes as much time as the server for 50 rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from orchestrator.history import session

_DRIVERS = frozenset({"psycopg"})
# What psycopg reads as SQLAlchemy would have it.
_READ = (sa.Integer, sa.String, sa.Uuid)


class Direct:
    """A statement that is sent again and again on one connection, within transactions that the caller begins."""

    def __init__(self, statement: Any) -> None:
        self._statement = statement
        self._cursor: _Cursor | None = None
        self._connection: Connection | None = None

    def changed(self, connection: Connection, parameters: Mapping[str, Any]) -> int:
        """How many rows it has changed."""
        cursor = self._of(connection, parameters)
        if cursor is not None:
            return int(cursor.execute(parameters).rowcount)
        return int(connection.execute(self._statement, parameters).rowcount)

    def one(self, connection: Connection, parameters: Mapping[str, Any]) -> Sequence[Any]:
        """The one row that it answers with."""
        cursor = self._of(connection, parameters)
        if cursor is not None:
            [row] = cursor.execute(parameters).fetchall()
            return tuple(row)
        return tuple(connection.execute(self._statement, parameters).one())

    def alone(self, connection: Connection, parameters: Mapping[str, Any]) -> Sequence[Any] | None:
        """The same, in a transaction that begins and ends with it, of which SQLAlchemy hears nothing; None where it
        cannot be sent so."""
        cursor = self._of(connection, parameters)
        if cursor is None:
            return None
        raw: Any = connection.connection.dbapi_connection
        raw.autocommit = True
        try:
            [row] = cursor.execute(parameters).fetchall()
        finally:
            if not raw.closed:
                raw.autocommit = False
        return tuple(row)

    def _of(self, connection: Connection, parameters: Mapping[str, Any]) -> _Cursor | None:
        if self._connection is not connection:
            self._connection, self._cursor = connection, _cursor(connection, self._statement, parameters)
        return self._cursor


class _Cursor:
    """`given`: values of parameters that are always the same; `makers`: what SQLAlchemy makes of others."""

    def __init__(self, connection: Connection, sql: str, given: Mapping[str, Any], makers: Mapping[str, Any]) -> None:
        self._connection, self._sql = connection, sql
        self._given, self._makers = given, makers
        self._cursor: Any = None

    def execute(self, parameters: Mapping[str, Any]) -> Any:
        values = {**self._given, **parameters}
        for name, make in self._makers.items():
            values[name] = make(values[name])
        cursor = self._cursor = self._cursor or self._connection.connection.cursor()
        try:
            cursor.execute(self._sql, values)
        except BaseException as exc:
            self._cursor = None  # it is closed now
            # Raises it as SQLAlchemy would have, and looks whether the connection is lost.
            self._connection._handle_dbapi_exception(exc, self._sql, values, cursor, None)
        return cursor


def may_go_alone(connection: Connection) -> bool:
    """Whether a statement in a transaction of its own is in one as SQLAlchemy would begin it."""
    if not _is_direct(connection):
        return False
    raw: Any = connection.connection.dbapi_connection
    return not raw.autocommit and raw.isolation_level is raw.read_only is raw.deferrable is None


def _is_direct(connection: Connection) -> bool:
    return connection.dialect.driver in _DRIVERS and not session.is_overheard(connection)


def _cursor(connection: Connection, statement: Any, parameters: Mapping[str, Any]) -> _Cursor | None:
    """None where SQLAlchemy has more to do than to hand it on, or somebody listens to what it does."""
    if not _is_direct(connection):
        return None
    compiled: Any = statement.compile(dialect=connection.dialect)
    if not _is_plain(compiled) or not all(_is_read(entry.type, connection) for entry in compiled._result_columns):
        return None
    given = compiled.construct_params(dict(parameters), escape_names=False)
    return _Cursor(connection, str(compiled), given, dict(compiled._bind_processors))


def _is_plain(compiled: Any) -> bool:
    """Whether its text, and the names of its parameters, are the same whatever their values are."""
    expanded = compiled.post_compile_params or compiled.literal_execute_params
    made = compiled.update_prefetch or compiled.insert_prefetch
    called = any(bind.callable for bind in compiled.binds.values())
    return not (expanded or made or called or compiled.escaped_bind_names)


def _is_read(kind: sa.types.TypeEngine[Any], connection: Connection) -> bool:
    return isinstance(kind, _READ) and kind._cached_result_processor(connection.dialect, None) is None
