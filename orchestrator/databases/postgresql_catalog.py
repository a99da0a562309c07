"""Reads the catalog of a PostgreSQL database or schema, and with it the heads that it claims to be at."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio
import anyio.to_thread
import asyncpg

from orchestrator.databases import catalogs, fingerprint, version_tables
from orchestrator.databases import postgresql_questions as sql
from orchestrator.databases.base import Place
from orchestrator.databases.catalogs import Claimed
from orchestrator.databases.connecting import in_words, translated
from orchestrator.databases.postgresql_spelling import respelled
from orchestrator.plan.catalog import Catalog, Line

# Of a session that reads a catalog: it changes nothing, whatever it is sent.
SETTINGS = {"default_transaction_read_only": "on"}
# Names and values are written as the session's settings have them, which a database or a role may have of its own: they
# are made the same for all.
_SET = """RESET ROLE; SET LOCAL search_path = pg_catalog; SET LOCAL statement_timeout = {milliseconds};
    SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL intervalstyle = 'postgres';
    SET LOCAL extra_float_digits = 1; SET LOCAL bytea_output = 'hex'; SET LOCAL quote_all_identifiers = off;
    SET LOCAL standard_conforming_strings = on; SET LOCAL xmlbinary = 'base64'; SET LOCAL jit = off"""
# Rows that are taken at a time.
_ROWS = 500
# A setting of a function, as its text tells it.
_PATH = re.compile(r"^ SET search_path TO .*$", re.MULTILINE)


async def read(
    connection: asyncpg.Connection[Any], place: Place, beside: Sequence[Place], lock: int, seconds: float
) -> Catalog:
    """The catalog over a session with `SETTINGS`, in so many seconds. `lock` is the key of the target's lock, unsigned.

    Raises TargetLockedError while the target is being migrated, and TargetUnreachableError.
    """
    tables = catalogs.tables_of(place, beside)
    with translated(place), anyio.move_on_after(seconds + place.limits.connect) as scope:
        before = await _claimed(connection, place, beside)
        try:
            lines = await _lines(connection, place, tables, seconds)
        except asyncpg.LockNotAvailableError as exc:  # a view's text cannot be told without its tables
            raise catalogs.changing(place, "a table of it is kept locked by another session") from exc
        except asyncpg.QueryCanceledError as exc:
            raise catalogs.too_slow(place, seconds) from exc
        holder = await connection.fetchrow(sql.HOLDER, lock)
        if holder is not None:
            raise catalogs.changing(place, f"it is being migrated by {in_words(holder)}")
        after = await _claimed(connection, place, beside)
    if scope.cancelled_caught:
        raise catalogs.too_slow(place, seconds)
    server = f"postgresql {connection.get_server_version().major}"
    return await anyio.to_thread.run_sync(catalogs.catalog, place, server, before, after, lines, tables)


def _own_path(schema: str | None) -> Callable[[str], str]:
    """What gives a tenant's schema another name where it stands in the search path of a function."""
    if schema is None:
        return lambda line: line
    name = "'" + schema.replace("'", "''") + "'"
    own = re.compile(rf"(?<=[ ]){re.escape(name)}(?=, '|$)")

    def renamed(line: str) -> str:
        if not line.startswith("function | "):
            return line
        return _PATH.sub(lambda found: own.sub("'<schema>'", found[0]), line, count=1)

    return renamed


async def _claimed(connection: asyncpg.Connection[Any], place: Place, beside: Sequence[Place]) -> Claimed:
    heads = await version_tables.read(connection, place)
    return heads, tuple([(one.target.track, await version_tables.read(connection, one) or ()) for one in beside])


async def _lines(
    connection: asyncpg.Connection[Any], place: Place, tables: Mapping[str, str], seconds: float
) -> Sequence[Line]:
    schema = place.target.schema
    others = place.neighbours().schemas if schema is None else ()
    question = fingerprint.query(schema, others, catalogs.names_of(place))
    line_of = _line_of(fingerprint.renaming(tables, schema), schema)

    def read(rows: Sequence[asyncpg.Record]) -> list[Line]:
        return [line_of(*row) for row in rows]

    lines: list[Line] = []
    async with connection.transaction(readonly=True):
        await connection.execute(_SET.format(milliseconds=round(seconds * 1000)))
        cursor = await connection.cursor(question)
        while rows := await cursor.fetch(_ROWS):
            lines += await anyio.to_thread.run_sync(read, rows)  # a view's text may have megabytes
    return lines


def _line_of(renamed: Callable[[str], str], schema: str | None) -> Callable[..., Line]:
    """What makes a line of a row."""
    own_path = _own_path(schema)

    def line_of(text: str, space: str | None, relation: str | None, part: str | None) -> Line:
        space = "" if space is None or space == schema else space
        return Line(respelled(own_path(renamed(text))), relation or "", part or "", space)

    return line_of
