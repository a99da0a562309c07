"""Whether the rows that a backfill meant to write are those that the database has written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from alembic.util import CommandError
from sqlalchemy.engine import Connection

from orchestrator.history.keyset import Keyset
from orchestrator.registry.model import MYSQL_DIALECTS


def prove(connection: Connection, keyset: Keyset, keys: Sequence[Mapping[str, Any]], rowcount: int) -> None:
    """`keys`: what was given for `keyset.is_bound()`, of rows that are kept from others; `rowcount`: of the update by
    them, below zero where the driver does not tell. Raises CommandError where rows are missing, or too many."""
    if rowcount < 0 or rowcount == len(keys):
        return
    columns = ", ".join(column.name for column in keyset.columns)
    if rowcount > len(keys):
        raise CommandError(
            f"the backfill of {keyset.table.fullname!r} has read {len(keys)} rows and would write {rowcount}: the "
            f"database takes several keys ({columns}) for the same. This batch was taken back. Name another unique "
            "`key`, or use op.backfill"
        )
    found = _there(connection, keyset, keys) if connection.dialect.name in MYSQL_DIALECTS else rowcount
    if missing := len(keys) - found:
        raise CommandError(
            f"the backfill of {keyset.table.fullname!r} has read {len(keys)} rows, and {missing} of them could not be "
            f"written: the database does not find them by their key ({columns}), or a "
            " trigger or a rule keeps them as they were. This batch was taken back. Name another unique `key`, or use "
            "op.backfill"
        )


def _there(connection: Connection, keyset: Keyset, keys: Sequence[Mapping[str, Any]]) -> int:
    """MySQL may count only rows that became others, which depends on a flag of the connection that env.py has made."""
    asked = sa.select(sa.func.count()).select_from(keyset.table).where(keyset.is_bound()).with_for_update()
    return sum(int(connection.execute(asked, dict(key)).scalar_one()) for key in keys)
