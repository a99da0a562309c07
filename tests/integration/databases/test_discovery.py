"""Sources of tenants, asked for real: a PostgreSQL server, a folder of SQLite files, an HTTP server."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from orchestrator.databases import endpoint
from orchestrator.databases.base import Limits
from orchestrator.databases.discovery import Lookups
from orchestrator.databases.embedded import Server
from orchestrator.errors import DiscoveryError
from orchestrator.registry.answers import Row
from orchestrator.registry.model import Discovery, Registry, Shard, Track
from tests import engine
from tests.endpoints import Endpoint, says, says_nothing, serving
from tests.mariadb import MakeMySQLDatabases, MySQLServer
from tests.servers import MakeDatabases, unique_names

GROUP = "(?P<tenant>.+)"


async def ask(shard: Shard, question: str, text: str, folder: Path = Path("/"), **fields: Any) -> list[Row]:
    entry = Discovery("found", question, text, shard=shard.name, **fields)  # type: ignore[arg-type]
    registry = Registry(folder / "tenants.yaml", "", {"app": Track("app")}, {shard.name: shard}, ())
    return list(await Lookups(Limits(connect=5.0)).ask(registry, entry))


async def refused(shard: Shard, question: str, text: str, folder: Path = Path("/"), **fields: Any) -> DiscoveryError:
    with pytest.raises(DiscoveryError) as caught:
        await ask(shard, question, text, folder, **fields)
    assert caught.value.remedy
    return caught.value


# A server


async def test_databases_that_can_be_connected_to_are_named(pg: Server, make_databases: MakeDatabases) -> None:
    usable, closed, template = await make_databases(3)
    await engine.execute(
        pg,
        "postgres",
        f'ALTER DATABASE "{closed}" ALLOW_CONNECTIONS false',
        f'ALTER DATABASE "{template}" IS_TEMPLATE true',
    )
    try:
        names = [row["database"] for row in await ask(engine.shard_of(pg), "databases", GROUP)]
    finally:
        await engine.execute(
            pg,
            "postgres",
            f'ALTER DATABASE "{closed}" ALLOW_CONNECTIONS true',
            f'ALTER DATABASE "{template}" IS_TEMPLATE false',
        )
    assert usable in names
    assert not {closed, template, "postgres", "template0", "template1"} & set(names)


async def test_schemas_are_named_but_for_the_servers_own(pg: Server, make_databases: MakeDatabases) -> None:
    [database] = await make_databases(1)
    awkward = """a "b" 'c' Ü"""
    await engine.execute(pg, database, "CREATE SCHEMA t_b", 'CREATE SCHEMA "a ""b"" \'c\' Ü"')
    rows = await ask(engine.shard_of(pg), "schemas", GROUP, database=database)
    assert sorted(row["schema"] for row in rows) == sorted(["public", "t_b", awkward])


async def test_a_querys_rows_come_with_their_columns_and_it_can_write_nothing(
    pg: Server, make_databases: MakeDatabases
) -> None:
    [database] = await make_databases(1)
    shard = engine.shard_of(pg)
    await engine.execute(
        pg, database, "CREATE TABLE tenants (id uuid, db text, tier int)", "INSERT INTO tenants VALUES (NULL, 'd', 3)"
    )
    rows = await ask(shard, "query", "SELECT id AS tenant, db AS database, tier FROM tenants", database=database)
    assert rows == [{"tenant": None, "database": "d", "tier": 3}]
    error = await refused(shard, "query", "DELETE FROM tenants RETURNING *", database=database)
    assert "cannot execute DELETE in a read-only transaction" in error.message
    assert await engine.fetch(pg, database, "SELECT count(*) FROM tenants") == [(1,)]


async def test_what_is_wrong_with_a_server_or_a_query_is_told_with_the_remedy(
    pg: Server, make_databases: MakeDatabases
) -> None:
    shard = engine.shard_of(pg)
    [missing] = unique_names(1, "missing")
    error = await refused(shard, "schemas", GROUP, database=missing)
    assert f'database "{missing}" does not exist' in error.message
    assert error.remedy == "create the database, or correct `database:` of the entry"
    [database] = await make_databases(1)
    error = await refused(shard, "query", "SELECT tenant FROM nowhere", database=database)
    assert 'relation "nowhere" does not exist' in error.message
    assert error.remedy == "look at the error: the query is sent as it stands, in a read-only transaction"
    down = Shard("pg", shard.url.set(host="127.0.0.1", port=1))
    error = await refused(down, "databases", GROUP)
    assert "check that the server is up" in (error.remedy or "")
    assert (shard.url.password or "no password") not in str(error)


async def test_a_query_that_takes_too_long_is_ended(pg: Server, make_databases: MakeDatabases) -> None:
    [database] = await make_databases(1)
    entry = Discovery("found", "query", "SELECT pg_sleep(60)", shard="pg", database=database)
    registry = Registry(Path("/x"), "", {}, {"pg": engine.shard_of(pg)}, ())
    began = time.monotonic()
    with pytest.raises(DiscoveryError):
        await Lookups(Limits(connect=0.5)).ask(registry, entry)
    assert time.monotonic() - began < 40


# A folder


@pytest.fixture
def files(tmp_path: Path) -> Shard:
    for name in ("acme.db", "globex.db", "eu/initech.db", "notes.txt", ".hidden.db", "acme.db-wal"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).touch()
    (tmp_path / "data" / "folder.db").mkdir()
    return Shard("files", make_url("sqlite:///data"))


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("*.db", ["acme.db", "globex.db"]),
        ("**/*.db", ["acme.db", "eu/initech.db", "globex.db"]),
        ("*", ["acme.db", "globex.db", "notes.txt"]),
        ("*.sqlite", []),
    ],
)
async def test_a_glob_finds_files_and_not_what_is_beside_them(
    files: Shard, tmp_path: Path, glob: str, expected: list[str]
) -> None:
    assert [row["database"] for row in await ask(files, "files", glob, tmp_path)] == expected


async def test_a_folder_that_is_gone_is_no_empty_answer(files: Shard, tmp_path: Path) -> None:
    os.rename(tmp_path / "data", tmp_path / "moved")
    error = await refused(files, "files", "*.db", tmp_path)
    assert error.message == f"there is no folder {tmp_path / 'data'}"


async def test_a_control_database_can_be_a_file(files: Shard, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "data" / "acme.db")) as connection:
        connection.execute("CREATE TABLE tenants (id, db)")
        connection.execute("INSERT INTO tenants VALUES (7, 'x.db')")
        connection.commit()
    rows = await ask(files, "query", "SELECT id AS tenant, db AS database FROM tenants", tmp_path, database="acme.db")
    assert rows == [{"tenant": 7, "database": "x.db"}]
    error = await refused(files, "query", "DELETE FROM tenants", tmp_path, database="acme.db")
    assert "attempt to write a readonly database" in error.message
    error = await refused(files, "query", "SELECT 1", tmp_path, database="nowhere.db")
    assert "unable to open database file" in error.message


# An endpoint


def at(server: Endpoint, **fields: Any) -> Discovery:
    return Discovery("e", "url", f"{server.url}/tenants?key=hunter2", **fields)


async def test_an_endpoint_is_asked_with_its_token() -> None:
    with serving(says(200, json.dumps([{"tenant": "acme", "labels": {"tier": "free"}}]).encode())) as server:
        rows = await endpoint.ask(at(server, token="s3cret"), seconds=60)
        assert server.asked[0].headers["Authorization"] == "Bearer s3cret"
    assert rows == [{"tenant": "acme", "labels": {"tier": "free"}}]


@pytest.mark.parametrize(
    ("status", "body", "message", "remedy"),
    [
        (401, b"", "answered with status 401", "give the entry a `token`"),
        (302, b"", "answered with status 302", "redirections are not followed"),
        (500, b"hunter2", "answered with status 500", "look at the endpoint's log"),
        (200, b"<html>hunter2", "does not answer with JSON", "it should answer with a JSON list such as"),
        (200, b'{"tenants": []}', "does not answer with a list of objects", "it should answer with a JSON list"),
        (200, b'["acme"]', "does not answer with a list of objects", "it should answer with a JSON list"),
    ],
)
async def test_what_is_wrong_with_an_endpoint_is_told_and_no_secret(
    status: int, body: bytes, message: str, remedy: str
) -> None:
    with serving(says(status, body)) as server, pytest.raises(DiscoveryError) as caught:
        await endpoint.ask(at(server, token="hunter2"), seconds=60)
    assert message in caught.value.message
    assert remedy in (caught.value.remedy or "")
    assert "hunter2" not in str(caught.value)


async def test_an_endpoint_that_cannot_be_asked_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = pytest.raises(DiscoveryError, match=r"127.0.0.1 gave no whole answer within 0.1 s")
    with serving(says_nothing) as server, silent:
        await endpoint.ask(at(server), seconds=0.1)
    with serving(says(200, b"[" + b" " * 100 + b"]")) as server:
        monkeypatch.setattr(endpoint, "LARGEST_BYTES", 50)
        with pytest.raises(DiscoveryError, match="more than 50 bytes"):
            await endpoint.ask(at(server), seconds=60)
    with pytest.raises(DiscoveryError, match=r"127\.0\.0\.1 cannot be asked") as caught:
        await endpoint.ask(at(server), seconds=60)
    assert "hunter2" not in str(caught.value)


# MySQL and MariaDB


async def test_databases_of_mysql_are_named_and_asked(
    mysql: MySQLServer, make_mysql_databases: MakeMySQLDatabases
) -> None:
    names = await make_mysql_databases(2)
    shard = Shard("my", make_url(mysql.url("x")).set(database=""))
    found = {row["database"] for row in await ask(shard, "databases", GROUP)}
    assert found >= set(names)
    assert not found & {"mysql", "information_schema", "performance_schema", "sys"}
    rows = await ask(shard, "query", "SELECT 'acme' AS tenant, 7 AS tier", database=names[0])
    assert [dict(row) for row in rows] == [{"tenant": "acme", "tier": 7}]
    error = await refused(shard, "query", "CREATE TABLE t (id int)", database=names[0])
    assert "READ ONLY" in error.message
    assert "no_such_database" in (await refused(shard, "query", "SELECT 1", database="no_such_database")).message
