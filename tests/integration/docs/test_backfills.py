"""The blocks of the page about backfills are true: its revisions run, its loop goes wrong, its commands are taken."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
import typer.main
from alembic import command
from alembic.util import CommandError

from orchestrator.cli.application import app
from orchestrator.databases.embedded import Server
from orchestrator.registry import manifest
from tests import environments
from tests.integration.backfills.conftest import Make, Project, make_project  # noqa: F401
from tests.integration.docs.recipes import blocks
from tests.servers import MakeDatabases

NAME = re.compile(r'^revision, .* = "(\w+)"', re.MULTILINE)
REVISIONS = {name: text for text in blocks("backfills.md", "python") for name in NAME.findall(text)}
TICKETS = (
    """
    CREATE TABLE tickets (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, status text NOT NULL,
        created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL)
    """,
    """
    INSERT INTO tickets (status, created_at, updated_at)
    SELECT 'solved', '2026-01-01', '2026-01-01'::timestamptz + n * interval '1 s' FROM generate_series(1, 10000) AS n
    """,
)
OTHERS = (
    "CREATE TABLE users (id int PRIMARY KEY, name text NOT NULL, given_name text, family_name text)",
    """
    INSERT INTO users
    SELECT n, CASE n % 2 WHEN 0 THEN 'Ada Lovelace' ELSE 'Madonna' END FROM generate_series(1, 3000) AS n
    """,
    "CREATE TABLE bills (tenant text, nr int, year int NOT NULL, PRIMARY KEY (tenant, nr))",
    "INSERT INTO bills SELECT 't' || n % 7, n, 2015 + n % 10 FROM generate_series(1, 5000) AS n",
    "CREATE TABLE old_bills (LIKE bills INCLUDING ALL)",
)


@pytest.fixture
async def project(make_project: Make) -> Project:  # noqa: F811
    made = await make_project("psycopg")
    environments.use_transaction_per_migration(made.folder)
    made.execute(*TICKETS, *OTHERS)
    return made


def write(project: Project, names: Iterator[str] | list[str]) -> None:
    for name in names:
        head = "import sqlalchemy as sa\nfrom alembic import op\n"
        place = project.folder / "alembic" / "versions" / f"{name}.py"
        place.write_text(REVISIONS[name].replace('"""\n', f'"""\n{head}', 1))


STORY = [name for name in REVISIONS if name != "wrong"]


async def test_the_revisions_run_there_and_back(project: Project) -> None:
    write(project, STORY)
    asked = "SELECT id, name, given_name, family_name FROM users UNION ALL SELECT nr, tenant, year::text, '' FROM bills"
    before = project.rows(f"{asked} ORDER BY 1, 2")
    for _ in range(2):
        await project.upgrade()
        assert project.rows("SELECT count(*) FROM tickets WHERE resolution_time_seconds = id") == [(10000,)]
        assert project.rows("SELECT DISTINCT given_name, family_name FROM users ORDER BY 1") == [
            ("Ada", "Lovelace"),
            ("Madonna", None),
        ]
        assert project.rows("SELECT count(*) FILTER (WHERE year < 2020), count(*) FROM bills") == [(0, 2500)]
        assert project.rows("SELECT count(*) FROM old_bills WHERE year < 2020") == [(2500,)]
        assert len(project.checkpoints()) == 4
        await project.downgrade("base")
        assert project.rows(f"{asked} ORDER BY 1, 2") == before


async def test_the_contract_waits_for_the_backfill(project: Project) -> None:
    write(project, STORY)
    await project.upgrade("fill")
    project.execute("UPDATE alembic_version_backfills SET state = 'running'")
    with pytest.raises(CommandError, match="requires the backfills of revision fill: that of 'tickets' is"):
        await project.upgrade()


async def test_the_wrong_loop_skips_every_second_batch_and_holds_its_locks(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.execute("ALTER TABLE tickets ADD resolution_time_seconds integer")
    write(project, ["wrong"])
    waits: list[bool] = []

    def meanwhile(seconds: float) -> None:
        assert seconds == 0.5
        try:
            project.execute("SET lock_timeout = 1; UPDATE tickets SET status = 'closed' WHERE id = 1")
            waits.append(False)
        except sa.exc.OperationalError:
            waits.append(True)

    with monkeypatch.context() as patched:
        patched.setattr(time, "sleep", meanwhile)
        await project.run(lambda config: command.upgrade(config, "wrong"))
    assert waits == [True] * 5
    assert project.rows("SELECT count(*) FROM tickets WHERE resolution_time_seconds IS NULL") == [(5000,)]
    page = (Path(__file__).parents[3] / "docs" / "backfills.md").read_text()
    assert "On a table of 10,000 solved tickets it changes 5,000" in page


def test_the_registries_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "alembic").mkdir()
    (tmp_path / "alembic" / "env.py").touch()
    rest = "tracks: {app: {script_location: alembic}}\ntenants: [{id: acme, shard: %s, database: acme}]\n"
    for text in blocks("backfills.md", "yaml"):
        [shard, *_] = re.findall(r"^  ([\w-]+):$", text, re.MULTILINE)
        (tmp_path / "tenants.yaml").write_text(rest % shard + text)
        registry = manifest.load(tmp_path / "tenants.yaml", {"PG_EU_1_PASSWORD": "secret"})
        assert registry.shards[shard].backfill.probes


def test_the_commands_are_taken() -> None:
    lines = [line for text in blocks("backfills.md", "sh") for line in text.splitlines()]
    assert len(lines) == 10
    root = typer.main.get_command(app)
    for line in lines:
        program, *words = shlex.split(line, comments=True)
        assert program == "orchestrator"
        taken = root
        while words and not words[0].startswith("-") and words[0] in getattr(taken, "commands", {}):
            taken = taken.commands[words.pop(0)]  # type: ignore[attr-defined]
        taken.make_context("backfill", words)  # raises a usage error for what it does not know


async def test_the_right_can_be_given(pg: Server, make_databases: MakeDatabases) -> None:
    [database] = await make_databases(1)
    [grant] = blocks("backfills.md", "sql")
    engine = sa.create_engine(sa.make_url(pg.url(database)).set(drivername="postgresql+psycopg"), poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text("CREATE ROLE migrator"))
        connection.execute(sa.text(grant))  # and all of it is rolled back
