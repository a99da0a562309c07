"""A fleet of every shape, from one registry file, through the command line: up, one step down, and up again."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from orchestrator.databases.embedded import EmbeddedServer, Server
from orchestrator.databases.quoting import backquoted, quoted
from tests import engine, environments, mariadb
from tests.command import run
from tests.mariadb import MakeMySQLDatabases, MySQLServer
from tests.servers import MakeDatabases

APP, ANALYTICS = ["alpha", "beta", "gamma"], ["delta", "epsilon"]
# Databases on each of two PostgreSQL servers, schemas of one more, MariaDB databases, SQLite files of each track.
DATABASES, SCHEMAS, MARIA, FILES = 8, 30, 6, 6


@dataclass
class Fleet:
    """Databases on two PostgreSQL servers, schemas of one more, MariaDB databases, SQLite files; both tracks on each
    kind but for the schemas, half of which are listed and half found."""

    folder: Path
    pg: Server
    pg2: EmbeddedServer
    mysql: MySQLServer
    first: Sequence[str]
    second: Sequence[str]
    shared: str
    maria: Sequence[str]
    files: Sequence[str]
    secrets: dict[str, str] = field(default_factory=dict)

    @property
    def schemas(self) -> Sequence[str]:
        return [f'Tenant "{number}"' for number in range(SCHEMAS // 2)] + [f"t_{n}" for n in range(SCHEMAS // 2)]

    def write(self) -> None:
        for name, tables, template in (("app", APP, "generic"), ("analytics", ANALYTICS, "async")):
            environments.make_project(self.folder / name, template)  # type: ignore[arg-type]
            environments.add_tables(self.folder / name, tables)
        (self.folder / "dbs" / "analytics").mkdir(parents=True)
        for file in self.files:
            (self.folder / "dbs" / file).touch()
        listed = [self._tenant(f"a{n}", "pg-1", name, n) for n, name in enumerate(self.first)]
        listed += [self._tenant(f"b{n}", "pg-2", name, n) for n, name in enumerate(self.second)]
        listed += [self._tenant(f"m{n}", "maria", name, n) for n, name in enumerate(self.maria)]
        listed += [
            {"id": f"s{n}", "track": "app", "shard": "pg-1", "database": self.shared, "schema": schema, "create": True}
            for n, schema in enumerate(self.schemas[: SCHEMAS // 2])
        ]
        content = {
            "tracks": {name: {"config": f"{name}/alembic.ini"} for name in ("app", "analytics")},
            "shards": {
                "pg-1": {"url": self._url("PG_1", self.pg.url("postgres"))},
                "pg-2": {"url": self._url("PG_2", self.pg2.url("postgres"))},
                "maria": {"url": self._url("MARIA", self.mysql.url("")), "max_concurrent": 4},
                "files": {"url": "sqlite:///dbs"},
            },
            "tenants": listed,
            "discover": [
                {"shard": "pg-1", "track": "app", "database": self.shared, "schemas": "t_(?P<tenant>.+)"},
                {"shard": "files", "track": "app", "files": "*.db", "name": "app files"},
                {
                    "shard": "files",
                    "track": "analytics",
                    "files": "analytics/*.db",
                    "pattern": "analytics/(?P<tenant>.+)[.]db",
                    "name": "analytics files",
                },
            ],
        }
        (self.folder / "tenants.yaml").write_text(yaml.safe_dump(content))

    def _tenant(self, tenant: str, shard: str, database: str, number: int) -> dict[str, object]:
        track = "analytics" if number % 3 == 0 else "app"
        return {"id": tenant, "track": track, "shard": shard, "database": database}

    def _url(self, name: str, url: str) -> str:
        parts = urlsplit(url)
        self.secrets[f"{name}_PASSWORD"] = parts.password or ""
        return f"{parts.scheme}://{parts.username}:${{{name}_PASSWORD}}@{parts.hostname}:{parts.port}"

    async def heads(self) -> dict[str, list[str]]:
        """What every version table holds, read from the databases themselves, by track."""
        found: dict[str, list[str]] = {"app": [], "analytics": []}
        for server, names in ((self.pg, self.first), (self.pg2, self.second)):
            for number, name in enumerate(names):
                rows = await engine.fetch(server, name, "SELECT version_num FROM alembic_version")
                found["analytics" if number % 3 == 0 else "app"].append(_joined(rows))
        for schema in self.schemas:
            question = f"SELECT version_num FROM {quoted(schema)}.alembic_version"
            found["app"].append(_joined(await engine.fetch(self.pg, self.shared, question)))
        for number, name in enumerate(self.maria):
            question = f"SELECT version_num FROM {backquoted(name)}.alembic_version"
            rows = await mariadb.fetch(self.mysql, name, question)
            found["analytics" if number % 3 == 0 else "app"].append(_joined(rows))
        for file in self.files:
            with closing(sqlite3.connect(self.folder / "dbs" / file)) as connection:
                rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()
            found["analytics" if "/" in file else "app"].append(_joined(rows))
        return found


def _joined(rows: Sequence[tuple[object, ...]]) -> str:
    return ",".join(sorted(str(row[0]) for row in rows))


async def test_a_fleet_of_every_shape_goes_up_one_step_down_and_up_again(
    pg: Server,
    pg2: EmbeddedServer,
    mysql: MySQLServer,
    make_databases: MakeDatabases,
    make_mysql_databases: MakeMySQLDatabases,
    tmp_path: Path,
) -> None:
    first, second = await make_databases(DATABASES), await make_databases(DATABASES, server=pg2)
    (shared,) = await make_databases(1, "shared")
    maria = await make_mysql_databases(MARIA)
    files = [f"f{n}.db" for n in range(FILES)] + [f"analytics/g{n}.db" for n in range(FILES)]
    fleet = Fleet(tmp_path, pg, pg2, mysql, first, second, shared, maria, files)
    fleet.write()
    for schema in fleet.schemas[SCHEMAS // 2 :]:
        await engine.execute(pg, shared, f"CREATE SCHEMA {quoted(schema)}")
    shared_by_both = [number % 3 == 0 for count in (DATABASES, DATABASES, MARIA) for number in range(count)]
    analytics = sum(shared_by_both) + FILES
    app = len(shared_by_both) - sum(shared_by_both) + SCHEMAS + FILES

    async def migrate(*arguments: str, outcome: str) -> None:
        command = ("migrate", "--track", "*", "--json", *arguments)
        done = await run(*command, cwd=tmp_path, env=fleet.secrets, seconds=240)
        assert done.code == 0, done.err
        ended = json.loads(done.out)
        assert ended["state"] == "succeeded"
        assert {name: n for name, n in ended["counts"].items() if n} == {outcome: app + analytics}

    await migrate(outcome="succeeded")
    assert await fleet.heads() == {"app": ["gamma"] * app, "analytics": ["epsilon"] * analytics}
    await migrate(outcome="up_to_date")
    await migrate("--to", "-1", "--direction", "downgrade", outcome="succeeded")
    assert await fleet.heads() == {"app": ["beta"] * app, "analytics": ["delta"] * analytics}
    await migrate("--to", "heads", outcome="succeeded")
    assert await fleet.heads() == {"app": ["gamma"] * app, "analytics": ["epsilon"] * analytics}
    listed = await run("tenants", "--json", cwd=tmp_path, env=fleet.secrets)
    states = [target["state"] for tenant in json.loads(listed.out) for target in tenant["targets"]]
    assert states == ["up_to_date"] * (app + analytics)
