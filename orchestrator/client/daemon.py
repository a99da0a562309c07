"""A daemon, as its HTTP interface shows it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self, TypedDict, cast
from urllib.parse import quote

import anyio
import httpx2

from orchestrator.client import problems, shapes
from orchestrator.client.steering import Command, Steering
from orchestrator.errors import ConfigurationError, DaemonError

Parameters = Mapping[str, str | int | Sequence[str]]

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 60.0
# The daemon sends something at least every 15 seconds, if only a comment.
SILENCE_SECONDS = 45.0
PAGE = 500
# Between attempts to get back to a stream; the last one again and again, for so long as there is patience.
PAUSES_SECONDS = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
PATIENCE_SECONDS = 90.0
# Why a daemon ends a stream that is not over.
_CLOSED = {"stopping": "the daemon is stopping", "unavailable": "the daemon cannot read its store"}
LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
NAME_LIMIT = 100
FORM = "write it like http://127.0.0.1:8080"


class _Page(TypedDict):
    items: list[Any]
    next_cursor: str | None


def _unheard(reason: str | None) -> None:
    pass


class Daemon(Steering):
    """A client of one daemon; use it in an `async with` block.

    Every method raises DaemonError when the daemon cannot be reached or fails, ConfigurationError when it refuses
    what was asked for, NotFoundError, ConflictError (naming the rollout in the way), PlanChangedError and StateError.
    """

    def __init__(
        self,
        server: str,
        *,
        token: str | None = None,
        requested_by: str | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """`requested_by` is who asks, for the daemon's record; it is left out where a header cannot hold it."""
        self.server = server.rstrip("/")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if requested_by and requested_by.isascii() and requested_by.isprintable():
            headers["X-Requested-By"] = requested_by[:NAME_LIMIT]
        timeout = httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
        url = _address(self.server)
        self._http = httpx2.AsyncClient(
            base_url=url,
            headers=headers,
            timeout=timeout,
            transport=transport,
            trust_env=url.host not in LOCAL,  # a proxy for the world cannot reach this machine's own daemon
        )

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, exc, trace)

    async def ready(self) -> bool:
        """Whether the daemon takes work now; False also while nobody answers."""
        try:
            answer = await self._http.get("/readyz")
        except httpx2.TransportError:
            return False
        return answer.is_success

    async def health(self) -> shapes.Health:
        """Whether the process answers; nothing else is looked at."""
        return cast(shapes.Health, await self._ask("GET", "/healthz"))

    async def readiness(self) -> shapes.Health:
        """Whether it leads, and who does. Raises DaemonError, naming what is missing, when it cannot take work."""
        return cast(shapes.Health, await self._ask("GET", "/readyz"))

    async def metrics(self) -> str:
        """In Prometheus' text format."""
        return (await self._answer("GET", "/metrics")).text

    async def openapi(self) -> dict[str, Any]:
        """The description of the interface."""
        return cast(dict[str, Any], await self._ask("GET", "/openapi.json"))

    async def tenant(self, name: str) -> shapes.Tenant:
        return cast(shapes.Tenant, await self._ask("GET", f"/api/v1/tenants/{quote(name, safe='')}"))

    async def shards(self) -> list[shapes.Shard]:
        """The servers, and how many migrations each bears now."""
        return cast(list[shapes.Shard], (await self._ask("GET", "/api/v1/shards"))["items"])

    async def plan(self, asked: shapes.Asked) -> shapes.CompiledPlan:
        """What a rollout would do, with the SQL; `strategy`, `plan_digest` and `dry_run` do not belong here."""
        return cast(shapes.CompiledPlan, await self._ask("POST", "/api/v1/plans", json=asked))

    async def notifications(
        self, *, states: Sequence[str] = (), channels: Sequence[str] = (), limit: int | None = None
    ) -> list[shapes.Notification]:
        """Newest first, at most `limit`."""
        parameters: Parameters = {"state": tuple(states), "channel": tuple(channels), "limit": min(limit or PAGE, PAGE)}
        return await self._first("/api/v1/notifications", parameters, limit)

    async def retry_notification(self, notification_id: str) -> shapes.Notification:
        place = f"/api/v1/notifications/{quote(notification_id, safe='')}/retry"
        return cast(shapes.Notification, await self._ask("POST", place))

    async def tenants(self, *, select: str = "", states: Sequence[str] = ()) -> list[shapes.Tenant]:
        parameters: Parameters = {"select": select, "state": tuple(states)}
        return [tenant async for tenant in self._pages("/api/v1/tenants", parameters)]

    async def start_rollout(self, asked: shapes.Asked, *, idempotency_key: str | None = None) -> shapes.Rollout:
        """With an idempotency key, a repeated call gives the rollout that the first one made."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        answer = await self._ask("POST", "/api/v1/rollouts", json=asked, headers=headers)
        return cast(shapes.Rollout, answer)

    async def preview(self, asked: shapes.Asked) -> shapes.Preview:
        """What `start_rollout` would do; changes nothing."""
        answer = await self._ask("POST", "/api/v1/rollouts", json={**asked, "dry_run": True})
        return cast(shapes.Preview, answer)

    async def rollouts(self, *, states: Sequence[str] = (), limit: int | None = None) -> list[shapes.Rollout]:
        """Newest first, at most `limit`; without their failures."""
        parameters: Parameters = {"state": tuple(states), "limit": min(limit or PAGE, PAGE)}
        return await self._first("/api/v1/rollouts", parameters, limit)

    async def rollout(self, rollout_id: str) -> shapes.Rollout:
        return cast(shapes.Rollout, await self._ask("GET", _place(rollout_id)))

    async def migrations(self, rollout_id: str, *, states: Sequence[str] = ()) -> list[shapes.Migration]:
        """All of them, in the order in which the rollout goes over them."""
        pages = self._pages(_place(rollout_id, "migrations"), {"state": tuple(states)})
        return [migration async for migration in pages]

    async def command(self, rollout_id: str, command: Command, **given: object) -> shapes.Rollout:
        """Steer a rollout; `given` are the fields that the command takes."""
        content = {"json": given} if given else {}
        return cast(shapes.Rollout, await self._ask("POST", _place(rollout_id, command), **content))

    async def registry(self) -> shapes.Registry:
        """How many targets it knows, and how the sources are that name tenants."""
        return cast(shapes.Registry, await self._ask("GET", "/api/v1/registry"))

    async def reload(self) -> shapes.Reloaded:
        """Let the daemon read its registry file again, and ask the sources."""
        return cast(shapes.Reloaded, await self._ask("POST", "/api/v1/registry/reload"))

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
                            why = cast(dict[str, Any], sent.json() or {}).get("reason")
                            if why == "finished":
                                return
                            reason = _CLOSED.get(str(why), reason)
                            break
                        after = int(sent.id)
                        yield shapes.Event(after, sent.event, cast(dict[str, Any], sent.json()))
                error = None
            except httpx2.TransportError as exc:
                error, reason = self._unreachable(exc), _why(exc) or type(exc).__name__
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
        async with self._http.sse(_place(rollout_id, "events"), headers=headers, timeout=timeout) as source:
            if source.response.status_code != 200:
                await source.response.aread()
                raise problems.error(source.response.status_code, _problem(source.response), self.server)
            yield source

    async def _pages(self, path: str, parameters: Parameters) -> AsyncIterator[Any]:
        asked = {"limit": PAGE, **parameters}
        while True:
            page = cast(_Page, await self._ask("GET", path, params=asked))
            for item in page["items"]:
                yield item
            if not page["next_cursor"]:
                return
            asked["cursor"] = page["next_cursor"]

    async def _first(self, path: str, parameters: Parameters, limit: int | None) -> list[Any]:
        """The items of a listing, at most so many."""
        found: list[Any] = []
        async for item in self._pages(path, parameters):
            if limit is not None and len(found) == limit:
                break
            found.append(item)
        return found

    async def _ask(self, method: str, path: str, **content: Any) -> Any:
        answer = await self._answer(method, path, **content)
        try:
            return answer.json()
        except ValueError:
            raise problems.error(answer.status_code, None, self.server) from None

    async def _answer(self, method: str, path: str, **content: Any) -> httpx2.Response:
        try:
            answer = await self._http.request(method, path, **content)
        except httpx2.TransportError as exc:
            raise self._unreachable(exc) from exc
        if not answer.is_success:
            raise problems.error(answer.status_code, _problem(answer), self.server)
        return answer

    def _unreachable(self, exc: Exception | None) -> DaemonError:
        why = _why(exc)
        return DaemonError(
            f"no daemon can be reached at {self.server}" + (f": {why}" if why else ""),
            remedy="start one with `orchestrator serve`, or name another with --server or ORCHESTRATOR_SERVER",
        )


def _why(exc: Exception | None) -> str:
    if isinstance(exc, httpx2.TimeoutException):
        return "it gave no answer in time"
    if isinstance(exc, httpx2.RemoteProtocolError | httpx2.ReadError):
        return "it closed the connection"
    return str(exc or "")


def _address(server: str) -> httpx2.URL:
    try:
        url = httpx2.URL(server)
    except httpx2.InvalidURL:
        url = httpx2.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigurationError(f"{server!r} is not the address of a daemon", remedy=FORM)
    return url


def _place(rollout_id: str, part: str | None = None) -> str:
    """The path of a rollout, or of one of its parts; ids come from people's fingers."""
    return f"/api/v1/rollouts/{quote(rollout_id, safe='')}" + (f"/{part}" if part else "")


def _problem(answer: httpx2.Response) -> Mapping[str, Any] | None:
    """The problem object of an answer, if it is one."""
    try:
        body = answer.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) and "title" in body else None
