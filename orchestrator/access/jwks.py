"""The keys of an identity provider (RFC 7517), from a file or a URL, and when they are asked for again.

They are asked for every ten minutes, beside the requests, so that a key that was withdrawn ends to count. A provider
may use a new key before that: an unknown key id asks again, but not more often than every 30 seconds, or whoever sends
nonsense would have us ask without end. Keys that could not be renewed for a day no longer count.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import httpx2
import structlog

from orchestrator.access import addresses
from orchestrator.errors import ConfigurationError, UnavailableError

FETCH_SECONDS = 5.0
PAUSE_SECONDS = 30.0
RENEW_SECONDS = 600.0
STALE_SECONDS = 86_400.0
LARGEST_BYTES = 1024 * 1024
ASYMMETRIC = frozenset({"RSA", "EC", "OKP"})

Keys = Mapping[str, Mapping[str, Any]]

log = structlog.get_logger(__name__)


def usable(document: Any) -> Keys:
    """The keys that may verify a signature, by their ids; "" where one has none. Raises ValueError.

    A symmetric key in a public document is a secret that everybody has: it is left out.

    >>> list(usable({"keys": [{"kty": "RSA", "kid": "a"}, {"kty": "oct", "kid": "b"}]}))
    ['a']
    """
    found = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(found, list):
        raise ValueError("it is no key set: it has no list `keys`")
    return {
        str(key.get("kid") or ""): key
        for key in found
        if isinstance(key, dict) and key.get("kty") in ASYMMETRIC and key.get("use", "sig") == "sig"
    }


def source(place: str) -> str | Path:
    """A URL as text, or a file. Raises ConfigurationError for a URL that anybody on the way could answer."""
    parts = urlsplit(place)
    if parts.scheme in ("http", "https") and parts.hostname:
        if parts.scheme == "http" and not addresses.names_loopback(parts.hostname):
            raise ConfigurationError(
                "ORCHESTRATOR_OIDC_JWKS: keys that come over http can be anybody's", remedy="use https, or a file"
            )
        return place
    return Path(place.removeprefix("file://"))


class KeySet:
    """The provider's keys as they were last read."""

    def __init__(
        self,
        place: str,
        *,
        clock: Callable[[], float] = anyio.current_time,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._source, self._clock, self._transport = source(place), clock, transport
        self._keys: Keys = {}
        self._read_at = self._asked_at = float("-inf")
        self._lock = anyio.Lock()

    async def key(self, kid: str | None) -> Mapping[str, Any] | None:
        """The key of that id, or the only one where the token names none. None: there is none.

        Asks the provider only where no key is known that counts. Raises UnavailableError while no keys are known.
        """
        if self._age() > STALE_SECONDS or self._pick(kid) is None:
            await self._renew()
        found = self._pick(kid)
        if self._age() > STALE_SECONDS:
            raise UnavailableError(
                "the keys of the identity provider are not known",
                remedy="see the daemon's log, and ORCHESTRATOR_OIDC_JWKS; tokens of its own count meanwhile",
            )
        return found

    async def watch(self) -> None:
        """Ask for the keys, for ever: at once, every ten minutes, and every 30 seconds where that fails."""
        while True:
            try:
                await self._renew()
            except Exception:  # of whatever kind: no provider's answer may end the daemon
                log.exception("oidc_keys_crashed", url=str(self._source))
            await anyio.sleep(RENEW_SECONDS if self._age() < PAUSE_SECONDS else PAUSE_SECONDS)

    def _age(self) -> float:
        return self._clock() - self._read_at

    def _pick(self, kid: str | None) -> Mapping[str, Any] | None:
        if kid is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(kid)

    async def _renew(self) -> None:
        """Ask, unless somebody has just done so."""
        async with self._lock:
            if self._clock() - self._asked_at < PAUSE_SECONDS:
                return
            self._asked_at = self._clock()
            try:
                self._keys = usable(json.loads(await self._content()))
                self._read_at = self._clock()
            except (OSError, ValueError, httpx2.HTTPError, TimeoutError) as exc:
                log.warning("oidc_keys_not_read", url=str(self._source), error=type(exc).__name__, message=str(exc))

    async def _content(self) -> bytes:
        if isinstance(self._source, Path):
            return await anyio.to_thread.run_sync(self._source.read_bytes, abandon_on_cancel=True)
        with anyio.fail_after(FETCH_SECONDS):
            async with (
                httpx2.AsyncClient(transport=self._transport, timeout=FETCH_SECONDS) as client,
                client.stream("GET", self._source) as answer,
            ):
                if answer.status_code != 200:
                    raise ValueError(f"the answer has status {answer.status_code}")
                content = b""
                async for part in answer.aiter_bytes():
                    content += part
                    if len(content) > LARGEST_BYTES:
                        raise ValueError(f"the answer has more than {LARGEST_BYTES} bytes")
                return content
