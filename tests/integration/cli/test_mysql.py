"""The command line with a shard on MariaDB, and what is left of one that is killed."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import yaml
from sqlalchemy.engine import make_url

from tests import environments, mariadb
from tests.command import Result, run, started
from tests.engine import until
from tests.mariadb import MakeMySQLDatabases, MySQLServer


class Project:
    """A folder with `tenants.yaml` (track `app`, shard `maria`, tenants t000, …) and an Alembic project."""

    def __init__(self, folder: Path, mysql: MySQLServer, databases: list[str], scheme: str = "mysql") -> None:
        self.folder = folder
        url = make_url(mysql.url("x"))
        self.secret = {"MARIA_PASSWORD": str(url.password)}
        content = {
            "tracks": {"app": {"config": "project/alembic.ini"}},
            "shards": {"maria": {"url": f"{scheme}://{url.username}:${{MARIA_PASSWORD}}@{url.host}:{url.port}"}},
            "tenants": [
                {"id": f"t{number:03}", "shard": "maria", "database": database}
                for number, database in enumerate(databases)
            ],
        }
        (folder / "tenants.yaml").write_text(yaml.safe_dump(content))
        environments.make_project(folder / "project")
        environments.add_tables(folder / "project", ["alpha", "beta"])

    def add_revision(self, upgrade: str) -> None:
        environments.add_revision(self.folder / "project", "gamma", "beta", upgrade)

    async def run(self, *arguments: str) -> Result:
        done = await run(*arguments, cwd=self.folder, env=self.secret)
        assert self.secret["MARIA_PASSWORD"] not in done.out + done.err
        assert "Traceback" not in done.out + done.err
        return done


@pytest.mark.parametrize("scheme", ["mysql", "mariadb+pymysql"])
async def test_check_tenants_and_migrate(
    scheme: str, mysql: MySQLServer, make_mysql_databases: MakeMySQLDatabases, tmp_path: Path
) -> None:
    project = Project(tmp_path, mysql, await make_mysql_databases(3), scheme)
    checked = await project.run("check", "--connect")
    assert checked.code == 0, checked.err
    assert "maria" in checked.out
    before = await project.run("tenants")
    assert before.out.count("unprovisioned") == 3, before.out
    done = await project.run("migrate")
    assert done.code == 0, done.out + done.err
    assert "succeeded: 3 of 3 at head in " in done.out
    after = await project.run("tenants")
    assert (after.out.count("up to date"), after.out.count("beta")) == (3, 3), after.out


async def test_a_revision_that_fails_half_way_is_told_in_the_summary(
    mysql: MySQLServer, make_mysql_databases: MakeMySQLDatabases, tmp_path: Path
) -> None:
    project = Project(tmp_path, mysql, await make_mysql_databases(3))
    project.add_revision(
        'op.create_table("half", sa.Column("id", sa.Integer))\nop.execute("ALTER TABLE nowhere DROP x")'
    )
    done = await project.run("migrate")
    assert done.code == 3
    assert "1 cause, 3 tenants:" in done.out
    assert "gamma 1146" in done.out
    assert "half applied: 1 of its statements stay (CREATE TABLE half ( id INTEGER ))" in done.out
    assert "The version table still says beta" in done.out
    assert "try: take these statements back by hand" in done.out


async def test_what_a_killed_run_left_at_work_is_ended_by_the_next(
    mysql: MySQLServer, make_mysql_databases: MakeMySQLDatabases, tmp_path: Path
) -> None:
    (database,) = await make_mysql_databases(1)
    project = Project(tmp_path, mysql, [database])
    slow = "SELECT SLEEP(600)"
    begun = tmp_path / "begun"
    project.add_revision(
        f"if not os.path.exists({str(begun)!r}):\n    open({str(begun)!r}, 'w').close()\n    op.execute('{slow}')"
    )

    async def at_work() -> bool:
        return any(row[3] == slow for row in await mariadb.sessions_on(mysql, [database]))

    async with started("migrate", cwd=tmp_path, env=project.secret) as process:
        await until(at_work)
        process.send_signal(signal.SIGKILL)
        await process.wait()
    assert await at_work(), "the server does not look after its client while it works"
    done = await project.run("migrate")
    assert done.code == 0, done.out + done.err
    assert not await at_work()
    assert await mariadb.fetch(mysql, database, "SELECT version_num FROM alembic_version") == [("gamma",)]
