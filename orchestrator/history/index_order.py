"""The indexes of a new table, which Alembic sends in the order of a set: by their addresses in memory."""

from __future__ import annotations

from typing import Any

from alembic.ddl.impl import DefaultImpl
from sqlalchemy.schema import Table
from sqlalchemy.util import OrderedSet


def settle(impl: DefaultImpl) -> None:
    """Send them by their names, so that what is rendered twice comes out alike."""
    create_table = impl.create_table

    def in_order(table: Table, **options: Any) -> None:
        kept: Any = table
        kept.indexes = OrderedSet(sorted(table.indexes, key=lambda index: str(index.name)))
        create_table(table, **options)

    replaced: Any = impl
    replaced.create_table = in_order
