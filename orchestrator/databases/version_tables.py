"""What the version tables of a PostgreSQL database hold: one of them, or those of thousands of schemas."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import asyncpg

from orchestrator.databases import schemas
from orchestrator.databases.base import Found, Place, heads_of
from orchestrator.databases.connecting import in_words, translated
from orchestrator.databases.refusals import version_table_locked
from orchestrator.databases.scripts import VersionTable
from orchestrator.errors import TargetError
from orchestrator.registry.model import Heads

# A statement keeps each table that it reads locked, and its indexes, until it ends; a server has room for some 64 locks
# for each connection it may have, so that one statement over 17,000 schemas exhausts it.
SLICE = 500
# How long one version table that somebody keeps locked may hold up the others.
PATIENCE = "250ms"

NO_TABLE = (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError)
_HOLDER = """SELECT a.pid, a.application_name, a.state, extract(epoch FROM now() - a.xact_start)::float AS seconds
    FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid)
    WHERE l.locktype = 'relation' AND l.granted AND l.mode = 'AccessExclusiveLock'
    AND l.relation = pg_catalog.to_regclass($1)
    AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) LIMIT 1"""
# Asked of the catalog, where one schema that is not ours to use does not fail the question for all.
_PRESENT = """SELECT wanted.space IS NULL OR n.oid IS NOT NULL AS has_schema, found.oid IS NOT NULL AS has_table,
    coalesce(pg_catalog.has_schema_privilege(n.oid, 'USAGE'), true)
    AND coalesce(pg_catalog.has_table_privilege(found.oid, 'SELECT'), true) AS readable
    FROM ROWS FROM (pg_catalog.unnest(pg_catalog.string_to_array($1, E'\\n', '')),
        pg_catalog.unnest(pg_catalog.string_to_array($2, E'\\n'))) WITH ORDINALITY AS wanted(space, name, number)
    LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = wanted.space
    CROSS JOIN LATERAL (SELECT CASE WHEN wanted.space IS NULL
        THEN pg_catalog.to_regclass(pg_catalog.quote_ident(wanted.name))::oid
        ELSE (SELECT c.oid FROM pg_catalog.pg_class c WHERE c.relnamespace = n.oid AND c.relname = wanted.name) END
    AS oid) found
    ORDER BY number"""


async def read(connection: asyncpg.Connection[Any], place: Place) -> Heads | None:
    """The heads in the target's version table; None when there is none.

    Raises TargetLockedError, TargetUnreachableError where the tenant's schema is missing, and the driver's errors.
    """
    table = VersionTable.of(place.target).qualified
    try:
        rows = await connection.fetch(f"SELECT version_num FROM {table}")
    except NO_TABLE:
        if not place.target.create_schema and not await schemas.exists(connection, place.target):
            raise schemas.missing(place) from None
        return None
    except asyncpg.LockNotAvailableError as exc:
        raise await locked(connection, place, exc) from exc
    return heads_of(place, (row[0] for row in rows))


async def locked(connection: asyncpg.Connection[Any], place: Place, exc: asyncpg.LockNotAvailableError) -> TargetError:
    """The error that names who keeps the version table locked."""
    holder = await connection.fetchrow(_HOLDER, VersionTable.of(place.target).qualified)
    return version_table_locked(place, exc.sqlstate, in_words(holder) if holder is not None else None)


async def read_many(connection: asyncpg.Connection[Any], places: Sequence[Place], found: Found) -> None:
    """Call `found` for the target of each place, all of them in this connection's database.

    Raises the driver's errors when nothing more can be read.
    """
    await connection.execute(f"SET lock_timeout = '{PATIENCE}'")
    for start in range(0, len(places), SLICE):
        await _read_slice(connection, places[start : start + SLICE], found)


async def _read_slice(connection: asyncpg.Connection[Any], places: Sequence[Place], found: Found) -> None:
    tables = [VersionTable.of(place.target) for place in places]
    listed = ("\n".join(table.schema or "" for table in tables), "\n".join(table.name for table in tables))
    readable: list[Place] = []
    for place, row in zip(places, await connection.fetch(_PRESENT, *listed), strict=True):
        absent = not row["has_schema"] and not place.target.create_schema
        problem = schemas.missing(place) if absent else None if row["readable"] else schemas.forbidden(place)
        if problem is None and row["has_table"]:
            readable.append(place)
        else:
            found(place.target, None, problem)
    await _read_tables(connection, readable, found)


async def _read_tables(connection: asyncpg.Connection[Any], places: Sequence[Place], found: Found) -> None:
    """In one statement; where that fails for one of them, each by itself."""
    if not places:
        return
    try:
        rows = await connection.fetch(_union(places))
    except asyncpg.PostgresError:  # what one table is like must not be told of the others
        if connection.is_closed():
            raise
        for place in places:
            await _read_alone(connection, place, found)
        return
    held: defaultdict[int, list[object]] = defaultdict(list)
    for number, head in rows:
        held[number].append(head)
    for number, place in enumerate(places):
        try:
            heads = heads_of(place, held[number])
        except TargetError as exc:
            found(place.target, None, exc)
        else:
            found(place.target, heads, None)


async def _read_alone(connection: asyncpg.Connection[Any], place: Place, found: Found) -> None:
    try:
        with translated(place):
            heads = await read(connection, place)
    except TargetError as exc:
        if connection.is_closed():
            raise
        found(place.target, None, exc)
    else:
        found(place.target, heads, None)


def _union(places: Sequence[Place]) -> str:
    parts: Iterator[str] = (
        f"SELECT {number} AS number, version_num::text AS head FROM {VersionTable.of(place.target).qualified}"
        for number, place in enumerate(places)
    )
    return " UNION ALL ".join(parts)
