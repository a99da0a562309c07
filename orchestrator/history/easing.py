"""What env.py's session on PostgreSQL is spared while it builds an index, and what it is spared from."""

from __future__ import annotations

from typing import Any

from sqlalchemy.engine import Connection

from orchestrator.plan import indexes
from orchestrator.plan.statements import builds_concurrently, builds_index
from orchestrator.sessions import Timeouts

_EASED = "orchestrator_eased"


def before(timeouts: Timeouts, connection: Connection, statement: str) -> None:
    """The statement is about to be sent: where it builds an index, the session's limits are eased.

    Raises TargetError where an index of that name is there and invalid, or is just being built.
    """
    restore(timeouts, connection)  # the statement before has failed
    concurrently = builds_concurrently(statement)
    if not concurrently and not builds_index(statement):
        return
    if (index := indexes.built(statement)) is not None and (found := _aside(connection, indexes.question(index))):
        raise indexes.refusal(*found)
    connection.info[_EASED] = concurrently
    for part in timeouts.lifted(concurrently=concurrently).split("; "):
        _aside(connection, part)


def restore(timeouts: Timeouts, connection: Connection) -> None:
    """Give the session back its limits, where they were eased."""
    if _EASED not in connection.info:
        return
    concurrently = connection.info.pop(_EASED)
    try:
        for part in timeouts.restored(concurrently=concurrently).split("; "):
            _aside(connection, part)
    except Exception:  # a transaction that has failed takes nothing more, and takes back what was eased in it
        connection.info[_EASED] = concurrently


def _aside(connection: Connection, sql: str) -> tuple[Any, ...] | None:
    """Send a statement of ours, past SQLAlchemy; the first row of the answer."""
    cursor = connection.connection.cursor()
    try:
        cursor.execute(sql)
        row = cursor.fetchone() if cursor.description else None
    finally:
        cursor.close()
    return None if row is None else tuple(row)
