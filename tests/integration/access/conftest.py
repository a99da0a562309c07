"""A daemon in the test's own process, whole but for its socket: the real service and store, tokens of every kind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from fastapi import FastAPI

from orchestrator.access import addresses, tokens
from orchestrator.access.file import TokensFile
from orchestrator.access.roles import Role
from orchestrator.access.tokens import Minted
from orchestrator.api import application
from orchestrator.api.access import Access
from orchestrator.events import now
from orchestrator.registry import selector
from orchestrator.registry.model import Registry, Track
from orchestrator.registry.source import ReloadResult
from orchestrator.service.door import Door
from tests.engine import Engine, registry_of, running


@dataclass
class World:
    """`client(token)` asks the daemon; `made` holds tokens by who has them."""

    engine: Engine
    app: FastAPI
    door: Door
    made: dict[str, Minted] = field(default_factory=dict)

    @asynccontextmanager
    async def client(
        self, token: str | None = None, peer: str = "203.0.113.9", **fields: Any
    ) -> AsyncIterator[httpx2.AsyncClient]:
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        transport = httpx2.ASGITransport(self.app, client=(peer, 40000), raise_app_exceptions=False)
        given = {"base_url": "http://daemon", **fields, "headers": {**headers, **fields.get("headers", {})}}
        async with httpx2.AsyncClient(transport=transport, **given) as client:
            yield client

    def of(self, who: str, **fields: Any) -> AbstractAsyncContextManager[httpx2.AsyncClient]:
        return self.client(self.made[who].text, **fields)

    async def make(self, who: str, role: Role, *, days: float | None = 1, name: str | None = None) -> Minted:
        ends = None if days is None else now() + timedelta(days=days)
        minted = tokens.mint(name or who, role, created_by="terminal:test", now=now(), expires_at=ends)
        await self.engine.parts.store.tokens.add(minted.token)
        self.made[who] = minted
        return minted

    async def make_all(self) -> None:
        """One of each role, and some that do not count."""
        for role in Role:
            await self.make(role, role)
        await self.make("expired", Role.ADMIN, days=-1)
        await self.make("revoked", Role.ADMIN)
        await self.door.revoke(self.made["revoked"].token.id, by="terminal:test")
        garbage = replace(self.made["admin"], text=self.made["admin"].text[:-4] + "AAAA")
        self.made["garbage"] = garbage
        self.made["of a stranger"] = tokens.mint("x", Role.ADMIN, created_by="x", now=now(), expires_at=None)
        self.made["nonsense"] = replace(garbage, text="nonsense")

    async def audited(self) -> list[dict[str, Any]]:
        return [row.values for row in await self.engine.parts.store.audit.entries()]


@asynccontextmanager
async def world(
    registry: Registry | None = None,
    *,
    file: Path | None = None,
    metrics_need_token: bool = False,
    proxies: str = "",
    **settings: Any,
) -> AsyncIterator[World]:
    tokens_file = None
    if file is not None:
        tokens_file = TokensFile(file)
        tokens_file.load()
    async with running(registry or registry_of([Track("app")], [], []), **settings) as engine:
        registry = engine.source.current

        async def reload() -> ReloadResult:
            return ReloadResult(False, registry)

        vars(engine.source)["reload"] = reload
        store = engine.parts.store
        door = Door(store.tokens, tokens_file)
        access = Access(door, store.audit, metrics_need_token, addresses.networks(proxies), "127.0.0.1")
        app = application.create(
            engine.service,
            select=lambda text: selector.parse(text).matches,
            metrics=engine.parts.metrics.render,
            stopping=anyio.Event(),
            access=access,
        )
        yield World(engine, app, door)


@pytest.fixture
async def daemon() -> AsyncIterator[World]:
    async with world() as opened:
        await opened.make_all()
        yield opened
