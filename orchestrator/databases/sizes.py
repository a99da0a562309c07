"""How large databases and tables are, by the server's statistics: nothing is counted, and no table is locked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from orchestrator.databases.base import Place
from orchestrator.databases.mysql_sizes import MySQLSizes
from orchestrator.databases.postgresql_sizes import PostgreSQLSizes
from orchestrator.databases.sqlite_sizes import SQLiteSizes
from orchestrator.plan.parts import Sized
from orchestrator.plan.tokens import Table

Wanted = Mapping[Table, frozenset[str]]


class Sizes(Protocol):
    """Of one kind of database."""

    async def databases(self, place: Place, names: Sequence[str]) -> Mapping[str, int]:
        """Bytes of each of these databases on the place's server, as far as they can be told. Raises TargetError."""
        ...

    async def tables(self, places: Sequence[Place], wanted: Wanted) -> Sized:
        """The sizes of tables at targets that live in one database. Raises TargetError."""
        ...


BY_DIALECT: Mapping[str, Sizes] = {
    "postgresql": PostgreSQLSizes(),
    "mysql": MySQLSizes(),
    "mariadb": MySQLSizes(),
    "sqlite": SQLiteSizes(),
}
