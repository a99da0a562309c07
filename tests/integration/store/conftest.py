"""One store URL per test: first on an SQLite file, then on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.databases.embedded import Server
from orchestrator.store.engine import Store, open_store
from tests.integration.store.samples import Published
from tests.servers import MakeDatabases


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'control.db'}"


@pytest.fixture
async def postgresql_url(pg: Server, make_databases: MakeDatabases) -> str:
    [name] = await make_databases(1, "control")
    return pg.url(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    chosen: str = request.getfixturevalue(f"{request.param}_url")
    return chosen


@pytest.fixture
def published() -> Published:
    return Published()


@pytest.fixture
async def store(url: str, published: Published) -> AsyncIterator[Store]:
    async with open_store(url, published) as opened:
        yield opened
