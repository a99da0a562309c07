"""What Alembic 1.18 and newer finds through its entry point, and imports while it is itself being imported."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alembic.runtime.plugins import Plugin


def setup(plugin: Plugin) -> None:
    """Called by Alembic, whose autogenerate cannot be imported yet."""
    from alembic.util import DispatchPriority

    def leave_alone(*args: Any) -> Any:
        from orchestrator.history import autogenerate

        return autogenerate.leave_alone(*args)

    plugin.add_autogenerate_comparator(leave_alone, "schema", priority=DispatchPriority.LAST)


class _PluginModule(ModuleType):
    """Alembic 1.18 expects a collection of modules where newer releases expect a module."""

    def __iter__(self) -> Iterator[ModuleType]:
        yield self


sys.modules[__name__].__class__ = _PluginModule

# Last: where it is this that imports Alembic, Alembic looks for what is above.
import orchestrator.history.operations  # noqa: E402, F401
