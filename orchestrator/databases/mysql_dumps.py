"""Backups of MySQL and MariaDB targets, by mariadb-dump or mysqldump."""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from orchestrator.databases import dumps, programs, tools
from orchestrator.databases.base import Place
from orchestrator.databases.refusals import backup_failed

_OPTIONS = (
    "--single-transaction",  # as one moment has it, where the tables are InnoDB's, and nobody is kept waiting
    "--quick",
    "--skip-lock-tables",
    "--routines",
    "--triggers",
    "--events",
    "--hex-blob",
    "--comments",
    "--no-tablespaces",  # they ask for a privilege that no tenant's user has
    "--default-character-set=utf8mb4",
)
_COMPLETED = b"-- Dump completed"
_TRANSIENT = (
    "Got error: 2002",
    "Got error: 2003",
    "Got error: 2006",
    "Got error: 2013",
    "Got error: 2026",
    "Got error: 1040",
    "Got error: 1053",
    "Got error: 1203",
    "Error 1205",
    "Error 1213",
    "Error 1412",  # a table was altered since the snapshot
    "Error 2013",
    "Lock wait timeout exceeded",
    "Table definition has changed",
    "Lost connection to",
    "server has gone away",
)
_SSL_FILES = {"ca": "ssl-ca", "cert": "ssl-cert", "key": "ssl-key", "capath": "ssl-capath", "cipher": "ssl-cipher"}


class MySQLDumper:
    """`databases.dumps.Dumper`."""

    suffix = "sql"
    is_there = True

    def __init__(self, place: Place, *, mariadb: bool) -> None:
        self._place, self._mariadb = place, mariadb
        self._program: Path | None = None

    @property
    def environment(self) -> Mapping[str, str]:
        url = self._place.url
        parts = {
            "MYSQL_HOST": url.host,
            "MYSQL_TCP_PORT": url.port,
            "MYSQL_USER": url.username,
            "MYSQL_PWD": url.password,
            "MYSQL_DATABASE": url.database,
        }
        return {name: str(value) for name, value in parts.items() if value is not None}

    @asynccontextmanager
    async def ready(self) -> AsyncIterator[None]:
        self._program = await anyio.to_thread.run_sync(lambda: tools.mysql_dump(mariadb=self._mariadb))
        yield

    async def dump(self, file: Path) -> None:
        assert self._program is not None
        with file.open("wb") as output, _read_from(option_file(self._place)) as descriptor:
            options = [f"--defaults-file=/dev/fd/{descriptor}", *_OPTIONS, "--", self._place.url.database or ""]
            variables = {**programs.inherited(), "LC_ALL": "C"}
            # A person's stored login comes over the option file otherwise: MySQL's programs always read it.
            variables["MYSQL_TEST_LOGIN_FILE"] = "/nonexistent"
            ended = await programs.run([self._program, *options], variables, output=output, descriptors=[descriptor])
        if ended.code:
            raise dumps.failed(self._program.name, ended, self._place.url.password, transient=_TRANSIENT)

    async def check(self, file: Path, *, provisioned: bool) -> None:
        last = (await anyio.to_thread.run_sync(dumps.tail, file)).rstrip().rpartition(b"\n")[2]
        if not last.startswith(_COMPLETED):
            raise backup_failed(
                "the dump does not end as a whole one does", "check the disk, and what the server's log says"
            )


@contextmanager
def _read_from(text: str) -> Iterator[int]:
    """A descriptor from which a program reads the text once: no file, and no command line, ever holds it."""
    reading, writing = os.pipe()
    try:
        try:
            os.write(writing, text.encode())
        finally:
            os.close(writing)
        yield reading
    finally:
        os.close(reading)


def option_file(place: Place) -> str:
    """As our own driver connects, TLS included: `localhost` is a host, for one, and no socket.

    `loose-` stands before what only one of the two programs knows.
    """
    given = place.url.set(drivername="mysql+asyncmy").get_dialect()().create_connect_args(place.url)[1]
    lines = ["[client]", *_pairs(place, given), "[mysqldump]", "loose-column-statistics=0"]
    return "\n".join([*lines, "loose-set-gtid-purged=OFF", ""])


def _pairs(place: Place, given: Mapping[str, Any]) -> Iterator[str]:
    if socket := given.get("unix_socket"):
        yield f"socket={_written(socket)}"
    else:
        yield "protocol=tcp"
        yield f"host={_written(place.url.host or 'localhost')}"
        yield f"port={place.url.port or 3306}"
    if place.url.username is not None:
        yield f"user={_written(place.url.username)}"
    yield f"password={_written(place.url.password or '')}"
    yield f"loose-connect-timeout={max(1, math.ceil(place.limits.connect))}"
    yield from _tls(given.get("ssl"))


def _tls(ssl: object) -> Iterator[str]:
    if not ssl:  # our own sessions have none either
        yield "loose-skip-ssl"
        yield "loose-get-server-public-key"
        return
    files = ssl if isinstance(ssl, Mapping) else {}
    yield from (f"{option}={_written(files[name])}" for name, option in _SSL_FILES.items() if name in files)
    if "ca" in files or "capath" in files:
        yield "loose-ssl-verify-server-cert"
        yield "loose-ssl-mode=VERIFY_IDENTITY"


def _written(value: object) -> str:
    r"""A value as option files have it.

    >>> print(_written('a"b\\c #d'))
    "a\"b\\c #d"
    """
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    for letter, code in (("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        escaped = escaped.replace(letter, code)
    return f'"{escaped}"'
