"""Which unique indexes of a SQLite table order its rows as the columns themselves are compared.

An index may have another collation than its column, and SQLite tells that of indexes only. What it does with the index
tells: one that does not go in the column's order is sorted anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection


@dataclass(frozen=True, slots=True)
class Index:
    columns: Sequence[str]
    in_order: bool
    of_primary_key: bool


def unique(connection: Connection, table: sa.Table) -> Iterator[Index]:
    """Those that hold for all rows, and have nothing but columns. A primary key that is the row's number has none."""
    preparer = connection.dialect.identifier_preparer
    schema = f"{preparer.quote_identifier(table.schema)}." if table.schema else ""
    listed = f"PRAGMA {schema}index_list({preparer.quote_identifier(table.name)})"
    for _, name, is_unique, origin, is_partial in connection.exec_driver_sql(listed).all():
        quoted = preparer.quote_identifier(name)
        parts = connection.exec_driver_sql(f"PRAGMA {schema}index_xinfo({quoted})").all()
        keys = [(column, descending) for _, _, column, descending, _, is_key in parts if is_key]
        if not is_unique or is_partial or any(column is None for column, _ in keys):
            continue
        order = ", ".join(f"{preparer.quote_identifier(column)}{' DESC' if down else ''}" for column, down in keys)
        asked = f"SELECT 1 FROM {preparer.format_table(table)} INDEXED BY {quoted} ORDER BY {order}"
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {asked}").all()
        sorts = any("FOR ORDER BY" in str(step[-1]) for step in plan)
        yield Index([column for column, _ in keys], not sorts, origin == "pk")
