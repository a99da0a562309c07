"""What endpoints are handed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import anyio
from fastapi import Depends, Header, Request

from orchestrator.access import acts, callers
from orchestrator.access.callers import Caller
from orchestrator.api import ports
from orchestrator.api.access import Access, Stranger
from orchestrator.errors import ForbiddenError
from orchestrator.registry.model import Target

# Reads a label selector, "" for all targets; raises SelectorError.
Selecting = Callable[[str], Callable[[Target], bool]]


RequestedBy = Annotated[
    str | None,
    Header(
        alias="X-Requested-By",
        min_length=1,
        max_length=100,
        pattern=r"^[\x20-\x7e]+$",
        description="Who asks, for the record. Who brings a token is known by that, whatever is said here.",
    ),
]


async def _service(request: Request) -> Any:
    return request.app.state.orchestrator


async def _select(request: Request) -> Any:
    return request.app.state.select


async def _stopping(request: Request) -> Any:
    return request.app.state.stopping


async def _client(request: Request, requested_by: RequestedBy = None) -> str:
    """Who asks: as their token proves, or, while nobody needs one, as they say themselves."""
    caller: Caller | None = getattr(request.state, "caller", None)
    return caller.name if caller is not None else callers.unproved(requested_by)


async def _access(request: Request) -> Any:
    if request.app.state.access is None:
        raise ForbiddenError("this daemon has no tokens and no audit")
    return request.app.state.access


async def _still_admitted(request: Request) -> Callable[[], Awaitable[bool]]:
    """Asks whether whoever opened a stream would still be let in, as the same."""
    access: Access | None = request.app.state.access
    before: Caller | None = getattr(request.state, "caller", None)

    async def asked() -> bool:
        if access is None:
            return True
        try:
            return await access.caller(request.scope) == before
        except Stranger:
            return False

    return asked


def changes_nothing() -> None:
    """Tell the audit that this request, although it could have, changes nothing."""
    if (act := acts.pending()) is not None:
        act.settle()


Service = Annotated[ports.Orchestrator, Depends(_service)]
Select = Annotated[Selecting, Depends(_select)]
Stopping = Annotated[anyio.Event, Depends(_stopping)]
Client = Annotated[str, Depends(_client)]
Guarding = Annotated[Access, Depends(_access)]
Admitted = Annotated[Callable[[], Awaitable[bool]], Depends(_still_admitted)]
