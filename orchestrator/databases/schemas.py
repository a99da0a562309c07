"""A tenant's schema within a PostgreSQL database."""

from __future__ import annotations

from typing import Any

import asyncpg

from orchestrator.databases.base import NAMES, Place
from orchestrator.databases.connecting import translated
from orchestrator.databases.quoting import literal, quoted
from orchestrator.errors import TargetUnreachableError
from orchestrator.registry.model import Target

# What a migrating session must find again: nothing where the tenant has a database of its own; else the schema, unless
# it is not ours to use, for then it would not count in the search path.
_PROOF = """(SELECT CASE WHEN pg_catalog.has_schema_privilege(n.oid, 'USAGE') THEN n.oid::text END
    FROM pg_catalog.pg_namespace n WHERE n.nspname = {name})"""
# Tables beside version tables, and first whether one of those is another target's: then the tables may be its.
_TABLES = """SELECT c.relname::text AS name
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE CASE WHEN ${0}::text = '' THEN n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    AND n.nspname <> ALL (pg_catalog.string_to_array(${1}::text, E'\\n')) ELSE n.nspname = ${0}::text END
    AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d
    WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
    ORDER BY c.relname = ANY (pg_catalog.string_to_array(${2}::text, E'\\n')) DESC, name LIMIT {limit}"""


def proof(target: Target) -> str:
    """An expression for the id of the target's schema, as text; NULL where it has none, or may not use it."""
    return "NULL::text" if target.schema is None else _PROOF.format(name=literal(target.schema))


def search_path(target: Target) -> str | None:
    """The search path of every session that migrates the target; None: as the server has it."""
    return None if target.schema is None else ", ".join(map(quoted, (target.schema, *target.search_path)))


async def exists(connection: asyncpg.Connection[Any], target: Target) -> bool:
    """Whether the target's schema is there; true where it needs none."""
    if target.schema is None:
        return True
    question = "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1"
    return await connection.fetchval(question, target.schema) is not None


async def make(connection: asyncpg.Connection[Any], place: Place) -> str | None:
    """Make the target's schema if it is missing; returns what `proof` tells of it.

    Raises TargetUnreachableError when it may not be made or used.
    """
    target = place.target
    if target.schema is None:
        return None
    if not await exists(connection, target):
        if not target.create_schema:
            raise missing(place)
        try:
            with translated(place):
                await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(target.schema)}")
        except TargetUnreachableError as exc:
            if exc.kind == "permission":
                exc.remedy = "grant the shard's user CREATE on the database, or create the schema"
            raise
    found: str | None = await connection.fetchval(f"SELECT {proof(target)}")
    if found is None:
        raise forbidden(place)
    return found


def tables(first: int) -> str:
    """A query for names of tables and views that are there, as `named` takes them; its parameters are `listed`, from
    the `first` on. Those of extensions do not count."""
    return _TABLES.format(first, first + 1, first + 2, limit=NAMES)


def listed(place: Place) -> tuple[str, str, str]:
    """The parameters of `tables`."""
    target, beside = place.target, place.neighbours()
    elsewhere = beside.schemas if target.schema is None else ()
    return target.schema or "", "\n".join(elsewhere), "\n".join(beside.version_tables)


def missing(place: Place) -> TargetUnreachableError:
    return TargetUnreachableError(
        f"there is no schema {place.target.schema!r} in database {place.name}",
        kind="missing_schema",
        code="3F000",
        remedy="create it, let it be made by `create: true` with the tenant, or correct `schema:`",
    )


def forbidden(place: Place) -> TargetUnreachableError:
    return TargetUnreachableError(
        f"the schema of {place.target.tenant!r} in database {place.name} or its version table is not ours to read",
        kind="permission",
        code="42501",
        remedy="grant the shard's user USAGE and CREATE on the schema and SELECT on the version table",
    )
