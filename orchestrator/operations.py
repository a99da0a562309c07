"""`op.backfill` and the like: importing this registers them with Alembic.

Alembic 1.18 and newer does so by itself, through its entry point. With an older one, let env.py say
`import orchestrator.operations`.

The operations are here as functions too, for those who have types checked, since those of `alembic.op` are not known to
a type checker: `from orchestrator.operations import backfill`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar, cast

from alembic import op
from alembic.operations import Operations

from orchestrator.history import autogenerate as autogenerate  # how they are written into a file
from orchestrator.history.operations import (
    BackfillOp,
    BackfillRowsOp,
    BackfillSqlOp,
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

P = ParamSpec("P")
Answer = TypeVar("Answer")


def _of_op(operation: Callable[Concatenate[Operations, P], Answer]) -> Callable[P, Answer]:
    """The operation by the module `alembic.op`, which stands for the operations of the migration that runs."""

    @wraps(operation)
    def function(*args: P.args, **options: P.kwargs) -> Answer:
        return operation(cast(Operations, op), *args, **options)

    return function


backfill = _of_op(BackfillOp.backfill)
backfill_rows = _of_op(BackfillRowsOp.backfill_rows)
backfill_sql = _of_op(BackfillSqlOp.backfill_sql)
verify = _of_op(VerifyOp.verify)
requires_backfill = _of_op(RequiresBackfillOp.requires_backfill)
