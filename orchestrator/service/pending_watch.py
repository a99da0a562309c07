"""Keeps in the store since when targets have had something to apply, and reads it there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

import structlog

from orchestrator.errors import StoreError
from orchestrator.registry.model import TargetKey
from orchestrator.service.orchestrator import Orchestrator
from orchestrator.service.repeating import again_and_again
from orchestrator.service.wiring import Parts

LOOK_SECONDS = 5.0

log = structlog.get_logger(__name__)


class PendingWatch:
    """Since when each target has had something to apply: taken over at the start and with the lead, and written by who
    leads."""

    def __init__(self, parts: Parts, service: Orchestrator) -> None:
        self._fleet, self._store, self._service = parts.fleet, parts.store.pending, service
        self._kept: dict[TargetKey, datetime] | None = None
        self._led = False

    async def run(self, *, look_seconds: float = LOOK_SECONDS) -> None:
        """For ever."""
        await again_and_again(self.once, _tell, look_seconds)

    async def once(self) -> None:
        """Take over what is known, where it was not yet; write what is otherwise. Raises StoreError."""
        leads = self._service.steering.leads
        if self._kept is None or leads is not self._led:
            self._kept = dict(await self._store.listed())
            self._fleet.recall_pending({(key.tenant, key.track): since for key, since in self._kept.items()})
            self._led = leads
        if not leads:
            return
        pending = {TargetKey(*key): since for key, since in self._fleet.pending().items()}
        fresh, gone = changed(self._kept, pending, self._forgets)
        if fresh or gone:
            await self._store.change(fresh, gone)
            self._kept = {key: since for key, since in {**self._kept, **fresh}.items() if key not in gone}

    def _forgets(self, key: TargetKey) -> bool:
        """Whether a target that is not pending is not so for good: one that a source has yet to name may be."""
        registry = self._service.registry
        return key in registry.by_key or not registry.unanswered


def _tell(exc: StoreError) -> None:
    log.warning("pending_not_recorded", message=exc.message, remedy=exc.remedy)


def changed(
    kept: Mapping[TargetKey, datetime],
    pending: Mapping[TargetKey, datetime],
    forgets: Callable[[TargetKey], bool],
) -> tuple[Mapping[TargetKey, datetime], frozenset[TargetKey]]:
    """What is to be written, and what is not to be kept any more."""
    fresh = {key: since for key, since in pending.items() if kept.get(key) != since}
    return fresh, frozenset(key for key in kept if key not in pending and forgets(key))
