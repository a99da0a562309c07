"""The tests' own MariaDB leaves nothing behind, and its absence is told."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import anyio
import pytest

from tests import mariadb
from tests.command import environ
from tests.engine import until

PROGRAM = """
import anyio
from tests import mariadb
async def main():
    async with mariadb.server() as server:
        ((folder,),) = await mariadb.fetch(server, "", "SELECT @@datadir")
        print(folder, flush=True)
        await anyio.sleep(60)
anyio.run(main)
"""


@pytest.mark.skipif("TEST_MYSQL_DSN" in os.environ, reason="the server is somebody else's")
async def test_a_run_that_is_killed_leaves_no_server(mysql: mariadb.MySQLServer) -> None:
    async with await anyio.open_process([sys.executable, "-c", PROGRAM], stderr=None, env=environ()) as process:
        assert process.stdout is not None
        folder = Path((await process.stdout.receive()).decode().strip())
        assert await anyio.Path(folder).is_dir()
        process.send_signal(signal.SIGKILL)
        await until(lambda: not folder.parent.exists())
    # The watchdog, which has just taken the files away, is the last to end.
    await until(lambda: not [command for command in _commands() if str(folder.parent) in command])


def _commands() -> list[str]:
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(file.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found


@pytest.mark.parametrize(("required", "outcome"), [("", pytest.skip.Exception), ("1", pytest.fail.Exception)])
async def test_where_there_is_no_server_the_tests_say_so_and_fail_where_there_must_be_one(
    required: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEST_MYSQL_DSN", raising=False)
    monkeypatch.setattr(mariadb, "program", lambda name: None)
    monkeypatch.setenv(mariadb.REQUIRED, required)
    with pytest.raises(outcome, match="no MariaDB server on this machine: install mariadb-server"):
        async with mariadb.server():
            pass
