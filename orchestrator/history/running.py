"""Which revision Alembic is running, and which way: it tells nobody, so its own frame is looked at."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError

from orchestrator.backfill.model import Direction

_UNKNOWN = "this release of Alembic runs revisions in a way that backfills do not know"
_RUN = MigrationContext.run_migrations.__code__


@dataclass(frozen=True, slots=True)
class Running:
    """`file`: the revision's own, where it has one."""

    revision: str
    direction: Direction
    file: str | None


def current(context: MigrationContext) -> Running:
    """The step that `context` runs right now. Raises CommandError outside of one."""
    known = _run(context)
    if known is None:
        raise CommandError("a backfill belongs into a revision's upgrade() or downgrade()")
    return _of(known.get("step"))


def step(context: MigrationContext) -> Any:
    """What Alembic runs right now: another object for each run, also of the same revision."""
    return (_run(context) or {}).get("step")


def expected_heads(context: MigrationContext) -> frozenset[str]:
    """What the version table holds, as the run of `context` knows it."""
    kept: Any = (_run(context) or {}).get("head_maintainer")
    if not hasattr(kept, "heads"):
        raise CommandError(_UNKNOWN)
    return frozenset(kept.heads)


def _run(context: MigrationContext) -> Mapping[str, Any] | None:
    """What Alembic's own loop over the steps knows; None where none of this context runs."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code is _RUN and frame.f_locals.get("self") is context:
            return frame.f_locals
        frame = frame.f_back
    return None


def _of(step: Any) -> Running:
    script = getattr(step, "revision", None)
    if script is None or not hasattr(step, "is_upgrade"):
        raise CommandError(_UNKNOWN)
    return Running(str(script.revision), "upgrade" if step.is_upgrade else "downgrade", getattr(script, "path", None))
