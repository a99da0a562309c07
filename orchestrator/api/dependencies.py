"""What endpoints are handed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import anyio
from fastapi import Depends, Header, Request

from orchestrator.api import ports
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
        description="Who asks, for the record, and for strategies that want another pair of eyes.",
    ),
]


async def _service(request: Request) -> Any:
    return request.app.state.orchestrator


async def _select(request: Request) -> Any:
    return request.app.state.select


async def _stopping(request: Request) -> Any:
    return request.app.state.stopping


async def _client(requested_by: RequestedBy = None) -> str:
    """Who asks, as they say themselves: until there are tokens, nobody proves it."""
    return requested_by or "http"


Service = Annotated[ports.Orchestrator, Depends(_service)]
Select = Annotated[Selecting, Depends(_select)]
Stopping = Annotated[anyio.Event, Depends(_stopping)]
Client = Annotated[str, Depends(_client)]
