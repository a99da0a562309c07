"""The daemon's insides in the test's own process, joined as `service.daemon` joins them: a registry file, a store, real
databases, and HTTP on a real port."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx2

from orchestrator.access import tokens
from orchestrator.access.roles import Role
from orchestrator.api import application, server
from orchestrator.api.access import Access
from orchestrator.events import now
from orchestrator.registry import selector
from orchestrator.service import door as doors
from orchestrator.service.daemon import opened, working
from orchestrator.service.leading import Lead, standing
from orchestrator.service.orchestrator import Orchestrator
from orchestrator.service.wiring import Parts, assembled
from orchestrator.settings import load as load_settings
from tests.workers import SharedWorkers


@dataclass
class Live:
    url: str
    service: Orchestrator
    parts: Parts
    document: dict[str, Any]
    token: str | None = None

    async def close(self) -> str:
        """From now on who asks must prove who they are; an admin's token, which `client` sends."""
        minted = tokens.mint("admin", Role.ADMIN, created_by="terminal:test", now=now(), expires_at=None)
        await self.parts.store.tokens.add(minted.token)
        self.token = minted.text
        return minted.text

    def client(self) -> httpx2.AsyncClient:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return httpx2.AsyncClient(base_url=self.url, timeout=60, headers=headers)


@asynccontextmanager
async def running(config: Path, **settings: Any) -> AsyncIterator[Live]:
    chosen = load_settings(config=config, **{"store_url": "sqlite://", "requests_per_second": 0, **settings})
    source, stopping, closed = await opened(chosen), anyio.Event(), anyio.Event()
    async with (
        assembled(chosen, source, SharedWorkers()) as parts,
        standing(parts) as candidate,
        anyio.create_task_group() as background,
    ):
        async with working(parts, chosen) as service:
            door = doors.opened(chosen, parts.store.tokens)
            app = application.create(
                service,
                access=Access(door, parts.store.audit, chosen.metrics_need_token, doors.proxies(chosen)),
                select=lambda text: selector.parse(text).matches,
                metrics=parts.metrics.render,
                stopping=stopping,
                requests_per_second=chosen.requests_per_second,
            )

            async def listen(*, task_status: anyio.abc.TaskStatus[str]) -> None:
                await server.serve(app, "127.0.0.1", 0, stopping=stopping, task_status=task_status)
                closed.set()

            url = await background.start(listen)
            if candidate is not None:
                lead = Lead(candidate, service, parts, door)
                await lead.begin()
                await background.start(lead.run)
            else:
                await service.resume_active()
            yield Live(url, service, parts, app.openapi())
        if candidate is not None:
            await candidate.release()
        stopping.set()
        await closed.wait()
        background.cancel_scope.cancel()
