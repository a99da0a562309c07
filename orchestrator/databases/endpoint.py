"""Asks an HTTP endpoint for tenants: a JSON list of objects."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import anyio
import httpx2

from orchestrator.databases.fetching import answered, body, host_of, trusting
from orchestrator.errors import DiscoveryError
from orchestrator.registry.answers import Row
from orchestrator.registry.model import Discovery

LARGEST_BYTES = 50_000_000
FORM = 'it should answer with a JSON list such as [{"tenant": "acme", "shard": "pg-1", "database": "acme"}]'
_NO_ANSWER = "check that it is up, and that `url` of the entry is right"


async def ask(
    discovery: Discovery, *, seconds: float, transport: httpx2.AsyncBaseTransport | None = None
) -> Sequence[Row]:
    """The objects that the endpoint answers with. Raises DiscoveryError, which names the host and no more of the URL:
    the rest may hold a secret."""
    headers = {"Accept": "application/json"}
    if discovery.token is not None:
        headers["Authorization"] = f"Bearer {discovery.token}"
    host, verify = host_of(discovery.text), await trusting()
    async with (
        httpx2.AsyncClient(headers=headers, timeout=seconds, transport=transport, verify=verify) as client,
        answered(client, "GET", discovery.text, seconds=seconds, error=DiscoveryError, remedy=_NO_ANSWER) as response,
    ):
        if response.status_code != 200:
            raise _refused(host, response.status_code)
        content = await body(response, LARGEST_BYTES)
        if content is None:
            raise DiscoveryError(f"{host} answers with more than {LARGEST_BYTES:,} bytes", remedy=FORM)
        return await anyio.to_thread.run_sync(_rows, host, content)


def _refused(host: str | None, status: int) -> DiscoveryError:
    remedy = "look at the endpoint's log"
    if status in (401, 403):
        remedy = "give the entry a `token` that the endpoint takes"
    elif status == 404 or 300 <= status < 400:
        remedy = "correct `url` of the entry: redirections are not followed"
    return DiscoveryError(f"{host} answered with status {status}", remedy=remedy)


def _rows(host: str | None, content: bytes) -> Sequence[Row]:
    try:
        answer: Any = json.loads(content)
    except (ValueError, RecursionError):
        raise DiscoveryError(f"{host} does not answer with JSON", remedy=FORM) from None
    if not isinstance(answer, list) or not all(isinstance(item, dict) for item in answer):
        raise DiscoveryError(f"{host} does not answer with a list of objects", remedy=FORM)
    return answer
