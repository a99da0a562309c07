"""Backups of PostgreSQL targets, by pg_dump."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import asyncpg

from orchestrator.databases import dumps, programs, tools
from orchestrator.databases.base import Place
from orchestrator.databases.connecting import bounded
from orchestrator.databases.quoting import quoted
from orchestrator.databases.refusals import backup_failed
from orchestrator.errors import TargetError

# https://www.postgresql.org/docs/current/libpq-envars.html
_VARIABLES = {
    "sslmode": "PGSSLMODE",
    "ssl": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslcrl": "PGSSLCRL",
    "sslcrldir": "PGSSLCRLDIR",
    "sslnegotiation": "PGSSLNEGOTIATION",
    "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION",
    "channel_binding": "PGCHANNELBINDING",
    "gssencmode": "PGGSSENCMODE",
    "krbsrvname": "PGKRBSRVNAME",
    "passfile": "PGPASSFILE",
    "options": "PGOPTIONS",
}
# What a server or libpq says when another moment may do. The first is a wait for a table's lock that took too long.
_TRANSIENT = (
    "canceling statement due to statement timeout",
    "canceling statement due to lock timeout",
    "deadlock detected",
    "connection to server",
    "could not connect",
    "server closed the connection unexpectedly",
    "terminating connection",
    "SSL SYSCALL error",
    "could not receive data from server",
    "could not send data to server",
    "too many clients",
    "remaining connection slots",
    "the database system is",
)
# These come with "connection to server" too, and do not pass.
_FINAL = ("authentication failed", "does not exist", "no pg_hba.conf entry", "permission denied", "certificate")


class PostgreSQLDumper:
    """`databases.dumps.Dumper`: the state that the guard sees, of the guard's own database and no other.

    The guard exports a snapshot, which a session on another server or database cannot import: so pg_dump's connection
    is proved as every other is. Its application_name is that of the migration's sessions, so that the target's next
    run would end it.
    """

    suffix = "dump"

    def __init__(
        self, place: Place, connection: asyncpg.Connection[Any], application_name: str, *, has_schema: bool
    ) -> None:
        self._place, self._connection, self._name = place, connection, application_name
        self.is_there = has_schema
        self._program: Path | None = None
        self._snapshot = ""
        self._version = int(connection.get_server_version().major)

    @property
    def environment(self) -> Mapping[str, str]:
        return environment(self._place, self._name)

    @asynccontextmanager
    async def ready(self) -> AsyncIterator[None]:
        self._program = await anyio.to_thread.run_sync(tools.pg_dump, self._version)
        async with self._exported() as self._snapshot:
            yield

    async def dump(self, file: Path) -> None:
        assert self._program is not None
        variables = {**programs.inherited(), "LC_ALL": "C", **self.environment}
        with file.open("wb") as output:
            options = _options(self._place, self._snapshot)
            ended = await programs.run([self._program, *options], variables, output=output)
        if ended.code:
            final = any(sign in line for sign in _FINAL for line in ended.said)
            raise dumps.failed("pg_dump", ended, self._place.url.password, transient=() if final else _TRANSIENT)

    async def check(self, file: Path, *, provisioned: bool) -> None:
        assert self._program is not None
        restore = self._program.with_name("pg_restore")
        ended = await programs.run([restore, "--list", file], {**programs.inherited(), "LC_ALL": "C"}, catch=True)
        if ended.code:
            raise dumps.failed("pg_restore --list", ended, self._place.url.password)
        table = self._place.target.version_table
        if provisioned and self._holds_version_table and not lists(ended.printed.decode(errors="replace"), table):
            raise backup_failed(
                f"pg_restore does not list the version table {table!r} in it",
                "check that the shard's user may read all of the target's tables",
            )

    @property
    def _holds_version_table(self) -> bool:
        """A schema's backup lacks a version table that is kept in another schema: its heads are noted beside it."""
        target = self._place.target
        return target.schema is None or target.version_table_schema in (None, target.schema)

    @asynccontextmanager
    async def _exported(self) -> AsyncIterator[str]:
        """Of what the guard sees now; it can be imported for as long as the block lasts."""
        timeouts = ["idle_in_transaction_session_timeout", *(["transaction_timeout"] if self._version >= 17 else [])]
        columns = ", ".join(f"pg_catalog.set_config('{name}', '0', true)" for name in timeouts)
        with bounded(self._place):
            await self._connection.execute("BEGIN READ ONLY")
        try:
            with bounded(self._place):
                await self._connection.execute(f"SELECT {columns}")
                snapshot: str = await self._connection.fetchval("SELECT pg_catalog.pg_export_snapshot()")
            yield snapshot
        finally:
            # The guard is used on; where this fails, it is lost anyway, and the next question tells.
            with anyio.CancelScope(shield=True), suppress(TargetError), bounded(self._place):
                await self._connection.execute("ROLLBACK")


def environment(place: Place, application_name: str) -> dict[str, str]:
    """Where libpq connects to, and as whom: a name of a database is a name here, whatever it looks like."""
    url = place.url
    given = {name: value for name, value in url.query.items() if isinstance(value, str)}
    found = {variable: given[name] for name, variable in _VARIABLES.items() if name in given}
    parts = {"PGHOST": url.host, "PGPORT": url.port, "PGUSER": url.username, "PGPASSWORD": url.password}
    found |= {name: str(value) for name, value in parts.items() if value is not None}
    found["PGDATABASE"] = url.database or ""
    found["PGAPPNAME"] = application_name
    found["PGCONNECT_TIMEOUT"] = str(max(2, math.ceil(place.limits.connect)))
    return found


def lists(toc: str, table: str) -> bool:
    """Whether a table is among what `pg_restore --list` tells of.

    >>> lists("215; 1259 16385 TABLE public alembic_version migrator", "alembic_version")
    True
    >>> lists("216; 1259 16390 TABLE public alembic_version_old migrator", "alembic_version")
    False
    """
    return re.search(rf"(?m)^\d+; \d+ \d+ TABLE .*(?<=\s){re.escape(table)}(?=\s)", toc) is not None


def _options(place: Place, snapshot: str) -> list[str]:
    wait = f"--lock-wait-timeout={place.limits.lock_wait * 1000:.0f}"
    options = ["--format=custom", "--no-password", wait, f"--snapshot={snapshot}"]
    if place.target.schema is not None:
        # A pattern, where a name in quotes is taken letter by letter.
        options += ["--strict-names", f"--schema={quoted(place.target.schema)}"]
    return options
