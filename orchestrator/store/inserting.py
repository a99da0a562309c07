"""Inserts that say what becomes of a row that is there already: `on_conflict_do_nothing`, `on_conflict_do_update`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def into(connection: Connection, table: Table) -> Any:
    """An INSERT of the connection's dialect; the two say it in the same words, and SQLAlchemy has it twice."""
    return (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)
