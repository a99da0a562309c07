"""Sizes by the statistics of MySQL and MariaDB: TABLE_ROWS of InnoDB is an estimate, and good for a magnitude."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.databases.base import Place
from orchestrator.databases.connecting import session_name
from orchestrator.databases.mysql_connecting import Row, ask, bounded, connected
from orchestrator.plan.parts import Size, Sized
from orchestrator.plan.tokens import Table

_DATABASES = """SELECT TABLE_SCHEMA, SUM(DATA_LENGTH + INDEX_LENGTH) FROM information_schema.TABLES
    WHERE TABLE_SCHEMA IN ({names}) GROUP BY TABLE_SCHEMA"""
_TABLES = """SELECT TABLE_SCHEMA, TABLE_NAME, COALESCE(TABLE_ROWS, 0), COALESCE(DATA_LENGTH + INDEX_LENGTH, 0)
    FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE' AND ({tables})"""
_COLUMNS = """SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, COLUMN_TYPE FROM information_schema.COLUMNS
    WHERE {tables}"""
_ONE = "(TABLE_SCHEMA = %s AND TABLE_NAME = %s)"


class MySQLSizes:
    """`databases.sizes.Sizes`."""

    async def databases(self, place: Place, names: Sequence[str]) -> Mapping[str, int]:
        question = _DATABASES.format(names=", ".join(["%s"] * len(names)))
        async with connected(place, session_name("measure", place)) as connection:
            with bounded(place):
                rows = await ask(connection, question, *names)
        return {name: int(size or 0) for name, size in rows}

    async def tables(self, places: Sequence[Place], wanted: Mapping[Table, frozenset[str]]) -> Sized:
        place = places[0]
        keys = {(table.schema or place.url.database or "", table.name): table for table in wanted}
        if not keys:
            return Sized(None, [])
        where, arguments = " OR ".join([_ONE] * len(keys)), [part for key in keys for part in key]
        async with connected(place, session_name("measure", place)) as connection:
            with bounded(place):
                found = await ask(connection, _TABLES.format(tables=where), *arguments)
                columns = await ask(connection, _COLUMNS.format(tables=where), *arguments)
        there = [row for row in found if row[:2] in keys]
        return Sized(None, [(keys[row[:2]], _size(one, row, columns)) for row in there for one in places])


def _size(place: Place, row: Row, columns: Sequence[Row]) -> Size:
    types = {name: kind for space, table, name, kind in columns if (space, table) == row[:2]}
    return Size(place.target.tenant, float(row[2]), float(row[3]), types)
