"""`op.backfill` and the like: importing this registers them with Alembic.

Alembic 1.18 and newer does so by itself, through its entry point. With an older one, let env.py say
`import orchestrator.operations`.
"""

from orchestrator.history import autogenerate as autogenerate  # how they are written into a file
from orchestrator.history.operations import (
    BackfillOp,
    BackfillRowsOp,
    BackfillSqlOp,
    RequiresBackfillOp,
    VerifyOp,
)

__all__ = ["BackfillOp", "BackfillRowsOp", "BackfillSqlOp", "RequiresBackfillOp", "VerifyOp"]
