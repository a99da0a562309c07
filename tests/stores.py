"""Stores whose tables are made by the statements that their history has sent once: to go through it takes 50 ms, and
200 ms in a process that has not done it yet, in thousands of tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, create_engine, event, func, select

from orchestrator.store import schema

by_history = schema._upgrade
# Statements and their parameters, by kind and version of the server.
_sent: dict[object, list[tuple[str, Any]]] = {}


def install() -> None:
    """From now on new stores of this process, and of those that it forks, are made so."""
    with create_engine("sqlite://").begin() as connection:
        as_sent(connection)
    schema._upgrade = as_sent


def as_sent(connection: Connection) -> None:
    """In place of `schema._upgrade`."""
    dialect = connection.dialect
    if dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(*schema.SCHEMA_LOCK)))
    kind = dialect.name, dialect.driver, dialect.server_version_info
    if schema.stored_revisions(connection):
        by_history(connection)
    elif kind in _sent:
        for statement, parameters in _sent[kind]:
            connection.exec_driver_sql(statement, parameters)
    else:
        with _noted(connection) as sent:
            by_history(connection)
        _sent[kind] = sent


@contextmanager
def _noted(connection: Connection) -> Iterator[list[tuple[str, Any]]]:
    sent: list[tuple[str, Any]] = []

    def note(_one: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if not statement.lstrip().startswith(("SELECT", "PRAGMA")):
            sent.append((statement, parameters))

    event.listen(connection, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(connection, "before_cursor_execute", note)
