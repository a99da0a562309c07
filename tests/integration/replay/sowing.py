"""Rows for the tables of a schema that somebody else wrote: made up from the catalog, where constraints allow it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import asyncpg

from orchestrator.databases.quoting import literal, quoted

# The columns of the tables that have no row, with what narrows down their values.
_COLUMNS = """SELECT c.relname AS name, a.attname AS column,
    pg_catalog.format_type(a.atttypid, a.atttypmod) AS type,
    (SELECT min(e.enumlabel) FROM pg_catalog.pg_enum e WHERE e.enumtypid = a.atttypid) AS label,
    (SELECT min(pg_catalog.pg_get_constraintdef(k.oid)) FROM pg_catalog.pg_constraint k
        WHERE k.conrelid = c.oid AND k.contype = 'c' AND k.conkey = ARRAY[a.attnum]) AS check,
    (SELECT min(f.attrelid::regclass::text || '.' || pg_catalog.quote_ident(f.attname)) FROM pg_catalog.pg_constraint k
        JOIN pg_catalog.pg_attribute f ON f.attrelid = k.confrelid
            AND f.attnum = k.confkey[pg_catalog.array_position(k.conkey, a.attnum)]
        WHERE k.conrelid = c.oid AND k.contype = 'f' AND a.attnum = ANY (k.conkey)) AS parent
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND c.relname <> 'alembic_version'
    AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
    AND pg_catalog.query_to_xml(pg_catalog.format('SELECT FROM %I LIMIT 1', c.relname), false, false, '')::text
        !~ '<row'
ORDER BY c.relname, a.attnum"""
ROWS = (1, 2)
_VALUES = {
    "bool": "{n} % 2 = 1",
    "int": "{n}",
    "bigint": "{n}",
    "smallint": "{n}",
    "double": "{n}.5",
    "real": "{n}.5",
    "numeric": "{n}.5",
    "date": "'2026-01-0{n}'",
    "timestamp": "'2026-01-0{n} 12:00:00'",
    "json": "'{{\"n\": {n}}}'",
    "bytea": "'\\x0{n}'",
}


async def sow(connection: asyncpg.Connection[Any], known: Mapping[str, str]) -> list[str]:
    """Give rows to the tables that have none; the statements that did. `known`: SQL for columns whose text has a
    form."""
    done: list[str] = []
    waiting: list[str] = []
    for table, columns in groupby(await connection.fetch(_COLUMNS), key=lambda column: column["name"]):
        own = list(columns)
        waiting += [_insert(table, own, n, known) for n in ROWS]
    while True:  # those of a table come after those of the tables that it refers to
        found = [statement for statement in waiting if await _is_allowed(connection, statement)]
        if not found:
            return done
        done += found
        waiting = [statement for statement in waiting if statement not in found]


async def _is_allowed(connection: asyncpg.Connection[Any], statement: str) -> bool:
    try:
        return bool(await connection.execute(statement) == "INSERT 0 1")
    except asyncpg.IntegrityConstraintViolationError:
        return False


def _insert(table: str, columns: Sequence[Any], n: int, known: Mapping[str, str]) -> str:
    given = {quoted(column["column"]): known.get(column["column"]) or _value(column, n) for column in columns}
    referring = [given[quoted(column["column"])] for column in columns if column["parent"]]
    there = " AND ".join(f"{value} IS NOT NULL" for value in referring) or "true"
    return f"INSERT INTO {quoted(table)} ({', '.join(given)}) SELECT {', '.join(given.values())} WHERE {there}"


def _value(column: Any, n: int) -> str:
    """The `n`th value of a column."""
    if column["parent"]:
        table, _, name = column["parent"].rpartition(".")
        return f"(SELECT {name} FROM {table} ORDER BY 1 LIMIT 1 OFFSET {n - 1})"
    if column["label"]:
        return literal(column["label"])
    if column["check"] and (allowed := re.search(r"'([^']+)'", column["check"])):
        return literal(allowed[1])
    for kind, value in _VALUES.items():
        if column["type"].startswith(kind):
            return value.format(n=n)
    width = re.search(r"\((\d+)\)", column["type"])
    return literal(f"{n} {column['column']}"[: int(width[1]) if width else None])
