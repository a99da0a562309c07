"""Tokens and the audit of a store, without a daemon: for who has the store's own address."""

from __future__ import annotations

import getpass
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

from orchestrator.access import acts, callers, tokens
from orchestrator.access.acts import Act
from orchestrator.access.chain import Anchor, Row, Verification
from orchestrator.access.roles import Role
from orchestrator.access.tokens import Minted, Token
from orchestrator.errors import ConfigurationError
from orchestrator.events import now
from orchestrator.service import door
from orchestrator.settings import Settings
from orchestrator.store.engine import Store, open_store


def terminal() -> str:
    """Who sits at this terminal, as the machine says."""
    try:
        return f"{callers.TERMINAL}{getpass.getuser()}"
    except (KeyError, OSError):
        return f"{callers.TERMINAL}unknown"


def mint(name: str, role: Role, lifetime: timedelta | None) -> Minted:
    """A new token, which nobody knows yet. Raises ConfigurationError."""
    moment = now()
    try:
        ends = None if lifetime is None else moment + lifetime
        return tokens.mint(name, role, created_by=terminal(), now=moment, expires_at=ends)
    except (ValueError, OverflowError) as exc:
        raise ConfigurationError(f"--name or --expires cannot be used: {exc}") from None


async def create(settings: Settings, name: str, role: Role, lifetime: timedelta | None) -> Minted:
    """Make a token in the store. Raises ConfigurationError and StoreError."""
    minted = mint(name, role, lifetime)
    async with _opened(settings, make=True) as store:
        with acts.acting(Act("create_token", terminal())):
            await store.tokens.add(minted.token)
    return minted


async def listed(settings: Settings) -> Sequence[Token]:
    async with _opened(settings) as store:
        return await door.opened(settings, store.tokens).listed()


async def revoke(settings: Settings, token_id: str) -> Token:
    """Raises NotFoundError."""
    async with _opened(settings) as store:
        with acts.acting(Act("revoke_token", terminal())):
            return await store.tokens.revoke(token_id, by=terminal(), at=now())


async def verified(settings: Settings, anchors: Sequence[Anchor]) -> Verification:
    async with _opened(settings) as store:
        return await store.audit.verified(anchors)


async def entries(settings: Settings, after: int) -> AsyncGenerator[Row, None]:
    """All that follow entry `after`."""
    async with _opened(settings) as store:
        while rows := await store.audit.entries(after=after):
            for row in rows:
                yield row
            after = rows[-1].sequence


@asynccontextmanager
async def _opened(settings: Settings, *, make: bool = False) -> AsyncIterator[Store]:
    """The daemon's store. Only the first token, before there is a daemon, may `make` one: elsewhere, a store that is
    not there is one that was looked for in the wrong place. Raises StoreError."""
    async with open_store(settings.store_url.get_secret_value(), make=make) as store:
        yield store
