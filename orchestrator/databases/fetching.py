"""Asks over HTTP, in bounded time."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import anyio
import httpx2

from orchestrator.errors import OrchestratorError


def host_of(url: str) -> str | None:
    """What messages call a URL: the rest of it may hold a secret."""
    return urlsplit(url).hostname


async def trusting() -> ssl.SSLContext:
    """What verifies certificates, by SSL_CERT_FILE and SSL_CERT_DIR where they are set. It reads all authorities, for
    some 50 ms: in a thread, since a client would do so in the event loop."""
    return await anyio.to_thread.run_sync(httpx2.create_ssl_context)


@asynccontextmanager
async def answered(
    client: httpx2.AsyncClient,
    method: str,
    url: str,
    *,
    seconds: float,
    error: type[OrchestratorError],
    remedy: str,
    form: Mapping[str, str] | None = None,
) -> AsyncIterator[httpx2.Response]:
    """The answer, of which nothing is read yet; reading it must end within the `seconds` as well, however it drips.

    Raises `error`, with the remedy where nothing answers.
    """
    host = host_of(url)
    try:
        with anyio.fail_after(seconds):
            async with client.stream(method, url, data=form) as response:
                yield response
    except (TimeoutError, httpx2.TimeoutException) as exc:
        raise error(f"{host} gave no whole answer within {seconds:g} s", remedy="look at its load") from exc
    except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as exc:
        raise error(f"{host} cannot be asked: {exc or type(exc).__name__}", remedy=remedy) from exc


async def body(response: httpx2.Response, most_bytes: int) -> bytes | None:
    """The whole of the answer; None when it is larger than that."""
    content = bytearray()
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > most_bytes:
            return None
    return bytes(content)
