"""`orchestrator migrate` and its workers killed with -9 in the middle of backfills, again and again, on one store."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from signal import SIGKILL
from typing import Any

import anyio
import anyio.to_thread
import pytest
from sqlalchemy.engine import make_url

from orchestrator.databases.embedded import Server
from tests import command, engine, environments, forked_command, mariadb
from tests.daemon import write_registry
from tests.engine import until
from tests.mariadb import MakeMySQLDatabases, MySQLServer
from tests.processes import at_server
from tests.servers import MakeDatabases

KILLS, TENANTS, ROWS = 8 if os.environ.get("SOAK") else 3, 3, 2_000
CREATE = f"""
op.create_table("t", sa.Column("id", sa.Integer, primary_key=True), sa.Column("n", sa.BigInteger, nullable=False))
op.execute("INSERT INTO t VALUES " + ", ".join(f"({{i}}, {{i}})" for i in range(1, {ROWS} + 1)))
"""
# Not to be done twice; small batches that take their time, so that most kills are in the middle of one.
FILL = 'op.backfill("t", set_={{"n": "n * 100 + {sleep}"}}, batch_size=10)'
SLEEPS = {"postgresql": "length(pg_sleep(0.001)::text)", "mariadb": "sleep(0.001)"}
RULES = {"largest": 10}
PROGRESS = "SELECT rows_changed, (SELECT count(*) FROM t WHERE n = id * 100) FROM alembic_version_backfills"

Fetch = Callable[[str, str], Awaitable[list[tuple[Any, ...]]]]


@dataclass
class Fleet:
    """A project, its tenants' databases, and the store of all runs."""

    folder: Path
    url: str
    databases: Sequence[str]
    fetch: Fetch
    environ: dict[str, str]

    @property
    def store(self) -> Path:
        return self.folder / "store.db"

    def start(self) -> Any:
        environ = command.environ({**self.environ, "ORCHESTRATOR_STORE_URL": f"sqlite:///{self.store}"})
        with open(os.devnull, "r+") as null, (self.folder / "said").open("w") as said:
            streams = {"stdin": null.fileno(), "stdout": said.fileno(), "stderr": said.fileno()}
            return forked_command.start(["migrate"], cwd=self.folder, env=environ, **streams)

    def kill(self, process: Any) -> None:
        port = make_url(self.url).port
        assert port is not None
        workers = at_server(port)
        process.kill()
        for pid in workers:
            os.kill(pid, SIGKILL)  # it may have seen the command's end by then, and still be there
        process.wait(60)

    async def changed(self) -> list[int]:
        """Rows that the checkpoint of each tenant counts as changed: so many are, at every moment."""
        found = []
        for database in self.databases:
            try:
                [(counted, right)] = await self.fetch(database, PROGRESS) or [(0, 0)]
            except Exception as exc:
                if "exist" not in str(exc):  # the table is not there yet
                    raise
                counted = right = 0
            assert counted == right
            found.append(int(counted))
        return found

    async def is_at(self, goal: float, process: Any) -> bool:
        """Whether so many rows are changed, some of each tenant."""
        assert process.poll() is None, (self.folder / "said").read_text()
        changed = await self.changed()
        return min(changed) > 0 and sum(changed) >= goal

    def ledger(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.store)) as store:
            return store.execute(query).fetchall()


@pytest.fixture(params=["postgresql", "mariadb"])
async def fleet(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    pg: Server,
    make_databases: MakeDatabases,
    mysql: MySQLServer,
    make_mysql_databases: MakeMySQLDatabases,
) -> Fleet:
    server: Any = pg if request.param == "postgresql" else mysql
    fetch: Any = engine.fetch if server is pg else mariadb.fetch
    databases = await (make_databases(TENANTS) if server is pg else make_mysql_databases(TENANTS))
    environments.make_project(tmp_path / "project")
    environments.add_revision(tmp_path / "project", "made", None, CREATE)
    environments.add_revision(tmp_path / "project", "filled", "made", FILL.format(sleep=SLEEPS[request.param]))
    tracks = {"app": {"config": "project/alembic.ini"}}
    _, environ = write_registry(tmp_path, server, databases, tracks, backfill=RULES)

    async def rows(database: str, query: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await fetch(server, database, query)]

    return Fleet(tmp_path, server.url("x"), databases, rows, environ)


@pytest.mark.soak
@pytest.mark.timeout(300)
async def test_each_row_is_changed_once_however_often_migrate_is_killed(fleet: Fleet) -> None:
    chance = random.Random(11)
    seen = [0]
    for kill in range(KILLS):
        process = fleet.start()
        planned = TENANTS * ROWS * (kill + chance.uniform(0.2, 0.8)) / (KILLS + 1)
        try:
            # Not before this run has changed something, and on each tenant a batch is committed: until then, what
            # MariaDB cannot take back would be doubted.
            await until(partial(fleet.is_at, max(planned, seen[-1] + 10), process))
            await anyio.sleep(chance.uniform(0, 0.03))
        finally:
            fleet.kill(process)
        seen.append(sum(await fleet.changed()))
    assert seen[-1] < TENANTS * ROWS
    process = fleet.start()
    code = await anyio.to_thread.run_sync(process.wait, 120)
    said = (fleet.folder / "said").read_text()
    assert code == 0, said
    assert "backfill filled (app): " in said
    assert " running;" not in said
    assert await fleet.changed() == [ROWS] * TENANTS
    for database in fleet.databases:
        assert await fleet.fetch(database, "SELECT count(*), sum(n) - 100 * sum(id) FROM t") == [(ROWS, 0)]
        assert await fleet.fetch(database, "SELECT version_num FROM alembic_version") == [("filled",)]
        query = "SELECT state, applied, rows_seen FROM alembic_version_backfills"
        assert await fleet.fetch(database, query) == [("finished", True, ROWS)]
    states = fleet.ledger("SELECT state, count(*) FROM rollouts GROUP BY 1 ORDER BY 1")
    assert states == [("aborted", KILLS), ("succeeded", 1)]
    last = "(SELECT id FROM rollouts WHERE state = 'succeeded')"
    found = fleet.ledger(f"SELECT DISTINCT state, seen FROM backfills WHERE rollout = {last}")
    assert found == [("finished", ROWS)], "of those that were not at their end before"
    assert fleet.ledger("SELECT count(*) FROM backfills WHERE state IN ('running', 'held')") == [(0,)]
    assert fleet.ledger("SELECT count(*) FROM holds") == [(0,)]
