"""A tenant that was moved by a dump to another database is as it was: nothing of it is drift."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy.engine import make_url

from orchestrator.databases import tools
from orchestrator.databases.embedded import Server
from tests import engine, mariadb
from tests.integration.drift.places import Fleet
from tests.servers import unique_names

pytestmark = pytest.mark.anyio

RICH = (Path(__file__).parent / "rich.sql").read_text()
MARIADB = (
    "CREATE SEQUENCE s START 5 INCREMENT 3 MAXVALUE 1000 CACHE 7 CYCLE",
    """CREATE TABLE a (id integer AUTO_INCREMENT PRIMARY KEY, e enum('a', 'b,c', 'it''s') DEFAULT 'a',
    v varchar(10) COLLATE utf8mb4_bin DEFAULT 'x' CHECK (v IN ('x', 'y')), n decimal(10, 2) DEFAULT 1.5,
    t timestamp NOT NULL DEFAULT current_timestamp() ON UPDATE current_timestamp(), j json, tx text,
    g integer AS (n * 2) VIRTUAL, b bit(3) DEFAULT b'101', z integer unsigned zerofill COMMENT 'it''s',
    CONSTRAINT ck CHECK (n BETWEEN 1 AND 2 AND v <> 'q'), KEY k1 (v(3), n DESC), FULLTEXT ft (tx)) COMMENT = 'one'""",
    """CREATE TABLE b (id integer PRIMARY KEY, aid integer, CONSTRAINT fk FOREIGN KEY (aid) REFERENCES a (id)
    ON DELETE CASCADE ON UPDATE SET NULL) DEFAULT CHARSET latin1""",
    """CREATE TABLE p (id integer, y date) PARTITION BY RANGE (year(y)) SUBPARTITION BY HASH (id) SUBPARTITIONS 2
    (PARTITION p0 VALUES LESS THAN (2020), PARTITION p1 VALUES LESS THAN MAXVALUE)""",
    "CREATE VIEW v AS SELECT a.id FROM a LEFT JOIN b ON b.aid = a.id WHERE a.v IN ('x', 'y') AND a.n BETWEEN 1 AND 2",
    "CREATE TRIGGER t1 BEFORE INSERT ON a FOR EACH ROW SET NEW.v = 'y'",
    "CREATE FUNCTION f(x integer, y varchar(10)) RETURNS integer DETERMINISTIC COMMENT 'one' RETURN x + 1",
    "CREATE EVENT ev ON SCHEDULE EVERY 1 DAY STARTS '2030-01-01 00:00:00' DISABLE DO DELETE FROM a",
    'CREATE TABLE `odd "n`` x` (`A b` integer, KEY `k "x` (`A b`))',
    "INSERT INTO a (v) VALUES ('x')",
)


@pytest.fixture
async def roles(postgresql: Fleet, pg: Server) -> AsyncIterator[list[str]]:
    """Two roles, gone after the test."""
    made = unique_names(2, "role")
    await engine.execute(pg, "postgres", *(f"CREATE ROLE {role}" for role in made))
    yield made
    for name in postgresql.names:
        await postgresql.execute(name, *(f"DROP OWNED BY {role} CASCADE" for role in made))
    await engine.execute(pg, "postgres", *(f"DROP ROLE {role}" for role in made))


@pytest.mark.parametrize("kind", ["psql", "pg_restore"])
async def test_a_database_restored_from_a_dump_does_not_drift(
    postgresql: Fleet, roles: list[str], kind: str, tmp_path: Path
) -> None:
    one, other = postgresql.names
    version = (await postgresql.read(one)).server.split()[1]
    if int(version) < 15:
        pytest.skip("the schema has what came with PostgreSQL 15")
    await postgresql.execute(one, RICH.replace("{owner}", roles[0]).replace("{reader}", roles[1]))
    program, file = tools.pg_dump(int(version)), tmp_path / "dump"
    await run([program, f"--format={'p' if kind == 'psql' else 'c'}", f"--file={file}"], postgresql, one)
    if kind == "psql":
        await run([program.with_name("psql"), "--quiet", "--set=ON_ERROR_STOP=1", f"--file={file}"], postgresql, other)
    else:
        await run([program.with_name("pg_restore"), f"--dbname={other}", file], postgresql, other)
    assert await postgresql.differing(one, other) == []
    assert await postgresql.are_equal(one, other)
    await postgresql.execute(other, "ALTER TABLE kinds DROP CONSTRAINT kinds_status_check")
    await postgresql.execute(other, "ALTER TABLE kinds ADD CONSTRAINT kinds_status_check CHECK (status IN ('a', 'c'))")
    assert len(await postgresql.differing(one, other)) == 2


async def test_a_database_restored_from_a_dump_of_mariadb_does_not_drift(maria: Fleet, tmp_path: Path) -> None:
    one, other = maria.names
    await maria.execute(one, *MARIADB)
    program = tools.mysql_dump(mariadb=True)
    file = tmp_path / "dump"
    options = ["--routines", "--events", "--triggers", f"--result-file={file}", one]
    await run([program, *options], maria, one)
    statements = file.read_bytes()
    await run([program.with_name("mariadb"), other], maria, other, statements)
    assert await maria.differing(one, other) == []
    assert await maria.are_equal(one, other)


async def run(command: list[Any], fleet: Fleet, database: str, given: bytes = b"") -> None:
    """A client program, which finds the server in its environment."""
    url = make_url(fleet.server.url(database))
    if isinstance(fleet.server, mariadb.MySQLServer):
        address = ["--no-defaults", f"--host={url.host}", f"--port={url.port}", f"--user={url.username}"]
        command, told = [command[0], *address, *command[1:]], {"MYSQL_PWD": str(url.password)}
    else:
        told = {"PGHOST": str(url.host), "PGPORT": str(url.port), "PGUSER": str(url.username)}
        told |= {"PGPASSWORD": str(url.password), "PGDATABASE": database}
    done = await anyio.run_process(
        [str(part) for part in command], input=given, env={**os.environ, **told}, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
