"""Questions of a backfill that runs in a worker, answered on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError

import anyio
import structlog

from orchestrator.backfill.model import Answer, Report, Stop, Wait

OnBatch = Callable[[Report], Awaitable[Answer]]

# Whoever takes longer to answer says no: the backfill asks again.
ANSWER_SECONDS = 2.0
AGAIN_SECONDS = 0.5
OVER = Stop("stopped", "the migration is being ended")

log = structlog.get_logger(__name__)


class Questions:
    """What one migration's backfills ask. No answer is waited for once the migration is over: it is a `Stop` then.

    `failure`: what went wrong while a question was answered; the backfill was stopped for it.
    """

    def __init__(self, on_batch: OnBatch) -> None:
        """To be made on the loop that answers."""
        self._on_batch, self._loop = on_batch, asyncio.get_running_loop()
        self._over, self._asked = False, set[anyio.CancelScope]()
        self.failure: Exception | None = None

    def ask(self, report: Report) -> Answer:
        """Called from the thread that listens to the worker; blocks for `ANSWER_SECONDS`, and twice as long at most,
        where the loop itself stands. What was asked then is answered later, and nobody hears it: the report counts."""
        try:
            return asyncio.run_coroutine_threadsafe(self._answered(report), self._loop).result(2 * ANSWER_SECONDS)
        except TimeoutError:
            return OVER if self._over else Wait(AGAIN_SECONDS)
        except (CancelledError, RuntimeError):
            return OVER  # the loop itself ends

    async def mind(self, ended: Callable[[], Awaitable[None]]) -> None:
        """Return when the migration has `ended`. From then on, and when this is cancelled, every answer is a `Stop`."""
        try:
            await ended()
        finally:
            self._over = True
            for scope in self._asked:
                scope.cancel()

    async def _answered(self, report: Report) -> Answer:
        answer: Answer = Wait(AGAIN_SECONDS)
        with anyio.move_on_after(ANSWER_SECONDS) as scope:
            self._asked.add(scope)
            try:
                answer = OVER if self._over else await self._decided(report)
            finally:
                self._asked.discard(scope)
        return OVER if self._over else answer

    async def _decided(self, report: Report) -> Answer:
        try:
            return await self._on_batch(report)
        except Exception as exc:  # raised again by whoever started the migration, when the backfill has stopped
            told = report.backfill
            log.warning(
                "backfill_not_answered",
                revision=told.revision,
                table=told.table,
                error=type(exc).__name__,
                message=str(exc),
            )
            self.failure = self.failure or exc
            return Stop("stopped", "nobody can say how it may go on")
