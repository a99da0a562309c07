"""Asks the sources of tenants: `registry.discovery.Lookup` for servers, folders and, through `endpoint`, HTTP."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import anyio
import anyio.to_thread
from asyncmy.cursors import DictCursor

from orchestrator.databases import connecting, mysql_connecting
from orchestrator.databases.base import Limits, Place
from orchestrator.errors import DiscoveryError, TargetError
from orchestrator.registry.answers import Row
from orchestrator.registry.model import MYSQL_DIALECTS, Discovery, Registry, Target

SESSION = "orchestrator discover"
# Databases that cannot be connected to, or only to be dropped, are nobody's; neither is the one for maintenance.
_DATABASES = """SELECT datname::text FROM pg_catalog.pg_database
    WHERE datallowconn AND NOT datistemplate AND datconnlimit <> -2 AND datname <> 'postgres' ORDER BY 1"""
_SCHEMAS = """SELECT nspname::text FROM pg_catalog.pg_namespace
    WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY 1"""
_MYSQL_DATABASES = """SELECT SCHEMA_NAME FROM information_schema.SCHEMATA
    WHERE SCHEMA_NAME NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys') ORDER BY 1"""
# The files that SQLite, and our lock, put beside a database.
_BESIDE = ("-wal", "-shm", "-journal")

_REMEDIES = {
    "missing_database": "create the database, or correct `database:` of the entry",
    "permission": "grant the shard's user CONNECT on the database, and SELECT on what the query reads",
    "unusable": "look at the error: the query is sent as it stands, in a read-only transaction",
}


class Lookups:
    """Asks whoever a `discover` entry names."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        # Our own: a file system that hangs keeps its threads, and must not take those of everybody else.
        self._threads = anyio.CapacityLimiter(4)

    async def ask(self, registry: Registry, discovery: Discovery) -> Sequence[Row]:
        """The source's answer, as `registry.discovery.Lookup` says. Raises DiscoveryError."""
        if discovery.question == "url":
            from orchestrator.databases import endpoint  # the HTTP client is needed by nothing else here

            return await endpoint.ask(discovery, seconds=self._limits.connect)
        shard = registry.shards[discovery.shard or ""]
        if shard.dialect == "sqlite":
            folder = registry.source.parent / (shard.url.database or "")
            return await anyio.to_thread.run_sync(
                _ask_files, folder, discovery, self._limits, abandon_on_cancel=True, limiter=self._threads
            )
        asking, maintenance = _SERVERS[shard.dialect]
        database = discovery.database or maintenance
        named = Target(discovery.name, "", shard.name, database)
        place = Place(named, shard.migration_url.set(database=database), self._limits)
        try:
            return await asking(place, discovery)
        except TargetError as exc:
            raise DiscoveryError(exc.message, remedy=_REMEDIES.get(exc.kind, exc.remedy)) from exc


async def _ask_postgresql(place: Place, discovery: Discovery) -> Sequence[Row]:
    async with connecting.connected(place, SESSION, pooled=True) as connection:
        with connecting.bounded(place):
            async with connection.transaction(readonly=True):  # within which a pooler changes nothing
                if discovery.question == "databases":
                    return [{"database": row[0]} for row in await connection.fetch(_DATABASES)]
                if discovery.question == "schemas":
                    return [{"schema": row[0]} for row in await connection.fetch(_SCHEMAS)]
                return [dict(row) for row in await connection.fetch(discovery.text)]


async def _ask_mysql(place: Place, discovery: Discovery) -> Sequence[Row]:
    async with mysql_connecting.connected(place, SESSION) as connection:
        with mysql_connecting.bounded(place):
            if discovery.question == "databases":
                return [{"database": row[0]} for row in await mysql_connecting.ask(connection, _MYSQL_DATABASES)]
            await mysql_connecting.ask(connection, "SET SESSION TRANSACTION READ ONLY")
            async with connection.cursor(DictCursor) as cursor:
                await cursor.execute(discovery.text)
                return [dict(row) for row in await cursor.fetchall()]


# Of each kind of server, who asks it, and the database for what concerns none.
_SERVERS: Mapping[str, tuple[Callable[[Place, Discovery], Awaitable[Sequence[Row]]], str]] = {
    "postgresql": (_ask_postgresql, "postgres"),
    **dict.fromkeys(MYSQL_DIALECTS, (_ask_mysql, "information_schema")),
}


def _ask_files(folder: Path, discovery: Discovery, limits: Limits) -> Sequence[Row]:
    if discovery.question == "query":
        return _ask_file(folder / (discovery.database or ""), discovery.text, limits)
    try:
        if not folder.is_dir():
            raise DiscoveryError(
                f"there is no folder {folder}", remedy="create or mount it, or correct the shard's URL"
            )
        os.listdir(folder)  # a glob finds nothing in a folder that we may not read, and does not say so
        found = sorted(
            path.relative_to(folder).as_posix() for path in folder.glob(discovery.text) if _is_database(path)
        )
    except OSError as exc:
        raise DiscoveryError(
            f"cannot look into folder {folder}: {exc.strerror or exc}", remedy="check that we may read it"
        ) from exc
    return [{"database": name} for name in found]


def _is_database(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".") and not path.name.endswith(_BESIDE)


def _ask_file(file: Path, query: str, limits: Limits) -> Sequence[Row]:
    try:
        uri = f"{file.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=limits.lock_timeout)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(query)]
    except (sqlite3.Error, sqlite3.Warning) as exc:
        raise DiscoveryError(
            f"cannot ask database file {file}: {exc}", remedy="look at the error: the query is sent as it stands"
        ) from exc
