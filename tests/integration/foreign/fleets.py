"""Databases of each kind that a foreign history is tried on, and what their schemas look like afterwards."""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, inspect, pool, text
from sqlalchemy.engine import Engine, Inspector, make_url

from orchestrator.databases.embedded import Server
from orchestrator.databases.fingerprint import query as catalog
from orchestrator.registry.model import Shard, Target
from tests import engine
from tests.mariadb import MakeMySQLDatabases, MySQLServer
from tests.servers import MakeDatabases

# Brings the first database to head as the project's own users do: Alembic, its configuration, one process.
STOCK = """
import sys
urls = sys.argv[3:]
{prepare}
from alembic import command, config
made = config.Config(sys.argv[1] or None)
made.set_main_option("script_location", sys.argv[2])
made.set_main_option("sqlalchemy.url", urls[0].replace("%", "%%"))
command.upgrade(made, "head")
"""


@dataclass(frozen=True)
class Fleet:
    """Databases on one shard: the first is the reference, which stock Alembic migrates; the others are tenants'."""

    shard: Shard
    databases: Sequence[str]
    urls: Sequence[str]

    @property
    def targets(self) -> list[Target]:
        return engine.targets_of(self.databases[1:], self.shard.name)


@dataclass(frozen=True)
class Servers:
    """What fleets are made on."""

    pg: Server
    make_databases: MakeDatabases
    mysql: MySQLServer
    make_mysql_databases: MakeMySQLDatabases


async def make_fleet(kind: str, count: int, servers: Servers, folder: Path) -> Fleet:
    if kind == "mariadb":
        names = await servers.make_mysql_databases(count + 1)
        urls = [with_driver(servers.mysql.url(name), "mysql+pymysql") for name in names]
        shard = Shard("maria", make_url(servers.mysql.url("")).set(database=""), max_concurrent=8)
        return Fleet(shard, names, urls)
    if kind == "postgresql":
        names = await servers.make_databases(count + 1)
        urls = [with_driver(servers.pg.url(name), "postgresql+psycopg") for name in names]
        return Fleet(engine.shard_of(servers.pg, max_concurrent=8), names, urls)
    assert kind == "sqlite"
    names = [f"tenant{number}.db" for number in range(count + 1)]
    for name in names:
        (folder / name).touch()
    urls = [f"sqlite:///{folder / name}" for name in names]
    return Fleet(Shard("files", make_url("sqlite://"), max_concurrent=8), names, urls)


def with_driver(url: str, drivername: str) -> str:
    return make_url(url).set(drivername=drivername).render_as_string(hide_password=False)


def path_of(module: str, *parts: str) -> Path:
    """A file of an installed package, which is not imported: the project's code is for workers to run."""
    name, *inner = module.split(".")
    spec = importlib.util.find_spec(name)
    assert spec is not None, f"{name} is not installed: `make test` installs requirements-histories.lock"
    assert spec.origin is not None
    return Path(spec.origin).parent.joinpath(*inner, *parts)


async def prepare_all(prepare: str, urls: Sequence[str]) -> None:
    """Do to databases what a package does before its first revision, in a process of its own."""
    command = [sys.executable, "-c", f"import sys\nurls = sys.argv[1:]\n{prepare}", *urls]
    await asyncio.to_thread(subprocess.run, command, check=True, timeout=120)


async def upgrade_with_stock_alembic(
    config: Path | None, location: Path, urls: Sequence[str], prepare: str = ""
) -> str | None:
    """Prepare all, and upgrade the first. What stock Alembic says when it fails; None when the database is at head.

    In a process of its own: what a package leaves behind in memory is nobody else's.
    """
    command = [sys.executable, "-c", STOCK.format(prepare=prepare), str(config or ""), str(location), *urls]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=120)
    return done.stderr[-3000:] if done.returncode else None


def picture(url: str) -> dict[str, Any]:
    """All that SQLAlchemy and, where it tells more, the database itself know of a schema, and how many rows."""
    made = create_engine(url, poolclass=pool.NullPool)
    found = inspect(made)
    tables = {
        what: {name[1]: _in_order(entries) for name, entries in read(found).items()} for what, read in _KINDS.items()
    }
    return {"tables": tables, "catalog": _catalog(made), "rows": _rows(made, found.get_table_names())}


_KINDS: dict[str, Callable[[Inspector], Mapping[Any, Any]]] = {
    "columns": Inspector.get_multi_columns,
    "primary key": Inspector.get_multi_pk_constraint,
    "foreign keys": Inspector.get_multi_foreign_keys,
    "indexes": Inspector.get_multi_indexes,
    "unique": Inspector.get_multi_unique_constraints,
    "checks": Inspector.get_multi_check_constraints,
}


def _in_order(entries: Any) -> list[str]:
    """Entries as text: columns in their own order, what has no order by its text."""
    if isinstance(entries, Mapping):
        return [repr(dict(entries))]
    texts = [repr(dict(entry)) for entry in entries or ()]
    return texts if texts and "autoincrement" in texts[0] else sorted(texts)


def _catalog(made: Engine) -> list[str]:
    queries = {"postgresql": catalog(None), "sqlite": "SELECT type || name || coalesce(sql, '') FROM sqlite_master"}
    query = queries.get(made.dialect.name)
    if query is None:
        return []
    with made.connect() as connection:
        found = [row[0] for row in connection.execute(text(query.replace(":", r"\:")))]
    # Alembic's batch mode writes constraints without a name in any order.
    return sorted("\n".join(sorted(line.strip(" ,") for line in entry.splitlines())) for entry in found)


def _rows(made: Engine, tables: Sequence[str]) -> dict[str, Any]:
    """How many rows each table has; the version table's own."""
    quote = made.dialect.identifier_preparer.quote
    with made.connect() as connection:
        found: dict[str, Any] = {
            name: connection.execute(text(f"SELECT count(*) FROM {quote(name)}")).scalar() for name in tables
        }
        for name in tables:
            if name.startswith("alembic_version"):
                rows = connection.execute(text(f"SELECT version_num FROM {quote(name)}"))
                found[name] = sorted(row[0] for row in rows)
        return found
