"""Targets that look alike and are not, as far as revisions that look at the catalog can tell: what was recorded on the
first ones does not reach them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.databases.embedded import Server
from orchestrator.registry.model import Target
from tests import engine, environments
from tests.integration.replay import guarded
from tests.servers import MakeDatabases

ITS_SCHEMA = "schema = op.get_context().version_table_schema"


@pytest.mark.parametrize(
    "finds",
    [
        ITS_SCHEMA,
        f"{ITS_SCHEMA}\nsa.inspect(op.get_bind()).has_table('t')",
        "schema = sa.inspect(op.get_bind()).get_enums()[0]['schema']",
    ],
)
async def test_the_schema_of_the_first_tenants_is_left_alone_where_it_is_another_tenants(
    finds: str, pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    """Most tenants have a schema of the same name in databases of their own."""
    mood = "op.execute(\"CREATE TYPE mood AS ENUM ('a', 'b')\")"
    project = guarded.make_project(tmp_path / "project", mood, f"{finds}\nop.create_table('made', schema=schema)")
    *databases, shared = await make_databases(5)
    await engine.execute(pg, shared, "CREATE SCHEMA app")
    registry = guarded.registry_of(project, pg, databases)
    targets = [replace(target, schema="app", create_schema=True) for target in registry.targets]
    targets.append(Target("t004", "app", "pg", shared, schema="main", create_schema=True))
    async with engine.running(replace(registry, targets=tuple(targets)), max_concurrent=1) as running:
        assert (await running.rollout()).counts == {"succeeded": 5}
        assert sorted(guarded.ways(running).values()) == ["mixed"] * 3 + ["online"] * 2
    tables = "SELECT relnamespace::regnamespace::text FROM pg_class WHERE relname = 'made'"
    assert await engine.fetch(pg, shared, tables) == [("main",)]


ONE_WAS_DROPPED = "ALTER TABLE users ADD a int; ALTER TABLE users DROP a, DROP name; ALTER TABLE users ADD name text"
NUMBERED = "information_schema.columns WHERE table_name = 'users' AND ordinal_position > 2"
COUNTED = "pg_attribute WHERE attrelid = 'users'::regclass AND attnum > 2"
UNLESS = """if not op.get_bind().scalar(sa.text("SELECT count(*) FROM {}")):
    op.add_column("users", sa.Column("n", sa.Integer))"""
MAKES = """CREATE FUNCTION more() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    EXECUTE format('CREATE TABLE IF NOT EXISTS made_%s (a int)', NEW.id); RETURN NEW; END $$;
    CREATE TRIGGER more AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION more();
    INSERT INTO users SELECT n FROM generate_series(2, {}) AS n"""
MADE = ["op.execute('UPDATE users SET name = $$changed$$')", guarded.unless_there("made_3", "b")]
LOOKS_IN = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = {}', current_database()); END $$"
IN_SCHEMA = ["op.execute('CREATE SCHEMA app CREATE TABLE notes (a int)')", guarded.unless_there("notes", "b")]


@pytest.mark.parametrize(
    ("bodies", "first", "last"),
    [
        ([UNLESS.format(NUMBERED)], "SELECT 1", ONE_WAS_DROPPED),
        ([UNLESS.format(COUNTED)], "SELECT 1", ONE_WAS_DROPPED),
        (MADE, MAKES.format(3), MAKES.format(2)),
        (IN_SCHEMA, LOOKS_IN.format("app, public"), LOOKS_IN.format("public")),
    ],
)
async def test_what_another_answers_otherwise_is_done_by_env_py(
    bodies: Sequence[str], first: str, last: str, pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    project = guarded.make_project(tmp_path / "project", guarded.USERS, *bodies)
    *databases, plain = await make_databases(6)
    registry = guarded.registry_of(project, pg, [*databases, plain])
    async with engine.running(registry, max_concurrent=1) as running:
        await running.rollout("r0")
        for database in databases[:-1]:
            await engine.execute(pg, database, first)
        for database in (databases[-1], plain):
            await engine.execute(pg, database, last)
        view = await running.rollout(select="tenant!=t005")
        assert view.counts == {"succeeded": 5}, view.failures
    expected = await guarded.as_online(project, pg, plain)
    assert await guarded.picture(pg, databases[-1]) == expected
    assert await guarded.picture(pg, databases[-2]) != expected, "so it is not alike"


async def test_what_was_rendered_and_seen_otherwise_is_sent_to_nobody(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    """What the plan shows is what comes of rendering it: there, nothing that follows a question is run."""
    asks = "sa.inspect(op.get_bind()).has_table('t')\nsa.asked_before = True"
    goes_by = "op.execute('CREATE TABLE ' + ('seen' if getattr(sa, 'asked_before', False) else 'shown') + ' (a int)')"
    project = guarded.make_project(tmp_path / "project", guarded.USERS, asks, goes_by)
    databases = await make_databases(5)
    async with engine.running(guarded.registry_of(project, pg, databases, isolation="process")) as running:
        assert (await running.rollout()).counts == {"succeeded": 5}
        judged = guarded.judged(running)
        assert (judged.execution, judged.differs) == ("online", True)
        assert "what env.py sent is not what was compiled (revision r2, statement 1)" in str(judged.reason)


async def test_a_revision_that_runs_a_coroutine_is_followed(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    work = """async def work(connection):
    await connection.execute(sa.text("INSERT INTO users VALUES (5, 'fifth')"))
    assert await connection.scalar(sa.text("SELECT count(*) FROM users")) == 2
op.run_async(work)"""
    project = tmp_path / "project"
    config = environments.make_project(project, "async")
    for number, body in enumerate([guarded.USERS, work]):
        guarded.add(project, number, body)
    databases = await make_databases(4)
    registry = guarded.registry_of(project, pg, databases)
    track = replace(registry.tracks["app"], config=config)
    async with engine.running(replace(registry, tracks={"app": track})) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": 4}, view.failures
