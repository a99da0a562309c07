"""What endpoints are handed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import anyio
from fastapi import Depends, Request

from orchestrator.api import ports
from orchestrator.registry.model import Target

# Reads a label selector, "" for all targets; raises SelectorError.
Selecting = Callable[[str], Callable[[Target], bool]]


async def _service(request: Request) -> Any:
    return request.app.state.orchestrator


async def _select(request: Request) -> Any:
    return request.app.state.select


async def _stopping(request: Request) -> Any:
    return request.app.state.stopping


async def _client(request: Request) -> str:
    """Who asks. Until there are tokens, all that is known is the way they came."""
    return "http"


Service = Annotated[ports.Orchestrator, Depends(_service)]
Select = Annotated[Selecting, Depends(_select)]
Stopping = Annotated[anyio.Event, Depends(_stopping)]
Client = Annotated[str, Depends(_client)]
