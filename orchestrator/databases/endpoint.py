"""Asks an HTTP endpoint for tenants: a JSON list of objects."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx2

from orchestrator.errors import DiscoveryError
from orchestrator.registry.answers import Row
from orchestrator.registry.model import Discovery

LARGEST_BYTES = 50_000_000
FORM = 'it should answer with a JSON list such as [{"tenant": "acme", "shard": "pg-1", "database": "acme"}]'


async def ask(
    discovery: Discovery, *, seconds: float, transport: httpx2.AsyncBaseTransport | None = None
) -> Sequence[Row]:
    """The objects that the endpoint answers with. Raises DiscoveryError, which names the host and no more of the URL:
    the rest may hold a secret."""
    headers = {"Accept": "application/json"}
    if discovery.token is not None:
        headers["Authorization"] = f"Bearer {discovery.token}"
    host = urlsplit(discovery.text).hostname
    try:
        with anyio.fail_after(seconds):
            async with (
                httpx2.AsyncClient(headers=headers, timeout=seconds, transport=transport) as client,
                client.stream("GET", discovery.text) as response,
            ):
                if response.status_code != 200:
                    raise _refused(host, response.status_code)
                return await anyio.to_thread.run_sync(_rows, host, await _body(host, response))
    except (TimeoutError, httpx2.TimeoutException) as exc:
        raise DiscoveryError(f"{host} gave no whole answer within {seconds:g} s", remedy="look at its load") from exc
    except (httpx2.HTTPError, httpx2.InvalidURL) as exc:
        raise DiscoveryError(
            f"{host} cannot be asked: {exc or type(exc).__name__}",
            remedy="check that it is up, and that `url` of the entry is right",
        ) from exc


def _refused(host: str | None, status: int) -> DiscoveryError:
    remedy = "look at the endpoint's log"
    if status in (401, 403):
        remedy = "give the entry a `token` that the endpoint takes"
    elif status == 404 or 300 <= status < 400:
        remedy = "correct `url` of the entry: redirections are not followed"
    return DiscoveryError(f"{host} answered with status {status}", remedy=remedy)


async def _body(host: str | None, response: httpx2.Response) -> bytes:
    content = bytearray()
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > LARGEST_BYTES:
            raise DiscoveryError(f"{host} answers with more than {LARGEST_BYTES:,} bytes", remedy=FORM)
    return bytes(content)


def _rows(host: str | None, content: bytes) -> Sequence[Row]:
    try:
        answer: Any = json.loads(content)
    except (ValueError, RecursionError):
        raise DiscoveryError(f"{host} does not answer with JSON", remedy=FORM) from None
    if not isinstance(answer, list) or not all(isinstance(item, dict) for item in answer):
        raise DiscoveryError(f"{host} does not answer with a list of objects", remedy=FORM)
    return answer
