"""Indexes that a failure, or a process that was killed, left behind half built."""

from __future__ import annotations

from contextlib import suppress

import structlog

from orchestrator.databases.base import Guard
from orchestrator.errors import MigrationFailedError, TargetError
from orchestrator.plan import indexes
from orchestrator.plan.statements import builds_concurrently
from orchestrator.registry.model import Target

log = structlog.get_logger(__name__)


async def tell(target: Target, guard: Guard) -> None:
    """Warn of them, before the attempt that follows one of which nobody knows how it ended. That one is refused where
    it comes to build such an index again; the others are somebody's to look at."""
    found: tuple[str, ...] = ()
    with suppress(TargetError):  # what only warns stops nobody
        found = await guard.invalid_indexes()
    if found:
        log.warning(
            "invalid_indexes",
            tenant=target.tenant,
            track=target.track,
            shard=target.shard,
            indexes=list(found),
            remedy=indexes.remedy_for(found),
        )


async def name(exc: TargetError, guard: Guard) -> None:
    """Name in a failure of a concurrent statement what it left behind; costs a question then, and nothing otherwise."""
    if isinstance(exc, MigrationFailedError) and builds_concurrently(exc.statement or "") and not guard.lost.is_set():
        with suppress(TargetError):
            indexes.complete(exc, await guard.invalid_indexes())
