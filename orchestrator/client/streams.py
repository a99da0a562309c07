"""A rollout's events, over lost connections and restarts of the daemon."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import anyio
import httpx2

from orchestrator.client import problems, shapes
from orchestrator.client.connection import CONNECT_SECONDS, Connection, place, problem, why
from orchestrator.errors import DaemonError

# The daemon sends something at least every 15 seconds, if only a comment.
SILENCE_SECONDS = 45.0
# Between attempts to get back to a stream; the last one again and again, for so long as there is patience.
PAUSES_SECONDS = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
PATIENCE_SECONDS = 90.0
# Why a daemon ends a stream that is not over.
_CLOSED = {"stopping": "the daemon is stopping", "unavailable": "the daemon cannot read its store"}


def _unheard(reason: str | None) -> None:
    pass


class Streams(Connection):
    """A connection that follows rollouts."""

    async def events(
        self,
        rollout_id: str,
        *,
        after: int = 0,
        patience_seconds: float = PATIENCE_SECONDS,
        on_link: Callable[[str | None], object] = _unheard,
    ) -> AsyncGenerator[shapes.Event, None]:
        """The rollout's events that follow `after`, each exactly once, until the rollout has finished.

        A lost connection, and a daemon that restarts, are waited for with growing pauses, `patience_seconds` in all;
        then DaemonError is raised. `on_link` is told why the connection was lost, and None when it is there again.
        """
        lost_at: float | None = None
        attempts = 0
        while True:
            try:
                async with self._stream(rollout_id, after) as source:
                    if lost_at is not None:
                        on_link(None)
                    lost_at, attempts, reason = None, 0, "the stream ended"
                    async for sent in source:
                        if sent.event == "closed":
                            ended = cast(dict[str, Any], sent.json() or {}).get("reason")
                            if ended == "finished":
                                return
                            reason = _CLOSED.get(str(ended), reason)
                            break
                        after = int(sent.id)
                        yield shapes.Event(after, sent.event, cast(dict[str, Any], sent.json()))
                error = None
            except httpx2.TransportError as exc:
                error, reason = self._unreachable(exc), why(exc) or type(exc).__name__
            except DaemonError as exc:
                error, reason = exc, exc.message
            moment = anyio.current_time()
            if lost_at is None:
                lost_at = moment
                on_link(reason)
            if moment - lost_at >= patience_seconds:
                raise error or self._unreachable(None)
            await anyio.sleep(PAUSES_SECONDS[min(attempts, len(PAUSES_SECONDS) - 1)])
            attempts += 1

    @asynccontextmanager
    async def _stream(self, rollout_id: str, after: int) -> AsyncIterator[httpx2.EventSource]:
        timeout = httpx2.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS)
        headers = {"Last-Event-ID": str(after)}
        async with self._http.sse(place("rollouts", rollout_id, "events"), headers=headers, timeout=timeout) as source:
            if source.response.status_code != 200:
                await source.response.aread()
                raise problems.error(source.response.status_code, problem(source.response), self.server)
            yield source
