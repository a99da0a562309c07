"""`orchestrator alembic`: the project's own Alembic, pointed at one tenant."""

from __future__ import annotations

import fcntl
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from sqlalchemy.engine import make_url

from orchestrator.databases.embedded import Server
from tests import engine, environments
from tests.command import Result, run, started
from tests.integration.cli.conftest import Project
from tests.servers import MakeDatabases


async def _alembic(project: Project, *command: str, tenant: str = "t001") -> Result:
    return await project.run("alembic", "--tenant", tenant, "--", *command)


def _tables(file: Path) -> set[str]:
    with closing(sqlite3.connect(file)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


async def test_one_tenant_goes_up_and_down_with_alembics_own_words(project: Project) -> None:
    up = await _alembic(project, "upgrade", "alpha")
    assert up.code == 0, up.err
    assert "Running upgrade  -> alpha" in up.err, "env.py's logging is the project's own here"
    assert _tables(project.database(1)) == {"alembic_version", "applied", "alpha"}
    assert not _tables(project.database(0))
    current = await _alembic(project, "current")
    assert (current.code, current.out) == (0, "alpha\n")
    history = await _alembic(project, "history", "--verbose")
    assert "Parent: alpha" in history.out
    assert (await _alembic(project, "upgrade", "+1")).code == 0
    assert (await _alembic(project, "downgrade", "base")).code == 0
    assert "alpha" not in _tables(project.database(1))
    assert (await _alembic(project, "stamp", "head")).code == 0
    assert (await _alembic(project, "current")).out == "beta (head)\n"


async def test_a_revision_is_made_from_the_difference_to_a_tenants_database(project: Project) -> None:
    env = project.folder / "project" / "alembic" / "env.py"
    models = "import sqlalchemy as sa\ntarget_metadata = sa.MetaData()\nsa.Table('gamma', target_metadata, "
    env.write_text(
        env.read_text().replace("target_metadata = None", f"{models}sa.Column('id', sa.Integer, primary_key=True))")
    )
    await _alembic(project, "upgrade", "head")
    behind = await _alembic(project, "check")
    assert behind.code == 255
    assert "New upgrade operations detected" in behind.err
    made = await _alembic(project, "revision", "--autogenerate", "--rev-id", "gamma", "-m", "add gamma")
    assert made.code == 0, made.err
    [file] = (project.folder / "project" / "alembic" / "versions").glob("gamma_*.py")
    assert "op.create_table('gamma'" in file.read_text()
    assert "op.drop_table('alpha')" in file.read_text(), "it was compared with the tenant's database"


async def test_several_heads_are_merged(project: Project) -> None:
    environments.add_revision(project.folder / "project", "fork", "alpha", "pass")
    made = await _alembic(project, "merge", "heads", "--rev-id", "joined", "-m", "join")
    assert made.code == 0, made.err
    assert (await _alembic(project, "heads")).out == "joined (head)\n"


async def test_sql_is_shown_and_nothing_is_changed(project: Project) -> None:
    shown = await _alembic(project, "upgrade", "head", "--sql")
    assert shown.code == 0, shown.err
    assert "CREATE TABLE alpha" in shown.out
    assert not _tables(project.database(1))


async def test_a_command_that_changes_a_locked_tenant_is_refused_and_one_that_looks_is_not(project: Project) -> None:
    lock = project.database(1).with_name(".t001.db.alembic_version.lock")
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        environ = {"ORCHESTRATOR_LOCK_WAIT_SECONDS": "0.2"}
        command = ["alembic", "--tenant", "t001", "--"]
        refused = await run(*command, "upgrade", "head", cwd=project.folder, env=environ)
        looked = await run(*command, "current", cwd=project.folder, env=environ)
    assert refused.code == 3
    assert "another migration holds the lock" in refused.err
    assert "try: let it finish" in refused.err
    assert looked.code == 0
    assert not _tables(project.database(1))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--tenant", "t01", "--", "current"], "there is no tenant 't01'\n  try: did you mean 't001'?"),
        (["--tenant", "t001", "--track", "ap", "--", "current"], "there is no track 'ap'\n  try: did you mean 'app'"),
        (["--tenant", "t001", "--", "--raiseerr"], "no Alembic command was given\n  try: give one after `--`"),
        (["--tenant", "t001", "--", "-n", "other", "current"], "Alembic's `--name` is the track's to say"),
        (["--tenant", "t001", "--", "ugprade", "head"], "orchestrator alembic --: error"),
        (["--tenant", "t001"], "Missing argument"),
    ],
)
async def test_a_command_that_cannot_be_meant_is_refused_with_a_remedy(
    arguments: list[str], says: str, project: Project
) -> None:
    done = await project.run("alembic", *arguments)
    assert done.code == 2
    assert says in done.err
    assert "Traceback" not in done.err


async def test_a_failing_revision_ends_with_the_error_of_its_own(project: Project) -> None:
    environments.add_revision(project.folder / "project", "bad", "beta", 'op.execute("SELECT no_such_column")')
    done = await _alembic(project, "upgrade", "head")
    assert done.code == 1
    assert "no such column: no_such_column" in done.err


@pytest.mark.parametrize("isolation", ["thread", "process"])
async def test_on_postgresql_with_the_tenants_settings_and_no_secret_shown(
    isolation: str, pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    [name] = await make_databases(1)
    config = environments.make_project(tmp_path / "project", "async" if isolation == "thread" else "generic")
    look = (
        "import subprocess; bind = op.get_bind()\n"
        "print(bind.execute(sa.text(\"SELECT current_setting('application_name')\")).scalar())\n"
        "print(context.get_x_argument(as_dictionary=True)['tenant'])\n"
        'print(subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout)'
    )
    environments.add_tables(tmp_path / "project", ["alpha"])
    environments.add_revision(tmp_path / "project", "look", "alpha", look)
    track: dict[str, object] = {"config": "project/alembic.ini"}
    if isolation == "process":
        environments.read_url_from_environ(tmp_path / "project")
        track |= {"isolation": "process", "environment": {"DATABASE_URL": "{url}"}}
    url = make_url(pg.url("postgres")).set(database=None)
    content = {
        "tracks": {"app": track},
        "shards": {"pg": {"url": url.render_as_string(hide_password=False)}},
        "tenants": [{"id": "acme", "shard": "pg", "database": name}],
    }
    (tmp_path / "tenants.yaml").write_text(yaml.safe_dump(content))
    assert config.exists()
    done = await run("alembic", "--tenant", "acme", "--", "upgrade", "head", cwd=tmp_path, fresh=True)
    assert done.code == 0, done.err
    application, tenant, *processes = done.out.splitlines()
    assert application.startswith("orchestrator ")
    assert tenant == "acme"
    assert any("orchestrator alembic --tenant acme" in line for line in processes)
    assert url.password is not None
    assert url.password not in done.out + done.err, "on no command line, and in no message"
    assert await engine.fetch(pg, name, "SELECT version_num FROM alembic_version") == [("look",)]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
async def test_the_command_ends_with_the_orchestrator_and_its_lock(number: signal.Signals, project: Project) -> None:
    note = project.folder / "pid"
    slow = f"open({str(note)!r}, 'w').write(f'{{os.getpid()}} ')\ntime.sleep(300)"
    environments.add_revision(project.folder / "project", "slow", "beta", slow)
    async with started("alembic", "--tenant", "t001", "--", "upgrade", "head", cwd=project.folder) as process:
        await engine.until(lambda: note.exists() and note.read_text().endswith(" "))
        process.send_signal(number)
        await process.wait()
    child = Path("/proc", note.read_text().strip(), "cmdline")
    await engine.until(lambda: not child.exists() or not child.read_bytes())
    again = await project.run("alembic", "--tenant", "t001", "--", "upgrade", "beta")
    assert again.code == 0, "the lock is free"
    assert (await _alembic(project, "current")).out == "beta\n"


async def test_a_tenant_that_is_found_at_run_time_is_reached(project: Project) -> None:
    file = project.folder / "tenants.yaml"
    content = yaml.safe_load(file.read_text())
    content |= {"tenants": [], "discover": [{"shard": "files", "files": "t*.db"}]}
    file.write_text(yaml.safe_dump(content))
    assert (await _alembic(project, "upgrade", "head")).code == 0
    assert (await _alembic(project, "current")).out == "beta (head)\n"
    unknown = await _alembic(project, "current", tenant="t0001")
    assert (unknown.code, "did you mean 't00" in unknown.err) == (2, True), unknown.err
