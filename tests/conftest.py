"""Fixtures for every test: the servers, and databases that must be left as they were found."""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import settings

from orchestrator.databases.embedded import EmbeddedServer, Server, create_databases
from tests import mariadb, standby, stores
from tests.mariadb import MakeMySQLDatabases, MySQLServer
from tests.servers import ExternalServer, MakeDatabases, drop_databases, leaked_backends, unique_names

# Each HTTP client and each connection of PyMySQL reads all that is trusted, which takes 30 ms for those of a machine:
# also where its own variable names them.
os.environ["SSL_CERT_FILE"] = str(Path(__file__).with_name("nobody.pem"))

# How long an example takes says something of the machine, not of us.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
stores.install()


def pytest_collection_finish() -> None:
    """The collector of garbage goes seldom through the thousands of tests that are collected: else that takes a tenth
    of the processor's time. Not frozen: hypothesis asks the collector who holds its random numbers."""
    gc.set_threshold(50_000, 20, 50)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
async def pg() -> AsyncIterator[Server]:
    """A PostgreSQL server: the one that `TEST_PG_DSN` names, or one of our own, per worker of the run."""
    if dsn := os.environ.get("TEST_PG_DSN"):
        yield ExternalServer(dsn)
        return
    async with EmbeddedServer(name="pg") as server:
        yield server


@pytest.fixture(scope="session")
async def pg2() -> AsyncIterator[EmbeddedServer]:
    """A second server, for what concerns more than one shard."""
    async with EmbeddedServer(name="pg2") as server:
        yield server


@pytest.fixture(scope="session")
async def pair() -> AsyncIterator[standby.Pair]:
    """A primary, whose log nobody archives, and a streaming standby."""
    settings = {"max_prepared_transactions": "5", "archive_mode": "on", "archive_command": "false"}
    async with standby.pair(settings) as made:
        yield made


@pytest.fixture(scope="session")
async def mysql() -> AsyncIterator[MySQLServer]:
    """A MariaDB server: the one that `TEST_MYSQL_DSN` names (MySQL does as well), or one of our own, per worker."""
    async with mariadb.server() as server:
        yield server


@pytest.fixture
async def make_mysql_databases(mysql: MySQLServer) -> AsyncIterator[MakeMySQLDatabases]:
    """Make databases on `mysql`, dropped after the test; a test that leaves a session on one of them fails."""
    made: list[str] = []

    async def make(count: int, prefix: str = "tenant") -> list[str]:
        names = unique_names(count, prefix)
        await mariadb.create_databases(mysql, names)
        made.extend(names)
        return names

    yield make
    leaked = await mariadb.leaked_sessions(mysql, made)
    await mariadb.drop_databases(mysql, made)
    if leaked:
        pytest.fail("sessions were left open:\n" + "\n".join(f"  {session}" for session in leaked), pytrace=False)


@pytest.fixture
async def make_databases(pg: Server) -> AsyncIterator[MakeDatabases]:
    """Make databases on `pg` or another server. They are dropped after the test, and a test that leaves a connection
    to one of them fails."""
    made: list[tuple[Server, list[str]]] = []

    async def make(
        count: int, prefix: str = "tenant", *, server: Server | None = None, template: str | None = None
    ) -> list[str]:
        names = unique_names(count, prefix)
        made.append((server or pg, names))
        await create_databases(server or pg, names, template)
        return names

    yield make
    leaked = []
    for server, names in reversed(made):
        leaked += await leaked_backends(server, names)
        await drop_databases(server, names)
    if leaked:
        lines = [f"  {backend}" for backend in leaked]
        pytest.fail("connections were left open:\n" + "\n".join(lines), pytrace=False)
