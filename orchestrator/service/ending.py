"""The last lines of a daemon that ends by an error: whoever reads its log must find there why it is gone."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from orchestrator.errors import ConfigurationError, LeadershipLostError, OrchestratorError, StoreError, leaves

# What was told of an error, is noted on it: it comes by more than once on its way out.
_TOLD = "_orchestrator_told"

# Whoever writes to a pipe that nobody reads waits for ever, and keeps the log's lock.
TELLING_SECONDS = 1.0

log = structlog.get_logger(__name__)


@contextmanager
def telling() -> Iterator[None]:
    """Tell of the errors that end the block, each once."""
    try:
        yield
    except BaseException as exc:
        for leaf in leaves(exc):
            if isinstance(leaf, Exception) and not hasattr(leaf, _TOLD):
                setattr(leaf, _TOLD, True)
                _tell(leaf)
        raise


def _tell(exc: Exception) -> None:
    match exc:
        case LeadershipLostError() | ConfigurationError():
            pass  # told as `leader_lost`; and in words, by who has started it
        case StoreError():
            log.error("store_lost", message=exc.message, remedy=exc.remedy)
        case OrchestratorError():
            log.error("ended_by_error", message=exc.message, remedy=exc.remedy)
        case _:
            log.exception("ended_by_bug", exc_info=exc)


def at_once() -> None:
    """End the process: what runs does not end by itself. The log has a second to take that down, and no more."""
    try:
        told = threading.Thread(target=_tell_at_once, daemon=True)
        told.start()
        told.join(TELLING_SECONDS)
    finally:
        os._exit(1)


def _tell_at_once() -> None:
    log.error("ended_at_once", remedy="the next start goes on with what ran")
