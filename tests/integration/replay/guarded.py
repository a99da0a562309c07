"""A history whose revisions look at the catalog before they change anything, as those of many applications do, and what
becomes of databases that it is run on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg

from orchestrator.databases import fingerprint
from orchestrator.databases.embedded import Server
from orchestrator.events import MigrationFinished, PlanJudged
from orchestrator.registry.model import Registry
from tests import engine, environments
from tests.engine import Engine

USERS = """op.create_table("users", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.Text))
op.execute("INSERT INTO users VALUES (1, 'first')")"""
TABLE = """bind = op.get_bind()
if not sa.inspect(bind).has_table("notes"):
    op.create_table("notes", sa.Column("id", sa.Integer, primary_key=True), sa.Column("body", sa.Text, comment="it's"))
rows = [{"id": 2, "name": "it's 100 % :id"}, {"id": 3, "name": None}]
op.bulk_insert(sa.table("users", sa.column("id", sa.Integer), sa.column("name", sa.Text)), rows)"""
COLUMN = """bind = op.get_bind()
if "age" not in [c["name"] for c in sa.inspect(bind).get_columns("users")]:
    op.add_column("users", sa.Column("age", sa.Integer, server_default="7"))
bind.execute(sa.text("UPDATE users SET age = :age WHERE id = :id"), {"age": 40, "id": 1})"""
WORDED = """bind = op.get_bind()
asked = "SELECT count(*) FROM information_schema.columns WHERE table_name = :name AND column_name = 'mail'"
if not bind.scalar(sa.text(asked), {"name": "users"}):
    op.add_column("users", sa.Column("mail", sa.Enum("on", "off", name="mail"), nullable=True)) if bind.execute(
        sa.text("SELECT 1 FROM pg_type WHERE typname = 'mail'")
    ).first() else sa.Enum("on", "off", name="mail").create(bind, checkfirst=True)"""
INDEX = """bind = op.get_bind()
if "ix_name" not in [one["name"] for one in sa.inspect(bind).get_indexes("users")]:
    with op.get_context().autocommit_block():
        op.create_index("ix_name", "users", ["name"], postgresql_concurrently=True)
op.execute("INSERT INTO users VALUES (4, 'after the index')")"""


def make_project(folder: Path, *bodies: str, each: bool = True) -> Path:
    """A history of these bodies of revisions, `r0`, `r1`, …, each in a transaction of its own, or all in one."""
    environments.make_project(folder)
    if each:
        environments.use_transaction_per_migration(folder)
    for number, body in enumerate(bodies):
        add(folder, number, body)
    return folder


def add(folder: Path, number: int, body: str) -> None:
    environments.add_revision(folder, f"r{number}", f"r{number - 1}" if number else None, body)


def unless_there(table: str, column: str) -> str:
    """Make a table unless it is there."""
    makes = f"op.create_table({table!r}, sa.Column({column!r}, sa.Integer), schema='public')"
    return f"if not sa.inspect(op.get_bind()).has_table({table!r}):\n    {makes}"


def registry_of(project: Path, pg: Server, databases: Sequence[str], **track: Any) -> Registry:
    made = replace(environments.track_of(project / "alembic.ini"), **{"execution": "auto", **track})
    return engine.registry_of([made], [engine.shard_of(pg)], engine.targets_of(databases))


def ways(running: Engine) -> dict[str, str]:
    return {event.tenant: event.execution for event in running.of(MigrationFinished)}


def judged(running: Engine) -> PlanJudged:
    (found,) = running.of(PlanJudged)
    event: PlanJudged = found
    return event


async def picture(pg: Server, database: str, tables: Sequence[str] = ("users",)) -> tuple[Any, ...]:
    """The schema, and the rows of tables and of the version table."""
    connection = await asyncpg.connect(pg.url(database))
    try:
        await connection.execute("SET search_path = pg_catalog")
        lines = sorted(row[0] for row in await connection.fetch(fingerprint.query(None)))
        rows = [
            sorted(map(repr, await connection.fetch(f"SELECT * FROM public.{name}")))
            for name in (*tables, "alembic_version")
        ]
    finally:
        await connection.close()
    return (*lines, *map(tuple, rows))


async def as_online(project: Path, pg: Server, database: str) -> tuple[Any, ...]:
    """What becomes of a database that env.py migrates."""
    async with engine.running(registry_of(project, pg, [database], execution="online")) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": 1}, view.failures
    return await picture(pg, database)
