"""A daemon, as its HTTP interface shows it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Literal, Self, TypedDict, cast
from urllib.parse import quote

import anyio
import httpx2

from orchestrator.client import problems, shapes
from orchestrator.errors import ConfigurationError, DaemonError

Command = Literal["pause", "resume", "approve", "abort", "retry", "rollback", "skip", "limit", "override"]
Parameters = Mapping[str, str | int | Sequence[str]]

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 60.0
# The daemon sends something at least every 15 seconds, if only a comment.
SILENCE_SECONDS = 45.0
PAGE = 500
PAUSES_SECONDS = (0.2, 0.5, 1.0, 2.0, 4.0, *[8.0] * 10)
# A daemon that is asked too often says for how long to wait: so many times are tried, and no longer waited than this.
PATIENCE, LONGEST_PAUSE_SECONDS = 4, 10
LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
NAME_LIMIT = 100
FORM = "write it like http://127.0.0.1:8080"


class _Page(TypedDict):
    items: list[Any]
    next_cursor: str | None


class Daemon:
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
        tls: ssl.SSLContext | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """`requested_by` is who asks, for the daemon's record; it is left out where a header cannot hold it. `tls`:
        whose certificates we trust, and our own; None for the system's, and none."""
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
            verify=tls or True,
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
        found: list[shapes.Rollout] = []
        parameters: Parameters = {"state": tuple(states), "limit": min(limit or PAGE, PAGE)}
        async for rollout in self._pages("/api/v1/rollouts", parameters):
            if limit is not None and len(found) == limit:
                break
            found.append(rollout)
        return found

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

    async def schedules(self, *, upcoming: int = 3) -> list[shapes.Schedule]:
        """Each with so many of its next runs, and its latest one."""
        answer = await self._ask("GET", "/api/v1/schedules", params={"upcoming": upcoming})
        return cast(list[shapes.Schedule], answer["items"])

    async def schedule(self, name: str, *, upcoming: int = 5, runs: int = 20) -> shapes.Schedule:
        asked = {"upcoming": upcoming, "runs": runs}
        return cast(shapes.Schedule, await self._ask("GET", _schedule(name), params=asked))

    async def switch_schedule(self, name: str, *, enabled: bool) -> shapes.Schedule:
        verb = "enable" if enabled else "disable"
        return cast(shapes.Schedule, await self._ask("POST", f"{_schedule(name)}/{verb}"))

    async def run_schedule(self, name: str) -> shapes.Run:
        """Start it now; what that came to."""
        return cast(shapes.Run, await self._ask("POST", f"{_schedule(name)}/run"))

    async def frozen(self) -> shapes.Freeze:
        return cast(shapes.Freeze, await self._ask("GET", "/api/v1/freeze"))

    async def freeze(self, reason: str) -> shapes.Freeze:
        """Let nothing start any more, on the whole fleet."""
        return cast(shapes.Freeze, await self._ask("POST", "/api/v1/freeze", json={"reason": reason}))

    async def lift_freeze(self) -> shapes.Freeze:
        return cast(shapes.Freeze, await self._ask("DELETE", "/api/v1/freeze"))

    async def registry(self) -> shapes.Registry:
        """How many targets it knows, and how the sources are that name tenants."""
        return cast(shapes.Registry, await self._ask("GET", "/api/v1/registry"))

    async def reload(self) -> shapes.Reloaded:
        """Let the daemon read its registry file again, and ask the sources."""
        return cast(shapes.Reloaded, await self._ask("POST", "/api/v1/registry/reload"))

    async def tokens(self) -> list[shapes.Token]:
        """All of them, without their secrets."""
        return [token async for token in self._pages("/api/v1/tokens", {})]

    async def create_token(self, name: str, role: str, expires_seconds: float | None = None) -> shapes.NewToken:
        """Its secret is in this answer, and nowhere else."""
        asked = {"name": name, "role": role, "expires_seconds": expires_seconds}
        return cast(shapes.NewToken, await self._ask("POST", "/api/v1/tokens", json=asked))

    async def revoke_token(self, token_id: str) -> shapes.Token:
        path = f"/api/v1/tokens/{quote(token_id, safe='')}/revoke"
        return cast(shapes.Token, await self._ask("POST", path))

    async def audit(self, *, after: int = 0) -> AsyncGenerator[dict[str, Any], None]:
        """The entries that follow `after`, oldest first, as they are hashed but for `hash`."""
        async for entry in self._pages("/api/v1/audit", {"after": after}):
            yield entry

    async def events(self, rollout_id: str, *, after: int = 0) -> AsyncIterator[shapes.Event]:
        """The rollout's events that follow `after`, each exactly once, until the rollout has finished.

        A lost connection, and a daemon that restarts, are waited for with growing pauses, about a minute and a half.
        """
        pauses = iter(PAUSES_SECONDS)
        while True:
            try:
                async with self._stream(rollout_id, after) as source:
                    async for sent in source:
                        if sent.event == "closed":
                            if sent.json() and cast(dict[str, Any], sent.json()).get("reason") == "finished":
                                return
                            break
                        after, pauses = int(sent.id), iter(PAUSES_SECONDS)
                        yield shapes.Event(after, sent.event, cast(dict[str, Any], sent.json()))
            except (httpx2.TransportError, DaemonError) as exc:
                await self._pause(pauses, exc)
            else:
                await self._pause(pauses, None)

    async def _pause(self, pauses: Iterator[float], exc: Exception | None) -> None:
        pause = next(pauses, None)
        if pause is None:
            raise exc if isinstance(exc, DaemonError) else self._unreachable(exc)
        await anyio.sleep(pause)

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

    async def _ask(self, method: str, path: str, **content: Any) -> Any:
        for last in (False,) * (PATIENCE - 1) + (True,):
            try:
                answer = await self._http.request(method, path, **content)
            except httpx2.TransportError as exc:
                raise self._unreachable(exc) from exc
            if last or (pause := _asked_to_wait(answer)) is None:
                break
            await anyio.sleep(pause)
        problem = None if answer.is_success else _problem(answer)
        if not answer.is_success:
            raise problems.error(answer.status_code, problem, self.server)
        try:
            return answer.json()
        except ValueError:
            raise problems.error(answer.status_code, None, self.server) from None

    def _unreachable(self, exc: Exception | None) -> DaemonError:
        why = "it gave no answer in time" if isinstance(exc, httpx2.TimeoutException) else str(exc or "")
        return DaemonError(
            f"no daemon can be reached at {self.server}" + (f": {why}" if why else ""),
            remedy="start one with `orchestrator serve`, or name another with --server or ORCHESTRATOR_SERVER",
        )


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


def _schedule(name: str) -> str:
    return f"/api/v1/schedules/{quote(name, safe='')}"


def _asked_to_wait(answer: httpx2.Response) -> float | None:
    """For how many seconds; None where the answer is another."""
    seconds = answer.headers.get("Retry-After", "")
    if answer.status_code != 429 or not (seconds.isdecimal() and int(seconds) <= LONGEST_PAUSE_SECONDS):
        return None
    return float(seconds)


def _problem(answer: httpx2.Response) -> Mapping[str, Any] | None:
    """The problem object of an answer, if it is one."""
    try:
        body = answer.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) and "title" in body else None
