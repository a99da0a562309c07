"""Fleets of SQLite files and of MariaDB databases, migrated through the whole engine."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from sqlalchemy.engine import URL, make_url

from orchestrator.databases import catalogs, mysql_catalog, sqlite_catalog
from orchestrator.databases.base import Limits, Place
from orchestrator.databases.mysql_connecting import connected
from orchestrator.databases.quoting import backquoted, quoted
from orchestrator.events import MigrationFinished
from orchestrator.registry.model import Registry, Shard, Target, Track
from tests import engine, environments, mariadb
from tests.engine import Engine

Dialect = Literal["sqlite", "mysql"]
# Of now(), which differs; histories bind another day.
MOMENT = re.compile(r"(?!2026-02-28)\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d[.\d]*")


@dataclass
class Fleet:
    """`server`: a folder of files, or MariaDB. `scheme`: how the registry's URL begins."""

    server: Path | mariadb.MySQLServer
    databases: Sequence[str]
    scheme: str = "mysql"

    @property
    def dialect(self) -> Dialect:
        return "sqlite" if isinstance(self.server, Path) else "mysql"

    @property
    def shard(self) -> Shard:
        if isinstance(self.server, Path):
            return Shard("shard", make_url(f"sqlite:///{self.server}"))
        return Shard("shard", make_url(self.server.url("x", self.scheme)).set(database=None))

    def url(self, database: str) -> URL:
        if isinstance(self.server, Path):
            return make_url("sqlite://").set(database=str(self.server / database))
        return make_url(self.server.url(database))

    def registry(self, project: Path, **track: Any) -> Registry:
        """A second tenant, which is never migrated, is there to compile for."""
        made = replace(environments.track_of(project / "alembic.ini"), **{"execution": "auto", **track})
        targets = [
            replace(target, version_table=made.version_table.format(tenant=target.tenant, track="app"))
            for target in engine.targets_of(self.databases, "shard")
        ]
        folder = self.server if isinstance(self.server, Path) else Path("/")
        return engine.registry_of([made], [self.shard], targets, folder=folder)

    @asynccontextmanager
    async def running(
        self, project: Path, settings: dict[str, Any] | None = None, **track: Any
    ) -> AsyncIterator[Engine]:
        async with engine.running(self.registry(project, **track), **(settings or {})) as running:
            yield running

    @asynccontextmanager
    async def replaying(
        self, project: Path, settings: dict[str, Any] | None = None, **track: Any
    ) -> AsyncIterator[Engine]:
        """An engine that replays what can be, without proof. Compiling needs a second tenant, which is not there."""
        registry = self.registry(project, execution="replay", **track)
        other = Target("other", "app", "shard", "not there")
        registry = replace(registry, targets=(*registry.targets, other))
        async with engine.running(registry, **(settings or {})) as running:
            yield running

    async def fetch(self, database: str, query: str) -> list[tuple[Any, ...]]:
        if isinstance(self.server, Path):
            with closing(sqlite3.connect(self.server / database)) as connection:
                return connection.execute(query).fetchall()
        return await mariadb.fetch(self.server, database, query)

    async def execute(self, database: str, *sql: str) -> None:
        if isinstance(self.server, Path):
            with closing(sqlite3.connect(self.server / database)) as connection:
                for one in sql:
                    connection.execute(one)
                connection.commit()
        else:
            await mariadb.execute(self.server, database, *sql)

    async def heads(self, database: str, table: str = "alembic_version") -> list[str]:
        name = quoted(table) if self.dialect == "sqlite" else backquoted(table)
        return sorted(row[0] for row in await self.fetch(database, f"SELECT version_num FROM {name}"))

    async def tables(self, database: str) -> set[str]:
        if self.dialect == "sqlite":
            return {row[0] for row in await self.fetch(database, "SELECT name FROM sqlite_master WHERE type = 'table'")}
        return {row[0] for row in await self.fetch(database, "SHOW FULL TABLES WHERE Table_type = 'BASE TABLE'")}

    async def content(self, database: str) -> dict[str, Any]:
        """Schema, heads and rows."""
        found: dict[str, Any] = {"schema": await self._schema(database)}
        for table in sorted(await self.tables(database)):
            name = quoted(table) if self.dialect == "sqlite" else backquoted(table)
            rows = await self.fetch(database, f"SELECT * FROM {name}")
            found[table] = sorted(MOMENT.sub("<now>", _written(row)) for row in rows)
        return found

    async def _schema(self, database: str) -> tuple[str, ...]:
        place = Place(Target("t", "app", "shard", database), self.url(database), Limits())
        tables = catalogs.tables_of(place, ())
        if self.dialect == "sqlite":
            with closing(sqlite3.connect(str(self.url(database).database))) as connection:
                return sqlite_catalog.exactly(connection, tables)
        async with connected(place, "test") as session:
            return await mysql_catalog.exactly(session, place, tables)


def _written(row: tuple[Any, ...]) -> str:
    return repr([str(value) if isinstance(value, datetime) else value for value in row])


def two_tracks(fleet: Fleet, project: Path) -> Registry:
    """The same history twice: by env.py in the first database, replayed in the second."""
    config = project / "alembic.ini"
    tracks = [Track("online", config=config, execution="online"), Track("replay", config=config, execution="replay")]
    targets = [
        Target("one", "online", "shard", fleet.databases[0]),
        Target("two", "replay", "shard", fleet.databases[1]),
        Target("other", "replay", "shard", "not there"),
    ]
    folder = fleet.server if isinstance(fleet.server, Path) else Path("/")
    return engine.registry_of(tracks, [fleet.shard], targets, folder=folder)


def ways(running: Engine) -> dict[str, str]:
    return {event.tenant: event.execution for event in running.of(MigrationFinished)}
