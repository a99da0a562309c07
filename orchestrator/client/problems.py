"""From a daemon's refusals to our own errors. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.errors import (
    ConfigurationError,
    ConflictError,
    DaemonError,
    FrozenError,
    NotFoundError,
    OrchestratorError,
    PlanChangedError,
    RequestError,
    StateError,
)

# What the last part of a problem's type says where the status does not say it all.
_HELD = "targets-held"
_CHANGED = "plan-changed"
_FROZEN = "frozen"
_TOKEN = "set ORCHESTRATOR_TOKEN to a token with the role for this"


def error(status: int, body: Mapping[str, Any] | None, server: str) -> OrchestratorError:
    """The error that an answer with `status` stands for; `body` is its problem object, None if it had none."""
    if body is None:
        return _foreign(status, server)
    message, remedy = told(body), body.get("remedy")
    if status == 404:
        return NotFoundError(message, remedy=remedy)
    if status == 409:
        return _conflict(body, message, remedy)
    if status in (401, 403):
        return ConfigurationError(message, remedy=remedy or _TOKEN)
    if status >= 500 or status == 429:
        request = f" (request {body['request_id']})" if body.get("request_id") else ""
        return DaemonError(f"{server}: {message}{request}", remedy=remedy or "try again; the daemon's log says more")
    return (ConfigurationError if status == 422 else RequestError)(message, remedy=remedy)


def told(body: Mapping[str, Any]) -> str:
    """A problem in words, with all the mistakes of a registry that it lists.

    >>> told({"title": "The registry has mistakes.", "mistakes": [{"line": 3, "column": 5, "message": "no"}]})
    'The registry has mistakes.\\n  3:5: no'
    """
    head = str(body.get("detail") or body.get("title") or "the request was refused")
    mistakes = [f"  {m.get('line')}:{m.get('column')}: {m.get('message')}" for m in body.get("mistakes") or ()]
    return head if any(line.strip() in head for line in mistakes) else "\n".join([head, *mistakes])


def _conflict(body: Mapping[str, Any], message: str, remedy: str | None) -> OrchestratorError:
    if str(body.get("type", "")).endswith(_HELD):
        rollout = str(body.get("rollout") or "")
        instead = f"wait for it (orchestrator rollout watch {rollout}) or abort it" if rollout else None
        return ConflictError(message, rollout=rollout, targets=body.get("targets") or (), remedy=remedy or instead)
    if str(body.get("type", "")).endswith(_CHANGED):
        return PlanChangedError(message, differences=body.get("differences") or (), remedy=remedy)
    frozen = str(body.get("type", "")).endswith(_FROZEN)
    return (FrozenError if frozen else StateError)(message, remedy=remedy)


def _foreign(status: int, server: str) -> OrchestratorError:
    """No daemon of ours words an answer like this."""
    if status in (401, 403):
        return ConfigurationError(f"{server} does not let us in (status {status})", remedy=_TOKEN)
    return DaemonError(
        f"{server} answers with status {status}, and not like a daemon",
        remedy="check the address given with --server or ORCHESTRATOR_SERVER, and any proxy on the way",
    )
