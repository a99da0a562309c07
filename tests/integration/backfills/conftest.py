"""A project with one table, on each kind of database and with each kind of driver, and plain Alembic to upgrade it."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import alembic.op
import anyio.to_thread
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

import orchestrator.operations  # noqa: F401 - older versions of Alembic do not look for them
from orchestrator.databases.embedded import Server
from tests import environments
from tests.mariadb import MakeMySQLDatabases, MySQLServer
from tests.servers import MakeDatabases

ROOT = Path(__file__).parents[3]
DRIVERS: dict[str, tuple[environments.Template, str]] = {
    "psycopg": ("generic", "postgresql+psycopg"),
    "asyncpg": ("async", "postgresql+asyncpg"),
    "pymysql": ("generic", "mysql+pymysql"),
    "asyncmy": ("async", "mysql+asyncmy"),
    "pysqlite": ("generic", "sqlite+pysqlite"),
    "aiosqlite": ("async", "sqlite+aiosqlite"),
}
SYNCHRONOUS = {"asyncpg": "psycopg", "asyncmy": "pymysql", "aiosqlite": "pysqlite"}


@cache
def _engine(url: sa.URL) -> sa.Engine:
    """It keeps no connection, only what it has asked the server of itself."""
    driver = url.get_driver_name()
    name = f"{url.get_backend_name()}+{SYNCHRONOUS.get(driver, driver)}"
    return sa.create_engine(url.set(drivername=name), poolclass=sa.NullPool)


@dataclass
class Project:
    """An Alembic project and one database that it migrates."""

    folder: Path
    config: Path
    url: sa.URL
    written: int = 0

    @property
    def dialect(self) -> str:
        return self.url.get_backend_name()

    @contextmanager
    def connected(self) -> Iterator[sa.Connection]:
        with _engine(self.url).connect() as connection:
            yield connection

    def rows(self, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
        with self.connected() as connection:
            return [tuple(row) for row in connection.execute(sa.text(sql), parameters)]

    def execute(self, *statements: str) -> None:
        with self.connected() as connection, connection.begin():
            for statement in statements:
                connection.execute(sa.text(statement))

    def numbers(self, count: int, table: str = "accounts") -> None:
        """A table of so many rows, with a hole after each third: id, balance = id, note = NULL."""
        self.execute(
            f"CREATE TABLE {table} (id BIGINT PRIMARY KEY, balance BIGINT NOT NULL, note VARCHAR(80), done INTEGER)"
        )
        with self.connected() as connection, connection.begin():
            rows = [{"i": number + number // 3} for number in range(1, count + 1)]
            for start in range(0, count, 5000):
                connection.execute(
                    sa.text(f"INSERT INTO {table} (id, balance) VALUES (:i, :i)"), rows[start : start + 5000]
                )

    def add(self, revision: str, down: str | None, upgrade: str, downgrade: str = "pass") -> None:
        file = environments.add_revision(self.folder, revision, down, upgrade, downgrade)
        # Python knows a file that it has compiled by its second and its size: one that is written anew has another.
        self.written += 1
        second = time.time() - 1000 + self.written
        os.utime(file, (second, second))

    def alembic_config(self) -> Config:
        config = Config(str(self.config))
        config.set_main_option("sqlalchemy.url", self.url.render_as_string(hide_password=False).replace("%", "%%"))
        return config

    async def upgrade(self, to: str = "head") -> None:
        await self.run(lambda config: command.upgrade(config, to))

    async def downgrade(self, to: str) -> None:
        await self.run(lambda config: command.downgrade(config, to))

    async def run(self, action: Callable[[Config], Any]) -> Any:
        """Alembic keeps its operations in a module, and leaves them there when a revision fails."""
        before = vars(alembic.op).get("_proxy")
        try:
            return await anyio.to_thread.run_sync(action, self.alembic_config())
        except BaseException:
            vars(alembic.op)["_proxy"] = before
            raise

    def checkpoints(self) -> list[dict[str, Any]]:
        with self.connected() as connection:
            found = connection.execute(sa.text("SELECT * FROM alembic_version_backfills ORDER BY revision, ordinal"))
            return [dict(row) for row in found.mappings()]


Make = Callable[[str], Awaitable[Project]]


@pytest.fixture
def make_project(
    tmp_path: Path,
    pg: Server,
    make_databases: MakeDatabases,
    mysql: MySQLServer,
    make_mysql_databases: MakeMySQLDatabases,
) -> Make:
    """Make a project and its database, for a driver."""

    async def make(driver: str) -> Project:
        template, drivername = DRIVERS[driver]
        config = environments.make_project(tmp_path / "project", template)
        environments.quieten(tmp_path / "project")
        if drivername.startswith("sqlite"):
            url = sa.URL.create(drivername, database=str(tmp_path / "it's one.db"))
        elif drivername.startswith("mysql"):
            (database,) = await make_mysql_databases(1)
            url = sa.make_url(mysql.url(database))
        else:
            (database,) = await make_databases(1)
            url = sa.make_url(pg.url(database))
        return Project(tmp_path / "project", config, url.set(drivername=drivername))

    return make


@pytest.fixture(params=DRIVERS)
async def project(request: pytest.FixtureRequest, make_project: Make) -> Project:
    return await make_project(request.param)


@pytest.fixture(params=["psycopg", "pymysql", "pysqlite"])
async def one_of_each(request: pytest.FixtureRequest, make_project: Make) -> Project:
    """As `project`, with one driver for each kind of database."""
    return await make_project(request.param)


@pytest.fixture
async def postgres(make_project: Make) -> Project:
    return await make_project("psycopg")
