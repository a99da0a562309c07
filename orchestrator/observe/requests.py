"""The id of the request that is being answered: in its answer, in a problem, and in the lines of the log."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from structlog.typing import EventDict, WrappedLogger

FORM = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


@dataclass(slots=True)
class _Asked:
    id: str
    open: bool = True


_asked: ContextVar[_Asked | None] = ContextVar("request", default=None)


def chosen(given: str | None) -> str:
    """The id that the client gave, if it is well-formed, or else a new one.

    >>> chosen("deploy-7/2")
    'deploy-7/2'
    >>> len(chosen("two words"))
    32
    """
    return given if given is not None and FORM.fullmatch(given) else uuid.uuid4().hex


@contextmanager
def answering(request_id: str) -> Iterator[None]:
    """Everything in this block belongs to the request; what it started and outlives it, say a rollout, does not."""
    asked = _Asked(request_id)
    token = _asked.set(asked)
    try:
        yield
    finally:
        asked.open = False
        _asked.reset(token)


def current() -> str | None:
    """The id of the request that is being answered here; None outside of one."""
    asked = _asked.get()
    return asked.id if asked is not None and asked.open else None


def add(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The processor that names the request in a line of the log."""
    if (request_id := current()) is not None:
        event.setdefault("request_id", request_id)
    return event
