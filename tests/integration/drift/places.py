"""Targets in real databases of each kind, and what is read of their schemas."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sqlalchemy.engine import URL, make_url

from orchestrator.databases.base import Database, Limits, Place
from orchestrator.plan.catalog import Catalog, fingerprint
from orchestrator.plan.drifted_lines import difference
from orchestrator.registry.model import Target
from tests import engine, mariadb

VERSION = "CREATE TABLE alembic_version (version_num varchar(32) NOT NULL PRIMARY KEY)"
AT_HEAD = "INSERT INTO alembic_version VALUES ('head')"


@dataclass
class Fleet:
    """Databases of one kind on one server, or in one folder."""

    kind: Database
    server: Any
    names: Sequence[str] = field(default_factory=list)

    def place(self, name: str, **fields: Any) -> Place:
        target = replace(Target(f"t{self.names.index(name)}", "app", "shard", name), **fields)
        return Place(target, self._url(name), Limits())

    def _url(self, name: str) -> URL:
        if isinstance(self.server, Path):
            return make_url("sqlite://").set(database=str(self.server / name))
        return make_url(self.server.url(name))

    async def execute(self, name: str, *statements: str) -> None:
        if isinstance(self.server, Path):
            with closing(sqlite3.connect(self.server / name)) as connection:
                for statement in statements:
                    connection.execute(statement)
                connection.commit()
        elif isinstance(self.server, mariadb.MySQLServer):
            await mariadb.execute(self.server, name, *statements)
        else:
            await engine.execute(self.server, name, *statements)

    async def read(self, name: str, **fields: Any) -> Catalog:
        return await self.kind.catalog(self.place(name, **fields), ())

    async def are_equal(self, one: str, other: str) -> bool:
        first, second = await self.read(one), await self.read(other)
        return fingerprint(first.lines) == fingerprint(second.lines)

    async def differing(self, right: str, other: str) -> list[str]:
        """What the other has, and has not, line by line."""
        first, second = await self.read(right), await self.read(other)
        return [str(line) for line in difference(first.lines, second.lines, 100).lines]
