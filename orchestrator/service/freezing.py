"""The fleet's freeze: written by whoever is asked, and known to the process that drives rollouts at once."""

from __future__ import annotations

from orchestrator.events import FleetFrozen, FreezeLifted
from orchestrator.rollout.windows import Freeze
from orchestrator.service.wiring import Parts


class Freezing:
    """Implements `api.time_ports.Freezing`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def current(self) -> Freeze | None:
        return await self._parts.store.freeze.current()

    async def set(self, *, by: str, reason: str) -> Freeze:
        now = self._parts.clock()
        freeze = await self._parts.store.freeze.set(by, reason, now)
        self._parts.gate.freeze = freeze
        if freeze.since == now:
            self._parts.bus.publish(FleetFrozen(by=freeze.by, reason=freeze.reason))
        return freeze

    async def lift(self, *, by: str) -> Freeze | None:
        lifted = await self._parts.store.freeze.lift()
        self._parts.gate.freeze = None
        if lifted is not None:
            seconds = (self._parts.clock() - lifted.since).total_seconds()
            self._parts.bus.publish(FreezeLifted(by=by, reason=lifted.reason, seconds=round(seconds, 3)))
        return lifted
