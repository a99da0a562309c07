from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

import anyio
import anyio.to_thread
import asyncpg
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from orchestrator.databases.binaries import find_binaries
from orchestrator.databases.embedded import Server
from tests import forked_alembic
from tests.servers import MakeDatabases

PROJECT = Path(__file__).parents[2]
SCRIPTS = ScriptDirectory(str(PROJECT / "alembic"))
HISTORY = [script.revision for script in reversed(list(SCRIPTS.walk_revisions()))]

BEFORE_THE_NUMBER = "38b94514c01c"
NUMBER_ADDED = "d9d9a5c363ec"
NUMBER_ONLY = "2e7f6d6587d8"
# What lies behind it asks the database as it goes, so it cannot be written as a script.
BEFORE_BACKFILLS = "e46c218a144d"

CATALOG = {
    "columns": """
        SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity::text,
               a.attgenerated::text, pg_get_expr(d.adbin, d.adrelid)
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
    """,
    "constraints": """
        SELECT conrelid::regclass::text, conname, contype::text, convalidated, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    """,
    "indexes": """
        SELECT i.indrelid::regclass::text, i.indexrelid::regclass::text, i.indisvalid, pg_get_indexdef(i.indexrelid)
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relnamespace = 'public'::regnamespace
    """,
    "types": """
        SELECT t.typname, array_agg(e.enumlabel::text ORDER BY e.enumsortorder)
        FROM pg_type t JOIN pg_enum e ON e.enumtypid = t.oid GROUP BY t.typname
    """,
    "triggers": "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
    "functions": "SELECT proname, prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
}

Schema = Mapping[str, list[str]]


async def schema_of(connection: asyncpg.Connection) -> Schema:
    """Return what the catalog says of the database, sorted by name: a column made anew comes last in its table."""
    found = {kind: sorted(str(tuple(row)) for row in await connection.fetch(query)) for kind, query in CATALOG.items()}
    return {kind: [row for row in rows if "alembic_version" not in row] for kind, rows in found.items()}


class Tenant:
    """A database, the plain Alembic commands on it, and a session to look at what they did."""

    def __init__(self, url: str, connection: asyncpg.Connection) -> None:
        self.url = url
        self.connection = connection
        self._config = Config()
        self._config.set_main_option("script_location", str(PROJECT / "alembic"))
        self._config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))

    async def upgrade(self, goal: str) -> None:
        await anyio.to_thread.run_sync(command.upgrade, self._config, goal)

    async def downgrade(self, goal: str) -> None:
        await anyio.to_thread.run_sync(command.downgrade, self._config, goal)

    async def schema(self) -> Schema:
        return await schema_of(self.connection)

    async def revision(self) -> str | None:
        found: str | None = await self.connection.fetchval("SELECT version_num FROM alembic_version")
        return found


@pytest.fixture
async def tenant(pg: Server, make_databases: MakeDatabases) -> AsyncIterator[Tenant]:
    [name] = await make_databases(1)
    connection = await asyncpg.connect(pg.url(name))
    yield Tenant(pg.url(name), connection)
    await connection.close()


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


async def alembic(*arguments: str, environment: Mapping[str, str] | None = None) -> Done:
    """Run the `alembic` command as an operator would, at the project's top."""
    inherited = {key: value for key, value in os.environ.items() if key != "DATABASE_URL"}
    env = inherited | dict(environment or {})
    with open(os.devnull) as null, TemporaryFile("w+") as out, TemporaryFile("w+") as err:  # noqa: ASYNC230
        streams = {"stdin": null.fileno(), "stdout": out.fileno(), "stderr": err.fileno()}
        process = forked_alembic.start(["-c", "alembic/alembic.ini", *arguments], cwd=PROJECT, env=env, **streams)
        code = await anyio.to_thread.run_sync(process.wait)
        for stream in (out, err):
            stream.seek(0)
        return Done(code, out.read(), err.read())


def test_the_history_is_one_line_of_revisions() -> None:
    assert len(SCRIPTS.get_heads()) == len(SCRIPTS.get_bases()) == 1
    assert len(HISTORY) >= 12
    assert not any(script.is_merge_point or script.is_branch_point for script in SCRIPTS.walk_revisions())


def test_every_revision_says_why() -> None:
    for script in SCRIPTS.walk_revisions():
        reason = script.longdoc.removeprefix(script.doc).partition("Revision ID")[0]
        assert len(reason.split()) > 10, script.path


def test_the_environment_does_not_shadow_the_library() -> None:
    assert not (PROJECT / "alembic" / "__init__.py").exists()
    assert not Path(command.__file__).is_relative_to(PROJECT / "alembic")


@pytest.mark.parametrize("way", ["-x", "DATABASE_URL"])
async def test_the_command_upgrades_an_empty_database_and_then_has_nothing_to_do(tenant: Tenant, way: str) -> None:
    arguments = ["-x", f"url={tenant.url}"] if way == "-x" else []
    environment = {} if way == "-x" else {"DATABASE_URL": tenant.url}
    first = await alembic(*arguments, "upgrade", "head", environment=environment)
    assert first.returncode == 0, first.stderr
    assert first.stderr.count("Running upgrade") == len(HISTORY)
    assert await tenant.revision() == HISTORY[-1]
    before = await tenant.schema()
    second = await alembic(*arguments, "upgrade", "head", environment=environment)
    assert second.returncode == 0, second.stderr
    assert "Running upgrade" not in second.stderr
    assert await tenant.schema() == before


async def test_the_url_of_the_command_line_goes_before_that_of_the_environment(tenant: Tenant) -> None:
    nowhere = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nowhere"}
    shown = await alembic("-x", f"url={tenant.url}", "current", environment=nowhere)
    assert shown.returncode == 0, shown.stderr


async def test_without_a_url_the_command_says_which_are_read() -> None:
    refused = await alembic("upgrade", "head")
    assert refused.returncode != 0
    assert "DATABASE_URL" in refused.stdout + refused.stderr


async def test_every_downgrade_restores_the_schema_before_and_every_upgrade_is_repeatable(tenant: Tenant) -> None:
    for goal in HISTORY:
        before = await tenant.schema()
        await tenant.upgrade(goal)
        after = await tenant.schema()
        await tenant.downgrade("-1")
        assert await tenant.schema() == before, f"downgrade of {goal}"
        await tenant.upgrade(goal)
        assert await tenant.schema() == after, f"second upgrade to {goal}"


async def test_down_to_base_and_up_again_is_the_same_schema(tenant: Tenant) -> None:
    empty = await tenant.schema()
    await tenant.upgrade("head")
    full = await tenant.schema()
    assert full["columns"]
    for _ in HISTORY:
        await tenant.downgrade("-1")
    assert await tenant.schema() == empty
    await tenant.upgrade("head")
    assert await tenant.schema() == full


async def test_priorities_survive_their_change_of_type_in_both_directions(tenant: Tenant) -> None:
    await tenant.upgrade(BEFORE_THE_NUMBER)
    await tenant.connection.execute("INSERT INTO users (email, name) VALUES ('ada@example.org', 'Ada')")
    insert = "INSERT INTO tickets (requester_id, subject, {0}) VALUES (1, $1, $2)"
    texts = {"one": "low", "two": "normal", "three": "high", "four": "urgent"}
    await tenant.connection.executemany(insert.format("priority"), texts.items())

    await tenant.upgrade(NUMBER_ADDED)
    await tenant.connection.execute(insert.format("priority"), "by an old release", "urgent")
    await tenant.connection.execute(insert.format("priority_level"), "by a new release", 3)
    await tenant.connection.execute("UPDATE tickets SET priority = 'high' WHERE subject = 'one'")
    await tenant.connection.execute("UPDATE tickets SET priority_level = 1 WHERE subject = 'by an old release'")

    await tenant.upgrade(NUMBER_ONLY)
    await tenant.connection.execute("INSERT INTO tickets (requester_id, subject) VALUES (1, 'by default')")
    levels = dict(await tenant.connection.fetch("SELECT subject, priority_level FROM tickets"))
    assert levels == {
        "one": 3,
        "two": 2,
        "three": 3,
        "four": 4,
        "by an old release": 1,
        "by a new release": 3,
        "by default": 2,
    }

    await tenant.downgrade(BEFORE_THE_NUMBER)
    names = ["low", "normal", "high", "urgent"]
    found = dict(await tenant.connection.fetch("SELECT subject, priority FROM tickets"))
    assert found == {subject: names[level - 1] for subject, level in levels.items()}


async def test_going_back_turns_on_hold_into_pending(tenant: Tenant) -> None:
    await tenant.upgrade(BEFORE_BACKFILLS)
    await tenant.connection.execute("INSERT INTO users (email, name) VALUES ('ada@example.org', 'Ada')")
    insert = "INSERT INTO tickets (requester_id, subject, status) VALUES (1, $1, $1::text::ticket_status)"
    await tenant.connection.executemany(insert, [["on_hold"], ["solved"]])
    await tenant.downgrade("75fbfdad8fdd")
    found = dict(await tenant.connection.fetch("SELECT subject, status::text FROM tickets"))
    assert found == {"on_hold": "pending", "solved": "solved"}


async def test_an_interrupted_concurrent_build_is_replaced(tenant: Tenant) -> None:
    await tenant.upgrade("2e7f6d6587d8")
    await tenant.connection.execute("CREATE INDEX ix_tickets_queue ON tickets (id)")
    await tenant.upgrade("ce55f0c26884")
    [index] = [row for row in (await tenant.schema())["indexes"] if "ix_tickets_queue" in row]
    assert "(assignee_id, status, updated_at DESC)" in index


async def test_offline_sql_renders_without_touching_the_database(tenant: Tenant) -> None:
    rendered = await alembic("-x", f"url={tenant.url}", "upgrade", BEFORE_BACKFILLS, "--sql")
    assert rendered.returncode == 0, rendered.stderr
    assert rendered.stdout.count("CREATE INDEX CONCURRENTLY") == 2
    refused = await alembic("-x", f"url={tenant.url}", "upgrade", f"{BEFORE_BACKFILLS}:head", "--sql")
    assert "so revision c41d7a58e0b3 cannot be written as a script" in refused.stderr
    back = await alembic("-x", f"url={tenant.url}", "downgrade", f"{BEFORE_BACKFILLS}:base", "--sql")
    assert back.returncode == 0, back.stderr
    assert back.stdout.count("DROP TABLE") >= 6
    assert await tenant.connection.fetchval("SELECT to_regclass('alembic_version')") is None


async def test_offline_sql_makes_the_schema_that_an_upgrade_makes(tenant: Tenant) -> None:
    psql = shutil.which("psql", path=f"{find_binaries()}{os.pathsep}{os.environ['PATH']}")
    if psql is None:
        pytest.skip("needs psql")
    rendered = await alembic("-x", f"url={tenant.url}", "upgrade", BEFORE_BACKFILLS, "--sql")
    program = [psql, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", tenant.url]
    await anyio.run_process(program, input=rendered.stdout.encode())
    assert await tenant.revision() == BEFORE_BACKFILLS
    offline = await tenant.schema()
    await tenant.downgrade("base")
    await tenant.upgrade(BEFORE_BACKFILLS)
    assert await tenant.schema() == offline
