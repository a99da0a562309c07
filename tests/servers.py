"""Database servers for tests, and what a test needs to know about the backends on them."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote, urlsplit

import anyio
import asyncpg

from orchestrator.databases.embedded import Server

CLOSING_SECONDS = 20.0
DROPPING_SECONDS = 60.0


class MakeDatabases(Protocol):
    """The `make_databases` fixture: returns the names of `count` new databases, copies of `template` if given."""

    async def __call__(
        self, count: int, prefix: str = "tenant", *, server: Server | None = None, template: str | None = None
    ) -> list[str]: ...


@dataclass(frozen=True)
class ExternalServer:
    """A server that somebody else runs, known by the URL of any of its databases."""

    dsn: str

    def url(self, database: str) -> str:
        return urlsplit(self.dsn)._replace(path=f"/{quote(database, safe='')}").geturl()


@dataclass(frozen=True)
class Backend:
    """A client's session, as the server sees it."""

    pid: int
    database: str
    application: str
    state: str
    query: str


def unique_names(count: int, prefix: str) -> list[str]:
    """Return names that no other test uses, also on a server that several runs share."""
    token = secrets.token_hex(3)
    return [f"{prefix}_{token}_{number:03}" for number in range(count)]


async def backends(connection: asyncpg.Connection, databases: Sequence[str]) -> list[Backend]:
    """Return the client sessions on `databases`, without that of `connection`."""
    rows = await connection.fetch(
        """
        SELECT pid, datname AS database, application_name AS application, coalesce(state, '') AS state, query
        FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND datname = ANY($1::text[])
        ORDER BY pid
        """,
        databases,
    )
    return [Backend(**row) for row in rows]


async def leaked_backends(server: Server, databases: Sequence[str]) -> list[Backend]:
    """Return the sessions that are still on `databases` after twenty seconds; earlier if there are none."""
    connection = await asyncpg.connect(server.url("postgres"))
    try:
        deadline = anyio.current_time() + CLOSING_SECONDS
        while left := await backends(connection, databases):
            if anyio.current_time() >= deadline:
                return left
            await anyio.sleep(0.02)
        return []
    finally:
        await connection.close()


async def drop_databases(server: Server, databases: Sequence[str]) -> None:
    """Drop databases, ending the sessions on them. Raises `TimeoutError` after a minute."""
    with anyio.fail_after(DROPPING_SECONDS):
        connection = await asyncpg.connect(server.url("postgres"))
        try:
            for name in databases:
                await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        finally:
            await connection.close(timeout=5)
