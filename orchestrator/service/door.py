"""Who is let in: tokens of the store and of a file, and those of an identity provider."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import anyio
import anyio.to_thread
import structlog

from orchestrator.access import addresses, oidc, roles, tokens
from orchestrator.access.callers import Caller
from orchestrator.access.file import TokensFile
from orchestrator.access.jwks import KeySet
from orchestrator.access.tokens import Token
from orchestrator.api.access import Stranger
from orchestrator.errors import ConfigurationError, StoreError
from orchestrator.events import now
from orchestrator.settings import Settings
from orchestrator.store.tokens import StoreTokens

# So often is it written when tokens were used last: never while somebody waits.
USES_SECONDS = 60.0

_LOCKED = (
    "a leader of this store has a tokens file or an identity provider, and this daemon has none: give it the same, or "
    "make a token for all daemons with `orchestrator token create`"
)

log = structlog.get_logger(__name__)

_REASONS: Mapping[tokens.Refusal, str] = {
    "unknown": "the token is not known",
    "expired": "the token has expired",
    "revoked": "the token was revoked",
}


class Door:
    """Implements `api.access.Door`.

    It is open, to anybody, only as long as nobody can have a token: there never was one in the store, and neither a
    tokens file nor an identity provider is configured, nor ever was for a leader of the store. So the last token's end
    locks it, and does not open it, and a daemon that was given less than the others lets nobody in.
    """

    def __init__(
        self,
        store: StoreTokens,
        file: TokensFile | None = None,
        verifier: oidc.Verifier | None = None,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._store, self._file, self._verifier, self._clock = store, file, verifier, clock
        self._closed = self._configured = file is not None or verifier is not None
        self._uses: dict[str, datetime] = {}

    async def closed(self) -> bool:
        """Whether everybody must prove who they are. Raises StoreError."""
        if not self._closed:
            reason = await self._store.closed_by()
            self._closed = reason is not None
            if reason == "leader":
                log.warning("door_closed_by_leader", remedy=_LOCKED)
        return self._closed

    async def lead(self) -> None:
        """Have the store know that our door is closed, so that no other daemon's is open. Raises StoreError."""
        if self._configured:
            await self._store.close(self._clock())

    async def admit(self, bearer: str) -> Caller:
        """Who has this token. Raises Stranger, and UnavailableError when that cannot be told now."""
        token_id = tokens.id_of(bearer)
        if token_id is None:
            return await self._of_provider(bearer)
        judged = tokens.judged(bearer, await self._find(token_id), self._clock())
        if not isinstance(judged, Token):
            raise Stranger(_REASONS[judged])
        self._uses[token_id] = self._clock()
        return judged.caller

    async def listed(self, *, after: str = "", limit: int = 10_000) -> Sequence[Token]:
        """The tokens of the store and of the file, by id; the file's entry where both have one."""
        uses = await self._store.uses()
        filed = {
            token.id: replace(token, last_used_at=uses.get(token.id))
            for token in ((await self._file.current()).values() if self._file else ())
            if token.id > after
        }
        stored = {token.id: token for token in await self._store.all(after=after, limit=limit)}
        merged = {**stored, **filed}
        return [merged[token_id] for token_id in sorted(merged)][:limit]

    async def add(self, token: Token) -> None:
        await self._store.add(token)

    async def revoke(self, token_id: str, *, by: str) -> Token:
        return await self._store.revoke(token_id, by=by, at=self._clock())

    def is_filed(self, token_id: str) -> bool:
        return self._file is not None and token_id in self._file.known

    async def watch(self) -> None:
        """Keep what an identity provider tells new, for ever."""
        if self._verifier is not None:
            await self._verifier.watch()

    async def record_uses(self) -> None:
        """Write for ever, at intervals, when tokens were used last."""
        while True:
            await anyio.sleep(USES_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Write when tokens were used last; what cannot be written is left to the next time."""
        uses, self._uses = self._uses, {}
        if not uses:
            return
        try:
            await self._store.used(uses)
        except StoreError as exc:
            self._uses = {**uses, **self._uses}
            log.warning("token_uses_not_recorded", message=exc.message)

    async def _find(self, token_id: str) -> Token | None:
        if self._file is not None and (found := (await self._file.current()).get(token_id)) is not None:
            return found
        return await self._store.find(token_id)

    async def _of_provider(self, bearer: str) -> Caller:
        if self._verifier is None:
            raise Stranger(_REASONS["unknown"])
        try:
            return await self._verifier.caller(bearer)
        except oidc.Refused as exc:
            raise Stranger(f"the token does not count: {exc}") from exc


def opened(settings: Settings, store: StoreTokens) -> Door:
    """The door that the settings describe. Raises ConfigurationError for a file or provider that cannot be used."""
    file = None
    if settings.tokens_file is not None:
        file = TokensFile(settings.tokens_file)
        file.load()
    return Door(store, file, _verifier(settings))


def _verifier(settings: Settings) -> oidc.Verifier | None:
    given = {
        "ORCHESTRATOR_OIDC_ISSUER": settings.oidc_issuer,
        "ORCHESTRATOR_OIDC_AUDIENCE": settings.oidc_audience,
        "ORCHESTRATOR_OIDC_JWKS": settings.oidc_jwks,
    }
    if not any(given.values()):
        return None
    if missing := [name for name, value in given.items() if not value]:
        raise ConfigurationError(
            f"an identity provider is only half described: {', '.join(missing)} must be set, too",
            remedy="set issuer, audience and JWKS, or none of them",
        )
    try:
        words = roles.mapping(settings.oidc_roles)
    except ValueError as exc:
        raise ConfigurationError(f"ORCHESTRATOR_OIDC_ROLES: {exc}") from None
    issuer, audience, jwks = (str(value) for value in given.values())
    provider = oidc.Provider(issuer, audience, settings.oidc_role_claim, words)
    return oidc.Verifier(provider, KeySet(jwks))


def proxies(settings: Settings) -> addresses.Networks:
    """Raises ConfigurationError."""
    try:
        return addresses.networks(settings.trusted_proxies)
    except ValueError as exc:
        raise ConfigurationError(
            f"ORCHESTRATOR_TRUSTED_PROXIES: {exc}", remedy="write addresses and networks, such as 10.0.0.5,10.1.0.0/16"
        ) from None


async def refuse_exposed(settings: Settings, door: Door) -> None:
    """Refuse to listen where others than this machine can reach us while nobody has to prove who they are.

    Raises ConfigurationError.
    """
    if await anyio.to_thread.run_sync(_is_private, settings.host, abandon_on_cancel=True):
        return
    closed = await door.closed()
    if not (closed or settings.allow_unauthenticated):
        raise ConfigurationError(
            f"on {settings.host}, others than this machine could steer the daemon, and nobody needs a token",
            remedy="make a token first (orchestrator token create --role admin --name …), or listen on 127.0.0.1; "
            "--allow-unauthenticated lets anybody in who reaches it",
        )
    if not closed:
        log.warning("unauthenticated", host=settings.host, remedy="anybody who reaches this address may do anything")
    if settings.tls_certificate is None:
        log.warning(
            "listening_without_tls",
            host=settings.host,
            remedy="set ORCHESTRATOR_TLS_CERTIFICATE and _KEY, unless a proxy before us speaks TLS: tokens can be read",
        )


def _is_private(host: str) -> bool:
    """Whether only this machine reaches a host's addresses; one that has none is the listener's to complain about."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        return True
    return all(addresses.is_loopback(str(address[0])) for *_, address in found)
