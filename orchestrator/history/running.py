"""Which revision Alembic is running, and which way: it tells nobody, so its own frame is looked at."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError

from orchestrator.backfill.model import Direction

_RUN = MigrationContext.run_migrations.__code__


@dataclass(frozen=True, slots=True)
class Running:
    """`file`: the revision's own, where it has one."""

    revision: str
    direction: Direction
    file: str | None


def current(context: MigrationContext) -> Running:
    """The step that `context` runs right now. Raises CommandError outside of one."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code is _RUN and frame.f_locals.get("self") is context:
            return _of(frame.f_locals.get("step"))
        frame = frame.f_back  # type: ignore[assignment]
    raise CommandError("a backfill belongs into a revision's upgrade() or downgrade()")


def _of(step: Any) -> Running:
    script = getattr(step, "revision", None)
    if script is None or not hasattr(step, "is_upgrade"):
        raise CommandError("this release of Alembic runs revisions in a way that backfills do not know")
    return Running(str(script.revision), "upgrade" if step.is_upgrade else "downgrade", getattr(script, "path", None))
