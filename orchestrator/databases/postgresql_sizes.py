"""Sizes by PostgreSQL's catalog: reltuples and relpages of pg_class.

See https://www.postgresql.org/docs/current/catalog-pg-class.html.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.databases.base import Place
from orchestrator.databases.connecting import bounded, connected, session_name
from orchestrator.plan.parts import Size, Sized
from orchestrator.plan.tokens import Table

_SETTINGS = {"default_transaction_read_only": "on"}
# As the files are: what nobody may connect to has no size for us.
_DATABASES = """SELECT d.datname::text AS name, pg_catalog.pg_database_size(d.oid) AS size
    FROM pg_catalog.pg_database d WHERE d.datname = ANY (pg_catalog.string_to_array($1::text, E'\\n'))
    AND pg_catalog.has_database_privilege(d.oid, 'CONNECT')"""
# A table's partitions, and what inherits from it, are changed with it. relpages and reltuples are as of the last
# VACUUM, ANALYZE or index build, -1 where there was none; live rows are counted as they come, and lost in a crash.
# None of this takes a lock on a table, as pg_relation_size would.
_TABLES = """WITH RECURSIVE wanted AS (
        SELECT w.number, w.space, w.name
        FROM pg_catalog.json_to_recordset($1::text::json) AS w(number int, space text, name text)),
    found AS (
        SELECT w.number, c.oid FROM wanted w
        JOIN pg_catalog.pg_class c ON c.relname = w.name AND c.relkind IN ('r', 'p', 'm')
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE CASE WHEN w.space IS NULL THEN pg_catalog.pg_table_is_visible(c.oid) ELSE n.nspname = w.space END),
    members AS (
        SELECT number, oid FROM found
        UNION SELECT m.number, i.inhrelid FROM members m JOIN pg_catalog.pg_inherits i ON i.inhparent = m.oid),
    sizes AS (
        SELECT m.number, pg_catalog.sum(greatest(c.reltuples, pg_catalog.pg_stat_get_live_tuples(c.oid), 0)) AS rows,
            pg_catalog.sum(greatest(c.relpages, 0) + coalesce(greatest(t.relpages, 0), 0)) AS pages
        FROM members m JOIN pg_catalog.pg_class c ON c.oid = m.oid
        LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid
        WHERE c.relkind <> 'p' GROUP BY m.number)
SELECT f.number, coalesce(s.rows, 0)::float8 AS rows,
    (coalesce(s.pages, 0) * pg_catalog.current_setting('block_size')::int)::float8 AS bytes,
    (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod),
        CASE WHEN a.attnotnull THEN NOT EXISTS (SELECT 1 FROM pg_catalog.pg_constraint n WHERE n.conrelid = f.oid
            AND n.contype = 'n' AND n.conkey = ARRAY[a.attnum] AND NOT n.convalidated)
        ELSE EXISTS (SELECT 1 FROM pg_catalog.pg_constraint k WHERE k.conrelid = f.oid AND k.contype = 'c'
            AND k.convalidated AND k.conkey = ARRAY[a.attnum] AND pg_catalog.pg_get_constraintdef(k.oid)
            = 'CHECK ((' || pg_catalog.quote_ident(a.attname) || ' IS NOT NULL))') END))
        FROM pg_catalog.pg_attribute a WHERE a.attrelid = f.oid AND a.attnum > 0 AND NOT a.attisdropped
        AND a.attname = ANY (pg_catalog.string_to_array($2::text, E'\\n')))::text AS columns
    FROM found f LEFT JOIN sizes s ON s.number = f.number"""
# Of a row in a table of which the pages are not known yet.
_BYTES_A_ROW = 100


class PostgreSQLSizes:
    """`databases.sizes.Sizes`."""

    async def databases(self, place: Place, names: Sequence[str]) -> Mapping[str, int]:
        async with connected(place, session_name("measure", place), _SETTINGS) as connection:
            with bounded(place):
                rows = await connection.fetch(_DATABASES, "\n".join(names))
        return {row["name"]: row["size"] for row in rows}

    async def tables(self, places: Sequence[Place], wanted: Mapping[Table, frozenset[str]]) -> Sized:
        asked = [(place, table) for place in places for table in wanted]
        question = [
            {"number": number, "space": table.schema or place.target.schema, "name": table.name}
            for number, (place, table) in enumerate(asked)
        ]
        columns = sorted({column for found in wanted.values() for column in found})
        first = places[0]
        async with connected(first, session_name("measure", first), _SETTINGS) as connection:
            version: int = connection.get_server_version().major
            with bounded(first):
                rows = await connection.fetch(_TABLES, json.dumps(question), "\n".join(columns))
        return Sized(version, [(asked[row["number"]][1], _size(asked[row["number"]][0], row)) for row in rows])


def _size(place: Place, row: Any) -> Size:
    columns = json.loads(row["columns"] or "[]")
    size = max(row["bytes"], row["rows"] * _BYTES_A_ROW if not row["bytes"] else 0.0)
    types = {name: kind for name, kind, _ in columns}
    return Size(place.target.tenant, row["rows"], size, types, frozenset(name for name, _, full in columns if full))
