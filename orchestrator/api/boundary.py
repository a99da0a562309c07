"""What every request passes on its way in, and every unexpected error on its way out."""

from __future__ import annotations

import structlog
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.api import problems

MAX_BODY_BYTES = 1024 * 1024
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

log = structlog.get_logger(__name__)


def refusal(method: str, headers: Headers, limit_bytes: int) -> problems.Problem | None:
    """Why a request is turned away before its body is read, from its head alone.

    A browser says where a request comes from; without this, any page that an operator has open could abort the
    rollouts of a daemon on their machine.
    """
    if method not in SAFE_METHODS and headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return problems.problem(problems.CROSS_SITE, "the request was sent by a page of another site")
    length = headers.get("content-length", "0")
    if length.isdecimal() and int(length) > limit_bytes:
        return problems.problem(problems.TOO_LARGE, f"the body may have {limit_bytes} bytes")
    return None


class Boundary:
    """ASGI middleware: refuses, limits bodies that do not tell their length, and answers for bugs."""

    def __init__(self, app: ASGIApp, limit_bytes: int = MAX_BODY_BYTES) -> None:
        self._app, self._limit_bytes = app, limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif refused := refusal(scope["method"], Headers(scope=scope), self._limit_bytes):
            await problems.answer(refused)(scope, receive, send)
        else:
            await self._answer(scope, _limited(receive, self._limit_bytes), send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:
            if started:  # nothing can be said any more; the server logs it and closes the connection
                raise
            log.exception("request_failed", method=scope["method"], path=scope["path"])
            bug = problems.problem(problems.UNEXPECTED, "this is a bug; the daemon's log has the details")
            await problems.answer(bug)(scope, receive, send)


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
