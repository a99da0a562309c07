"""A private MariaDB server for the tests: quick to start, gone with the run, however that ends. Never the system's."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

import anyio
import anyio.to_thread
import asyncmy
import pytest
from sqlalchemy.engine import make_url

from orchestrator.databases.binaries import NOBODY
from orchestrator.databases.embedded import free_port, scratch
from orchestrator.databases.quoting import backquoted
from tests import watched

# Set where a missing server must not go unnoticed.
REQUIRED = "TEST_MYSQL_REQUIRED"
START_SECONDS = 60.0
CLOSING_SECONDS = 20.0
USER = "orchestrator"
# mariadbd keeps its privileges in files that `--init-file` changes: no client, and no moment without a password.
_INIT = """
DELETE FROM mysql.global_priv;
FLUSH PRIVILEGES;
CREATE USER '{user}'@'%' IDENTIFIED BY '{password}';
GRANT ALL ON *.* TO '{user}'@'%' WITH GRANT OPTION;
"""
_SETTINGS = (
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--innodb-flush-log-at-trx-commit=2",
    "--innodb-flush-method=nosync",
    "--innodb-buffer-pool-size=64M",
    "--max-connections=300",
)


@dataclass(frozen=True)
class MySQLServer:
    """A server known by the URL of any of its databases."""

    dsn: str  # with user and password

    def url(self, database: str, scheme: str = "mysql") -> str:
        return f"{scheme}://{urlsplit(self.dsn).netloc}/{quote(database, safe='')}"


class MakeMySQLDatabases(Protocol):
    """The `make_mysql_databases` fixture: returns the names of `count` new databases."""

    async def __call__(self, count: int, prefix: str = "tenant") -> list[str]: ...


def program(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))


@asynccontextmanager
async def server(*settings: str) -> AsyncIterator[MySQLServer]:
    """The server that `TEST_MYSQL_DSN` names, or one of our own, always if it is to have `settings`; the test is
    skipped where there is none, or fails where `TEST_MYSQL_REQUIRED` is set."""
    if (dsn := os.environ.get("TEST_MYSQL_DSN")) and not settings:
        yield MySQLServer(dsn)
        return
    if program("mariadbd") is None or program("mariadb-install-db") is None:
        said = "no MariaDB server on this machine: install mariadb-server (`make servers`), or set TEST_MYSQL_DSN"
        if os.environ.get(REQUIRED):
            pytest.fail(said, pytrace=False)
        pytest.skip(said)
    home = Path(tempfile.mkdtemp(prefix="mariadb-", dir=scratch()))
    process: subprocess.Popen[bytes] | None = None
    try:
        started, server = await anyio.to_thread.run_sync(_start, home, settings)
        process = started
        await _wait(server, started, home)
        yield server
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(watched.stop, process, home)


def _start(home: Path, settings: Sequence[str]) -> tuple[subprocess.Popen[bytes], MySQLServer]:
    password, port = secrets.token_urlsafe(18), free_port()
    # A server that starts empties its directory for temporary tables: of another one's, were they to share it.
    temporary, init = home / "tmp", home / "init.sql"
    temporary.mkdir()
    init.touch(mode=0o600)
    init.write_text(_INIT.format(user=USER, password=password))
    if os.geteuid() == 0:
        for path in (home, temporary, init):
            os.chown(path, NOBODY, NOBODY)
    files = [f"--datadir={home}/data", f"--tmpdir={temporary}"]
    _install([program("mariadb-install-db") or "", "--no-defaults", *files], home)
    files += [f"--socket={home}/socket", f"--pid-file={home}/pid", f"--init-file={init}"]
    command = [program("mariadbd") or "", "--no-defaults", f"--port={port}", *files, *_SETTINGS, *settings]
    return watched.launch(command, home), MySQLServer(f"mysql://{USER}:{password}@127.0.0.1:{port}/")


def _install(command: list[str], home: Path) -> None:
    options = ["--skip-test-db", "--auth-root-authentication-method=socket", "--skip-name-resolve"]
    made = subprocess.run([*command, *options], capture_output=True, text=True, **watched.child(home))
    if made.returncode:
        raise AssertionError(f"mariadb-install-db failed:\n{(made.stdout + made.stderr)[:2000]}")


async def _wait(server: MySQLServer, process: subprocess.Popen[bytes], home: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            await execute(server, "", "SELECT 1")
            return
        except asyncmy.errors.OperationalError as exc:
            if process.poll() is not None or time.monotonic() > deadline:
                log = home / "server.log"
                said = log.read_text(errors="replace")[-2000:] if log.exists() else "(none)"
                raise AssertionError(f"MariaDB did not start: {exc}; its log ends:\n{said}") from exc
        await anyio.sleep(0.05)


@asynccontextmanager
async def session(server: MySQLServer, database: str = "") -> AsyncIterator[Any]:
    """A connection with a transaction of its own, as an application has it."""
    url = make_url(server.url(database))
    opened = await asyncmy.connect(
        host=url.host, port=url.port, user=url.username, password=url.password, database=database or None
    )
    try:
        yield opened
    finally:
        await opened.ensure_closed()


async def fetch(server: MySQLServer, database: str, query: str, *arguments: object) -> list[tuple[Any, ...]]:
    """Rows of one query, over a connection of its own."""
    async with session(server, database) as opened, opened.cursor() as cursor:
        await cursor.execute(query, arguments or None)
        rows = [tuple(row) for row in await cursor.fetchall()] if cursor.description else []
        await opened.commit()
        return rows


async def execute(server: MySQLServer, database: str, *statements: str) -> None:
    async with session(server, database) as opened, opened.cursor() as cursor:
        for statement in statements:
            await cursor.execute(statement)
        await opened.commit()


async def create_databases(server: MySQLServer, names: Sequence[str]) -> None:
    await execute(server, "", *(f"CREATE DATABASE {backquoted(name)} CHARACTER SET utf8mb4" for name in names))


async def sessions_on(server: MySQLServer, databases: Sequence[str]) -> list[tuple[Any, ...]]:
    """Number, database, command and statement of the sessions on these databases."""
    marks = ", ".join(["%s"] * len(databases))
    query = f"SELECT ID, DB, COMMAND, INFO FROM information_schema.PROCESSLIST WHERE BINARY DB IN ({marks})"
    return await fetch(server, "", query, *databases)


async def leaked_sessions(server: MySQLServer, databases: Sequence[str]) -> list[tuple[Any, ...]]:
    """The sessions that are still on the databases after twenty seconds; earlier if there are none."""
    deadline = time.monotonic() + CLOSING_SECONDS
    while databases and (left := await sessions_on(server, databases)):
        if time.monotonic() >= deadline:
            for number, *_ in left:
                await execute(server, "", f"KILL {number}")
            return left
        await anyio.sleep(0.02)
    return []


async def drop_databases(server: MySQLServer, names: Sequence[str]) -> None:
    await execute(server, "", *(f"DROP DATABASE IF EXISTS {backquoted(name)}" for name in names))
