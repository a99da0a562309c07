"""Whether the rows that a backfill meant to write are those that the database has written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from alembic.util import CommandError
from sqlalchemy.engine import Connection

from orchestrator.history import servers
from orchestrator.history.keyset import Keyset
from orchestrator.registry.model import MYSQL_DIALECTS


class Writing:
    """Updates by key in one transaction, of rows that are kept from others. Made before the first of them."""

    def __init__(self, connection: Connection, keyset: Keyset) -> None:
        self._connection, self._keyset = connection, keyset
        self._tells = connection.dialect.supports_sane_multi_rowcount
        self._server = servers.of(connection, keyset.table)
        self._before = None if self._tells else self._server.written(connection)

    def prove(self, keys: Sequence[Mapping[str, Any]], rowcount: int) -> None:
        """`keys`: what was given for `keyset.is_bound()`; `rowcount`: of the update by them, below zero where the
        driver does not tell. Raises CommandError where rows are missing, or too many."""
        name, columns = self._keyset.table.fullname, ", ".join(column.name for column in self._keyset.columns)
        found = rowcount if rowcount >= 0 else self._counted()
        if found is None or found == len(keys):
            return
        if rowcount > len(keys):
            raise CommandError(
                f"the backfill of {name!r} has read {len(keys)} rows and would write {rowcount}: the database takes "
                f"several keys ({columns}) for the same. This batch was taken back. Name another unique `key`, or use "
                "op.backfill"
            )
        if self._connection.dialect.name in MYSQL_DIALECTS:
            found = _there(self._connection, self._keyset, keys)
        if found < len(keys):
            raise CommandError(
                f"the backfill of {name!r} has read {len(keys)} rows, and {len(keys) - found} of them could not be "
                f"written: the database does not find them by their key ({columns}), or a trigger or a rule keeps them "
                "as they were. This batch was taken back. Name another unique `key`, or use op.backfill"
            )

    def _counted(self) -> int | None:
        """What the server has counted since: triggers' updates as well, so that it tells only of too few."""
        before, self._before = self._before, None if self._tells else self._server.written(self._connection)
        return None if before is None or self._before is None else self._before - before


def _there(connection: Connection, keyset: Keyset, keys: Sequence[Mapping[str, Any]]) -> int:
    """MySQL may count only rows that became others, which depends on a flag of the connection that env.py has made."""
    asked = sa.select(sa.func.count()).select_from(keyset.table).where(keyset.is_bound()).with_for_update()
    return sum(int(connection.execute(asked, dict(key)).scalar_one()) for key in keys)
