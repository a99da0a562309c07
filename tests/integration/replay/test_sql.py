"""What `orchestrator plan` and `orchestrator sql` show is what a server is sent."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import yaml

from orchestrator.databases.embedded import EmbeddedServer, Server, create_databases
from orchestrator.plan import recorded
from tests import engine, environments
from tests.benchmarks import rollout
from tests.command import run
from tests.servers import MakeDatabases

ROOT = Path(__file__).parents[3]


def write_registry(folder: Path, server: Server, databases: list[str], config: Path, **track: object) -> None:
    content = {
        "tracks": {"app": {"config": str(config), "execution": "auto", **track}},
        "shards": {"pg": {"url": server.url("postgres").rsplit("/", 1)[0]}},
        "tenants": [{"id": f"t{n:03}", "shard": "pg", "database": name} for n, name in enumerate(databases)],
    }
    (folder / "tenants.yaml").write_text(yaml.safe_dump(content))


async def sql_of(folder: Path, *arguments: str) -> list[str]:
    done = await run("sql", "--json", *arguments, cwd=folder)
    assert done.code == 0, done.err
    (group,) = [group for group in json.loads(done.out)["groups"] if group["steps"]]
    found: list[str] = group["sql"]
    return found


# Asked of a server that is new to us, before anything of the migration.
POOLER_QUESTION = "SELECT 1 WHERE pg_catalog.pg_backend_pid() ="


async def logged(server: EmbeddedServer, database: str) -> list[str]:
    """The simple queries that the server logged for a database, in order; each as it was sent."""
    home = Path((await engine.fetch(server, "postgres", "SHOW data_directory"))[0][0]).parent
    text = await anyio.Path(home / "server.log").read_text()
    mark, within = f"{database} LOG:  statement: ", False
    found: list[str] = []
    for line in text.split("\n"):
        if line.startswith("\t"):
            found[-1:] = [f"{found[-1]}\n{line[1:]}"] if within else found[-1:]
            continue
        within = mark in line  # another message ends the one before
        if within:
            found.append(line.split(mark, 1)[1])
    return found


async def test_the_server_gets_what_was_shown(tmp_path: Path) -> None:
    settings = {"log_statement": "all", "log_line_prefix": "%d "}
    ten, example = rollout.ten_revisions(tmp_path / "ten"), ROOT / "alembic" / "alembic.ini"
    async with EmbeddedServer(name="logs", settings=settings) as server:
        # What lies behind in the example is about data, and run by env.py.
        for label, config, goal in (("ten", ten, "head"), ("example", example, "e46c218a144d")):
            databases = [f"{label}_{number}" for number in range(2)]
            await create_databases(server, databases)
            write_registry(tmp_path, server, databases, config, execution="replay")
            shown = await sql_of(tmp_path, "--to", goal)
            assert (await run("migrate", "--to", goal, "--select", "tenant=t000", cwd=tmp_path)).code == 0
            sent = await logged(server, databases[0])
            assert [text for text in sent if not text.startswith(POOLER_QUESTION)] == shown
            assert len(shown) == (1 if label == "ten" else 29)


async def test_a_plan_says_which_revisions_are_sql_and_why_others_are_not(
    tmp_path: Path, pg: Server, make_databases: MakeDatabases
) -> None:
    config = environments.make_project(tmp_path / "project")
    environments.add_tables(tmp_path / "project", ["alpha"])
    environments.use_transaction_per_migration(tmp_path / "project")
    environments.add_revision(tmp_path / "project", "asks", "alpha", "sa.inspect(op.get_bind()).get_table_names()")
    environments.add_revision(tmp_path / "project", "omega", "asks", "op.execute('SELECT 1')")
    write_registry(tmp_path, pg, await make_databases(4), config)
    await run("migrate", "--to", "alpha", "--select", "tenant=t003", cwd=tmp_path)
    done = await run("plan", cwd=tmp_path)
    assert done.code == 0
    lines = [line.split(maxsplit=2) for line in done.out.splitlines() if line.strip()]
    assert lines[0] == ["4", "of", "4 targets would be migrated, app to head; nothing was changed"]
    assert lines[1] == ["3", "targets", "at -: unprovisioned  t000, t001, t002"]
    assert lines[2:5] == [
        ["alpha", "sql"],
        ["asks", "online", f"it asks the connection for an answer: inspect(); {recorded.MAY_BE}"],
        ["omega", "sql"],
    ]
    lasting = "it cannot be taken back: its downgrade is empty"
    assert lines[5:7] == [["info", "irreversible", f"{revision}: {lasting}"] for revision in ("asks", "omega")]
    assert lines[7] == ["1", "target", "at alpha: behind  t003"]
    assert lines[-1][0] == "digest"
    again = await run("plan", cwd=tmp_path)
    assert again.out == done.out, "nothing changed, so nothing does"
    script = (await run("sql", cwd=tmp_path)).out
    assert "-- asks is run by env.py: it asks the connection" in script
    assert "-- revision omega\nSELECT 1;" in script
    assert "-- 3 targets at -, to head; as t000 is sent it\n" in script
    assert "-- 1 target at alpha, to head\n" in script
    await run("migrate", "--select", "tenant=t003", cwd=tmp_path)
    changed = await run("plan", cwd=tmp_path)
    assert changed.out.splitlines()[-1] != done.out.splitlines()[-1], "the digest is of the targets too"


async def test_a_target_that_cannot_be_reached_is_told_by_the_exit_code(
    tmp_path: Path, pg: Server, make_databases: MakeDatabases
) -> None:
    config = environments.make_project(tmp_path / "project")
    environments.add_tables(tmp_path / "project", ["alpha"])
    write_registry(tmp_path, pg, [*(await make_databases(1)), "no such one"], config)
    done = await run("plan", cwd=tmp_path)
    assert done.code == 5
    assert "unreachable" in done.out


async def test_where_databases_that_have_tables_are_stamped_first_the_plan_says_so(
    tmp_path: Path, pg: Server, make_databases: MakeDatabases
) -> None:
    config = environments.make_project(tmp_path / "project")
    environments.add_tables(tmp_path / "project", ["alpha", "beta"])
    databases = await make_databases(2)
    await engine.execute(pg, databases[0], "CREATE TABLE alpha (id int)", "CREATE TABLE applied (revision text)")
    write_registry(tmp_path, pg, databases, config, adopt="alpha")
    said = "a database that has tables already is stamped with alpha first, and runs what follows"
    assert f"info adopts  {said}" in (await run("plan", cwd=tmp_path)).out
    assert f"-- {said}" in (await run("sql", cwd=tmp_path)).out.splitlines()
    assert (await run("migrate", cwd=tmp_path)).code == 0
    assert "adopts" not in (await run("plan", "--to", "alpha", "--direction", "downgrade", cwd=tmp_path)).out
    applied = [await engine.fetch(pg, name, "SELECT revision FROM applied ORDER BY 1") for name in databases]
    assert applied == [[("beta",)], [("alpha",), ("beta",)]]
