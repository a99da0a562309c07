"""A command's outcome as the store keeps it: errors as plain values, and back. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.errors import (
    ConfigurationError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    OrchestratorError,
    RequestError,
    StateError,
    UnavailableError,
)

Error = Mapping[str, Any]
KINDS: Mapping[str, type[OrchestratorError]] = {
    cls.__name__: cls
    for cls in (
        NotFoundError,
        ConflictError,
        ForbiddenError,
        StateError,
        RequestError,
        ConfigurationError,
        UnavailableError,
    )
}

LOST: Error = {
    "kind": UnavailableError.__name__,
    "message": "the leader was lost while it carried out the command: it may be done, or not",
    "remedy": "look at the rollout, and ask again if it is not",
}
BUG: Error = {
    "kind": UnavailableError.__name__,
    "message": "something unexpected went wrong in the leader",
    "remedy": "this is a bug: please report it with the leader's log, then look at the rollout",
}


def told(error: OrchestratorError) -> Error:
    """The error as values, as the nearest of `KINDS`.

    >>> told(StateError("it has ended", remedy="start another"))
    {'kind': 'StateError', 'message': 'it has ended', 'remedy': 'start another'}
    """
    kind = next((cls.__name__ for cls in type(error).__mro__ if cls.__name__ in KINDS), None)
    if kind is None:
        return BUG
    values: dict[str, Any] = {"kind": kind, "message": error.message, "remedy": error.remedy}
    if isinstance(error, ConflictError):
        values |= {"rollout": error.rollout, "targets": list(error.targets)}
    return values


def raised(values: Error) -> OrchestratorError:
    """The error that `told` told of.

    >>> str(raised({"kind": "NotFoundError", "message": "there is no rollout r1"}))
    'there is no rollout r1'
    """
    message, remedy = values.get("message"), values.get("remedy")
    if values["kind"] == ConflictError.__name__:
        return ConflictError(message or "", rollout=values["rollout"], targets=values["targets"], remedy=remedy)
    return KINDS.get(values["kind"], UnavailableError)(message, remedy=remedy)
