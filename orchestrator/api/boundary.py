"""What every request passes on its way in, and every unexpected error on its way out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from urllib.parse import quote, urlsplit

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.api import problems
from orchestrator.api.rates import Buckets, client_of
from orchestrator.observe import requests

MAX_BODY_BYTES = 1024 * 1024
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# What watches the daemon asks often, and must be answered above all when somebody else asks too much.
UNLIMITED = frozenset({"/healthz", "/readyz", "/metrics"})
REQUEST_ID = "X-Request-ID"

log = structlog.get_logger(__name__)


def refusal(method: str, headers: Headers, limit_bytes: int) -> problems.Problem | None:
    """Why a request is turned away before its body is read, from its head alone.

    A browser says where a request comes from; without this, any page that an operator has open could abort the
    rollouts of a daemon on their machine.
    """
    if method in SAFE_METHODS:
        return None
    if not _is_of_ours(headers):
        return problems.problem(problems.CROSS_SITE, "the request was sent by a page of another site")
    length = headers.get("content-length", "0")
    if length.isdecimal() and int(length) > limit_bytes:
        return too_large(limit_bytes)
    has_body = length != "0" or "transfer-encoding" in headers
    if has_body and not _is_json(headers.get("content-type", "")):
        return problems.problem(
            problems.UNSUPPORTED_TYPE,
            "the body is not said to be JSON",
            remedy="send the header `Content-Type: application/json`",
        )
    return None


def _is_of_ours(headers: Headers) -> bool:
    """Whether no page of another site has sent it, as far as the browser tells: where it reaches us without TLS, and
    not as localhost, it tells only the origin.

    >>> _is_of_ours(Headers({"origin": "http://db:8080", "host": "db:8080"}))
    True
    >>> _is_of_ours(Headers({"origin": "http://evil.example", "host": "db:8080"}))
    False
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site != "none":
        return site == "same-origin"
    return origin is None or _place(origin) == _place(f"{origin.partition(':')[0]}://{headers.get('host', '')}")


def _place(origin: str) -> tuple[str | None, int | None] | str:
    """Host and port of an origin; what is none, as it stands."""
    try:
        found = urlsplit(origin)
        port = found.port or {"http": 80, "https": 443}.get(found.scheme)
    except ValueError:
        return origin
    return (found.hostname, port) if found.hostname else origin


def too_large(limit_bytes: int) -> problems.Problem:
    return problems.problem(problems.TOO_LARGE, f"the body may have {limit_bytes} bytes")


def _is_json(content_type: str) -> bool:
    """
    >>> _is_json("application/JSON; charset=utf-8"), _is_json("text/json"), _is_json("")
    (True, False, False)
    """
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


class Boundary:
    """ASGI middleware: gives each request its id, refuses, limits bodies that do not tell their length, and answers for
    bugs."""

    def __init__(
        self,
        app: ASGIApp,
        buckets: Buckets | None = None,
        limit_bytes: int = MAX_BODY_BYTES,
        address: Callable[[Scope], str | None] | None = None,
    ) -> None:
        """`address` tells where a request comes from; without it, whoever has the connection."""
        self._app, self._buckets, self._limit_bytes = app, buckets or Buckets(0), limit_bytes
        self._address = address or _peer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = requests.chosen(headers.get(REQUEST_ID))
        client = self._address(scope)
        with requests.answering(request_id):
            answer = _Answer(scope, send, request_id, client)
            try:
                refused = self._too_often(scope, client) or refusal(scope["method"], headers, self._limit_bytes)
                if refused is not None:
                    await problems.answer(refused)(scope, receive, answer.send)
                else:
                    await self._answer(scope, _limited(receive, self._limit_bytes), answer)
            finally:
                answer.tell()

    def _too_often(self, scope: Scope, client: str | None) -> problems.Problem | None:
        if scope["path"] in UNLIMITED:
            return None
        wait = self._buckets.take(client_of(client))
        if not wait:
            return None
        return problems.problem(
            problems.TOO_OFTEN,
            f"a client may ask {self._buckets.per_second:g} times a second",
            remedy="ask again after the seconds that the header `Retry-After` says",
            retry_after_seconds=math.ceil(wait),
        )

    async def _answer(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        try:
            await self._app(scope, receive, answer.send)
        except Exception:
            if answer.status is not None:  # nothing can be said any more; the server logs it and closes the connection
                raise
            log.exception("request_failed", method=scope["method"], path=quote(scope["path"]))
            bug = problems.problem(problems.UNEXPECTED, "this is a bug; the daemon's log has the details")
            await problems.answer(bug)(scope, receive, answer.send)


class _Answer:
    """One answer on its way out: `status` once it has begun."""

    def __init__(self, scope: Scope, send: Send, request_id: str, client: str | None) -> None:
        self._scope, self._send, self._request_id, self._client = scope, send, request_id, client
        self._began = time.monotonic()
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers[REQUEST_ID] = self._request_id
            headers["X-Content-Type-Options"] = "nosniff"
        await self._send(message)

    def tell(self) -> None:
        """A line in the log for each request that was to change something."""
        if self._scope["method"] in SAFE_METHODS:
            return
        log.info(
            "request_answered",
            method=self._scope["method"],
            path=quote(self._scope["path"]),  # its line breaks must not become the log's
            status=self.status,
            client=self._client,
            seconds=round(time.monotonic() - self._began, 3),
        )


def _peer(scope: Scope) -> str | None:
    client: tuple[str, int] | None = scope.get("client")
    return client[0] if client else None


def _limited(receive: Receive, limit_bytes: int) -> Receive:
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit_bytes:
            raise HTTPException(problems.TOO_LARGE.status, f"the body may have {limit_bytes} bytes")
        return message

    return counted
