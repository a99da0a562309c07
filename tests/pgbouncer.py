"""A private PgBouncer for the tests: before one of their servers, gone with the run, however that ends."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote, urlsplit

import anyio
import anyio.to_thread
import asyncpg
import pytest

from orchestrator.databases.binaries import NOBODY
from orchestrator.databases.embedded import Server, free_port, scratch
from tests import mariadb, watched

# Set where a missing pooler must not go unnoticed.
REQUIRED = "TEST_PGBOUNCER_REQUIRED"
START_SECONDS = 20.0
# What asyncpg sets as it connects: PgBouncer refuses a client that sets what it does not know.
IGNORED = (
    "extra_float_digits,options,search_path,lock_timeout,statement_timeout,tcp_keepalives_idle,"
    "tcp_keepalives_interval,tcp_keepalives_count"
)
_INI = """
[databases]
* = host={host} port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = {auth}
auth_file = {home}/users
pool_mode = {mode}
default_pool_size = {size}
max_client_conn = 200
ignore_startup_parameters = {ignored}
"""


@dataclass(frozen=True)
class Pooler:
    """Known by the URL of any of the databases behind it."""

    dsn: str

    def url(self, database: str) -> str:
        return urlsplit(self.dsn)._replace(path=f"/{quote(database, safe='')}").geturl()


@asynccontextmanager
async def before(
    server: Server, mode: Literal["transaction", "session"] = "transaction", *, size: int = 2, ignored: str = IGNORED
) -> AsyncIterator[Pooler]:
    """A pooler of `size` sessions for each database and user; the test is skipped where PgBouncer is not installed, or
    fails where `TEST_PGBOUNCER_REQUIRED` is set."""
    program = mariadb.program("pgbouncer")
    if program is None:
        said = "no PgBouncer on this machine: install it (`make servers`)"
        if os.environ.get(REQUIRED):
            pytest.fail(said, pytrace=False)
        pytest.skip(said)
    home = Path(tempfile.mkdtemp(prefix="pgbouncer-", dir=scratch()))
    parts, listen = urlsplit(server.url("postgres")), free_port()
    users = f'"{parts.username}" "{parts.password or ""}"\n'
    settings = {"host": parts.hostname, "port": parts.port, "listen": listen, "home": home, "ignored": ignored}
    auth = "plain" if parts.password else "trust"
    (home / "users").write_text(users)
    (home / "ini").write_text(_INI.format(**settings, auth=auth, mode=mode, size=size))
    if os.geteuid() == 0:
        for path in (home, home / "users", home / "ini"):
            os.chown(path, NOBODY, NOBODY)
    process = watched.launch([program, str(home / "ini")], home)
    netloc = parts.netloc.rpartition("@")[0] + f"@127.0.0.1:{listen}"
    pooler = Pooler(parts._replace(netloc=netloc).geturl())
    try:
        await _wait(pooler, process, home)
        yield pooler
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(watched.stop, process, home)


async def _wait(pooler: Pooler, process: subprocess.Popen[bytes], home: Path) -> None:
    with anyio.move_on_after(START_SECONDS):
        while process.poll() is None:
            try:
                await (await asyncpg.connect(pooler.url("postgres"), statement_cache_size=0)).close()
                return
            except OSError:
                await anyio.sleep(0.02)
    log = home / "server.log"
    said = log.read_text(errors="replace")[-2000:] if log.exists() else "(none)"
    shutil.rmtree(home, ignore_errors=True)
    raise AssertionError(f"PgBouncer did not start; its log ends:\n{said}")
