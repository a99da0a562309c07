"""`op.backfill` and the like: importing this registers them with Alembic.

Alembic 1.18 and newer does so by itself, through its entry point. With an older one, let env.py say
`import orchestrator.operations`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alembic.runtime.plugins import Plugin

def setup(plugin: Plugin) -> None:
    """Called by Alembic while it is being imported itself, so that its autogenerate cannot be imported yet."""
    from alembic.util import DispatchPriority

    def leave_alone(*args: object) -> object:
        from orchestrator.history import autogenerate

        return autogenerate.leave_alone(*args)

    plugin.add_autogenerate_comparator(leave_alone, "schema", priority=DispatchPriority.LAST)


class _PluginModule(ModuleType):
    """Alembic 1.18 expects a collection of modules where newer releases expect a module."""

    def __iter__(self) -> Iterator[ModuleType]:
        yield self


sys.modules[__name__].__class__ = _PluginModule

# After what Alembic looks for, which it does while it is imported: by this, where nobody has imported it before.
from orchestrator.history.operations import (  # noqa: E402
    BackfillOp,
    BackfillRowsOp,
    BackfillSqlOp,
    RequiresBackfillOp,
    VerifyOp,
)

__all__ = ["BackfillOp", "BackfillRowsOp", "BackfillSqlOp", "RequiresBackfillOp", "VerifyOp", "setup"]
