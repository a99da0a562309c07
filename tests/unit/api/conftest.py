from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import httpx2
import pytest
from fastapi import FastAPI

from orchestrator.api import application
from tests.unit.api.fake import FakeOrchestrator, select


@pytest.fixture
def fake() -> FakeOrchestrator:
    return FakeOrchestrator()


@pytest.fixture
def stopping() -> anyio.Event:
    return anyio.Event()


@pytest.fixture
def app(fake: FakeOrchestrator, stopping: anyio.Event) -> FastAPI:
    return application.create(
        fake, select=select, metrics=lambda accept: (b"up 1\n", "text/plain; version=0.0.4"), stopping=stopping
    )


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://daemon") as client:
        yield client
