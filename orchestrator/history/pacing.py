"""Who decides about the batches of the migration that runs in this thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from orchestrator.backfill.model import Pacer

_current: ContextVar[Pacer | None] = ContextVar("migration_pacer", default=None)


@contextmanager
def applied(pacer: Pacer) -> Iterator[None]:
    """Within this context, backfills ask this pacer before batches."""
    token = _current.set(pacer)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Pacer | None:
    """The pacer of the migration that runs here; None outside of the orchestrator."""
    return _current.get()
