"""Reads the catalog of a PostgreSQL database or schema, and with it the heads that it claims to be at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import anyio.to_thread
import asyncpg

from orchestrator.databases import catalogs, fingerprint, version_tables
from orchestrator.databases import postgresql_questions as sql
from orchestrator.databases.base import Place
from orchestrator.databases.catalogs import Standing
from orchestrator.databases.connecting import in_words, translated
from orchestrator.plan.catalog import Catalog, Line

# Of a session that reads a catalog: it changes nothing, whatever it is sent.
SETTINGS = {"default_transaction_read_only": "on"}
# Names are written as the session's search path and role have them: both are made the same for all.
_BEGIN = "BEGIN; RESET ROLE; SET LOCAL search_path = pg_catalog; SET LOCAL statement_timeout = {milliseconds}"


async def read(
    connection: asyncpg.Connection[Any], place: Place, beside: Sequence[Place], lock: int, seconds: float
) -> Catalog:
    """The catalog over a session with `SETTINGS`. `lock` is the key of the target's lock, unsigned.

    Raises TargetLockedError while the target is being migrated, and TargetUnreachableError.
    """
    with translated(place), anyio.fail_after(seconds + place.limits.connect):
        before = await _standing(connection, place, beside)
        rows = await _rows(connection, place, seconds)
        holder = await connection.fetchrow(sql.HOLDER, lock)
        if holder is not None:
            raise catalogs.changing(place, f"it is being migrated by {in_words(holder)}")
        after = await _standing(connection, place, beside)
    tables = catalogs.tables_of(place, beside)
    lines = await anyio.to_thread.run_sync(_lines, rows, tables, place.target.schema)
    server = f"postgresql {connection.get_server_version().major}"
    return catalogs.catalog(place, server, before, after, lines, tables)


async def _standing(connection: asyncpg.Connection[Any], place: Place, beside: Sequence[Place]) -> Standing:
    heads = await version_tables.read(connection, place)
    return heads, tuple([(one.target.track, await version_tables.read(connection, one) or ()) for one in beside])


async def _rows(connection: asyncpg.Connection[Any], place: Place, seconds: float) -> Sequence[asyncpg.Record]:
    target = place.target
    others = place.neighbours().schemas if target.schema is None else ()
    question = fingerprint.query(target.schema, others, catalogs.names_of(place))
    await connection.execute(_BEGIN.format(milliseconds=round(seconds * 1000)))
    try:
        rows: Sequence[asyncpg.Record] = await connection.fetch(question, timeout=seconds)
    finally:
        if not connection.is_closed():
            await connection.execute("ROLLBACK")
    return rows


def _lines(rows: Sequence[asyncpg.Record], tables: Mapping[str, str], schema: str | None) -> Sequence[Line]:
    renamed = fingerprint.renaming(tables, schema)
    return [
        Line(renamed(text), relation or "", part or "", "" if space is None or space == schema else space)
        for text, space, relation, part in rows
    ]
