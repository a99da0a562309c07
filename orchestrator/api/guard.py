"""Lets in who proves who they are, and has the audit hear of what they change, and of what they may not."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import anyio
import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.access import acts, callers
from orchestrator.access.acts import Act, Pending
from orchestrator.access.callers import Caller
from orchestrator.access.flood import Bound
from orchestrator.api import access as accesses
from orchestrator.api import problems
from orchestrator.api.access import Access, Stranger
from orchestrator.api.boundary import SAFE_METHODS
from orchestrator.errors import OrchestratorError, StoreError
from orchestrator.observe import redact, requests

# Of a body that is recorded; with one that is longer, or nested more deeply, only the rest is.
LONGEST_BODY, DEEPEST_BODY = 16_384, 100
_RECORDED = frozenset({401, 403, 409})

log = structlog.get_logger(__name__)


class Guard:
    """ASGI middleware, around the routes. Sets `caller` and `act` in the request's state."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access
        self._bound = Bound()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        changing = scope["method"] not in SAFE_METHODS
        try:
            caller = await self._access.caller(scope)
        except Stranger as exc:
            if changing:
                await self._refused(self._pending(scope), 401, str(exc) or "no token")
            told, headers = accesses.unauthenticated(str(exc))
            await problems.answer(told, headers)(scope, receive, send)
            return
        except OrchestratorError as exc:
            await problems.of(exc)(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller
        if changing:
            await self._record(scope, receive, send, caller)
        else:
            await self._app(scope, receive, send)

    async def _record(self, scope: Scope, receive: Receive, send: Send, caller: Caller) -> None:
        """Serve a request that may change something: the audit hears of it with the change, or at the end."""
        heard, status = _Heard(receive), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                await self._ended(scope, act, status)  # before the answer: who is told that it is done can rely on it
            await send(message)

        with acts.acting(self._pending(scope, caller, heard)) as act:
            scope["state"]["act"] = act
            try:
                await self._app(scope, heard, watched)
            except Exception:
                await self._ended(scope, act, 500)
                raise

    async def _ended(self, scope: Scope, act: Pending, status: int) -> None:
        """What no change has recorded: what was done elsewhere, what was refused, what failed."""
        if act.settled or status == 404:
            return
        if status >= 500:
            await self._note(act.ended("failed", f"status {status}"))
        elif status in _RECORDED:
            await self._refused(act, status, f"status {status}")
        elif status < 400:
            await self._note(act)

    async def _refused(self, act: Pending, status: int, reason: str) -> None:
        """Record that something was refused, unless there were too many of those."""
        said = act.act()
        left_out = self._bound.admit(f"{said.address} {said.by}", str(status), anyio.current_time())
        if left_out is not None:
            told = f"{reason} ({left_out} refusals before were not recorded)" if left_out else reason
            await self._note(act.ended("refused", told))

    async def _note(self, act: Pending) -> None:
        """What was refused or has failed is answered as such, also where that cannot be recorded."""
        try:
            await self._access.audit.note(act)
        except StoreError as exc:
            said = act.act()
            log.warning("not_audited", action=said.action, by=said.by, outcome=said.outcome, message=exc.message)

    def _pending(self, scope: Scope, caller: Caller | None = None, heard: _Heard | None = None) -> Pending:
        """What is asked for. The store's writer has it described, in its own task: so the request's id is read here."""
        asked = requests.current()
        return Pending(lambda: self._act(scope, caller, heard.body if heard else b"", asked))

    def _act(self, scope: Scope, caller: Caller | None, body: bytes, asked: str | None) -> Act:
        headers = Headers(scope=scope)
        said = headers.get("x-requested-by")
        parameters = dict(scope.get("path_params") or {})
        return Act(
            action=_operation(scope) or redact.text(f"{scope['method']} {scope['path']}"[:200]),
            by=caller.name if caller is not None else callers.ANYBODY,
            role=caller.role if caller is not None and caller.proved else None,
            address=self._access.address(scope),
            remark=said[:100] if said and (caller is None or caller.proved) else None,
            request=asked,
            rollout=parameters.pop("rollout_id", None),
            details={**parameters, **_details(body)},
        )


class _Heard:
    """A request's body, as the application has read it."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.body = b""

    async def __call__(self) -> Message:
        message = await self._receive()
        if len(self.body) <= LONGEST_BODY:
            self.body += message.get("body", b"")
        return message


def _operation(scope: Scope) -> str | None:
    """The operation that a request has been found to ask for."""
    name = getattr(scope.get("route"), "name", None)
    return name if isinstance(name, str) else None


def _details(body: bytes) -> Mapping[str, Any]:
    """What a request says, without secrets and without what says nothing."""
    if not body or len(body) > LONGEST_BODY or body.count(b"[") + body.count(b"{") > DEEPEST_BODY:
        return {}
    try:
        found = json.loads(body, parse_constant=str, parse_float=_number)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    shown = redact.value({name: value for name, value in found.items() if value not in (None, "", False)})
    return shown if isinstance(shown, dict) else {}


def _number(text: str) -> float | str:
    """A number as JSON can hold it again: 1e999 is none."""
    found = float(text)
    return found if math.isfinite(found) else text
