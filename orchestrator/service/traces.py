"""Whether traces are made, and where they go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread

from orchestrator.events import now
from orchestrator.observe import otlp
from orchestrator.observe.bus import Bus
from orchestrator.observe.rollouts import Rollouts
from orchestrator.observe.tracing import Tracing
from orchestrator.settings import Settings

# What is not sent by then is lost: nobody waits longer for the end of a process because of its traces.
FLUSH_SECONDS = 5.0


@asynccontextmanager
async def traced(settings: Settings, bus: Bus, rollouts: Rollouts) -> AsyncIterator[Tracing | None]:
    """Traces of what is told on the bus until the block ends, and what is left of them is sent; None: there are none.

    Raises ConfigurationError.
    """
    sender = otlp.opened() if settings.traces == "otlp" else None
    if sender is None:
        yield None
        return
    tracing = Tracing(sender.send, rollouts, wanted=sender.wants, detailed=settings.traces_detailed)
    bus.subscribe(tracing.apply)
    try:
        yield tracing
    finally:
        tracing.close(now())
        seconds = min(FLUSH_SECONDS, max(1.0, settings.shutdown_grace_seconds))
        with anyio.CancelScope(shield=True):  # and a thread of its own: all others may be kept busy
            await anyio.to_thread.run_sync(sender.close, seconds, limiter=anyio.CapacityLimiter(1))
