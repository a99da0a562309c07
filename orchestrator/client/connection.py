"""Questions to one daemon, and what comes back: answers, pages, and our own errors."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypedDict, cast
from urllib.parse import quote

import anyio
import httpx2

from orchestrator.client import problems
from orchestrator.errors import ConfigurationError, DaemonError

Parameters = Mapping[str, str | int | Sequence[str]]

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 60.0
PAGE = 500
# A daemon that is asked too often says for how long to wait: so many times are tried, and no longer waited than this.
PATIENCE, LONGEST_PAUSE_SECONDS = 4, 10
LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
NAME_LIMIT = 100
FORM = "write it like http://127.0.0.1:8080"


class _Page(TypedDict):
    items: list[Any]
    next_cursor: str | None


class Connection:
    """To one daemon; use it in an `async with` block."""

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
        url = address(self.server)
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
        async for item in self._pages(path, {"limit": min(limit or PAGE, PAGE), **parameters}):
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
        for last in (False,) * (PATIENCE - 1) + (True,):
            try:
                answer = await self._http.request(method, path, **content)
            except httpx2.TransportError as exc:
                raise self._unreachable(exc) from exc
            if last or (pause := _asked_to_wait(answer)) is None:
                break
            await anyio.sleep(pause)
        if not answer.is_success:
            raise problems.error(answer.status_code, problem(answer), self.server)
        return answer

    def _unreachable(self, exc: Exception | None) -> DaemonError:
        said = why(exc)
        return DaemonError(
            f"no daemon can be reached at {self.server}" + (f": {said}" if said else ""),
            remedy="start one with `orchestrator serve`, or name another with --server or ORCHESTRATOR_SERVER",
        )


def why(exc: Exception | None) -> str:
    if isinstance(exc, httpx2.TimeoutException):
        return "it gave no answer in time"
    if isinstance(exc, httpx2.RemoteProtocolError | httpx2.ReadError):
        return "it closed the connection"
    return str(exc or "")


def address(server: str) -> httpx2.URL:
    try:
        url = httpx2.URL(server)
    except httpx2.InvalidURL:
        url = httpx2.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigurationError(f"{server!r} is not the address of a daemon", remedy=FORM)
    return url


def place(listing: str, name: str, part: str | None = None) -> str:
    """The path of one thing of a listing, or of a part of it; names come from people's fingers.

    >>> place("rollouts", "a/b", "events")
    '/api/v1/rollouts/a%2Fb/events'
    """
    return f"/api/v1/{listing}/{quote(name, safe='')}" + (f"/{part}" if part else "")


def problem(answer: httpx2.Response) -> Mapping[str, Any] | None:
    """The problem object of an answer, if it is one."""
    try:
        body = answer.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) and "title" in body else None


def _asked_to_wait(answer: httpx2.Response) -> float | None:
    """For how many seconds; None where the answer is another."""
    seconds = answer.headers.get("Retry-After", "")
    if answer.status_code != 429 or not (seconds.isdecimal() and int(seconds) <= LONGEST_PAUSE_SECONDS):
        return None
    return float(seconds)
