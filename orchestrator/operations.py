"""`op.backfill` and the like: importing this registers them with Alembic.

Alembic 1.18 and newer does so by itself, through its entry point. With an older one, let env.py say
`import orchestrator.operations`.

The operations are here as functions too, for those who have types checked, since those of `alembic.op` are not known to
a type checker: `from orchestrator.operations import backfill`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alembic import op as _op

from orchestrator.history import autogenerate as autogenerate  # how they are written into a file
from orchestrator.history.changes import Transform
from orchestrator.history.operations import (
    BackfillOp,
    BackfillRowsOp,
    BackfillSqlOp,
    Key,
    RequiresBackfillOp,
    VerifyOp,
)

__all__ = [
    "BackfillOp",
    "BackfillRowsOp",
    "BackfillSqlOp",
    "RequiresBackfillOp",
    "VerifyOp",
    "backfill",
    "backfill_rows",
    "backfill_sql",
    "requires_backfill",
    "verify",
]


def backfill(
    table: str,
    set_: Mapping[str, Any],
    where: Any = None,
    key: Key = None,
    batch_size: int = 1000,
    *,
    until_empty: bool = False,
    schema: str | None = None,
) -> int:
    """As `op.backfill`."""
    op = BackfillOp(table, set_, where=where, key=key, batch_size=batch_size, until_empty=until_empty, schema=schema)
    return int(_op.invoke(op))


def backfill_rows(
    table: str,
    columns: Sequence[str],
    transform: Transform,
    key: Key = None,
    batch_size: int = 1000,
    *,
    where: Any = None,
    until_empty: bool = False,
    schema: str | None = None,
) -> int:
    """As `op.backfill_rows`."""
    op = BackfillRowsOp(
        table,
        columns,
        transform,
        where=where,
        key=key,
        batch_size=batch_size,
        until_empty=until_empty,
        schema=schema,
    )
    return int(_op.invoke(op))


def backfill_sql(
    statement: str,
    table: str,
    key: Key = None,
    batch_size: int = 1000,
    *,
    until_empty: bool = False,
    schema: str | None = None,
) -> int:
    """As `op.backfill_sql`."""
    op = BackfillSqlOp(statement, table, key=key, batch_size=batch_size, until_empty=until_empty, schema=schema)
    return int(_op.invoke(op))


def verify(sql: str, message: str) -> None:
    """As `op.verify`."""
    _op.invoke(VerifyOp(sql, message))


def requires_backfill(revision: str, or_stamped: bool = False) -> None:
    """As `op.requires_backfill`."""
    _op.invoke(RequiresBackfillOp(revision, or_stamped))
