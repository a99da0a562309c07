"""Looks after what is sent on another session of a MySQL server than the guard's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from orchestrator.databases import refusals, watching
from orchestrator.databases.base import Guard, Place
from orchestrator.databases.waiting import Waiting
from orchestrator.errors import HALF_APPLIED, TargetError

LOCKED = frozenset({"1205", "3572"})


class Watched:
    """Of one session, by its number on the server: who blocks it, and whether the guard lives."""

    def __init__(self, place: Place, guard: Guard, backend: int) -> None:
        self._guard, self._backend = guard, backend
        self._waiting = Waiting(place.target.tenant, place.target.track)
        self._failure: Exception | None = None
        self._done = False

    async def run(self, send: Callable[[], Awaitable[None]], left: Callable[[], TargetError | None]) -> None:
        """Returns when it is done. When the guard is lost, or this is cancelled, the session is ended on the server,
        and what it sends fails; `left` tells what stays where even that is not heard of."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._watch, tasks.cancel_scope)
                try:
                    await send()
                    self._done = True
                except Exception as exc:  # raised below, and not as a group
                    self._failure = exc
                tasks.cancel_scope.cancel()
        except BaseException:
            await self._guard.end_backends([self._backend])
            raise
        failure = self._failure
        if self._guard.lost.is_set() and failure is None and not self._done:
            failure = left()
        half_applied = isinstance(failure, TargetError) and failure.kind == HALF_APPLIED
        if self._guard.lost.is_set() and not half_applied:
            raise refusals.guard_lost() from failure
        if failure is not None:
            self._name_blocker(failure)
            raise failure

    async def _watch(self, scope: anyio.CancelScope) -> None:
        await watching.lost(self._guard, [self._backend], self._waiting.seen)
        with anyio.move_on_after(watching.ABANDON_SECONDS):
            while True:  # until what is sent has failed for it, which ends this
                await self._guard.end_backends([self._backend])
                await anyio.sleep(0.2)
        scope.cancel()

    def _name_blocker(self, failure: Exception) -> None:
        if not isinstance(failure, TargetError) or failure.code not in LOCKED or not self._waiting.blocker:
            return
        first, line_end, rest = failure.message.partition("\n")
        failure.message = f"{first}; held by {self._waiting.blocker}{line_end}{rest}"
