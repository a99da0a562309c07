"""`orchestrator demo` as a newcomer runs it: it shows what it promises, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import anyio
import httpx2 as httpx
import pytest
from anyio.abc import Process

from tests.command import Result, ended, run, started
from tests.engine import until


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder for temporary files, which the demo must leave empty; its name is short and open to other users."""
    with tempfile.TemporaryDirectory(prefix="od-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def environment(scratch: Path) -> dict[str, str]:
    return {"TMPDIR": str(scratch)}


def left_behind(scratch: Path) -> list[str]:
    """Processes that were started with this folder for temporary files: the demo's, its daemon's, its servers'."""
    wanted = f"TMPDIR={scratch}".encode()
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (place / "environ").read_bytes().split(b"\0"):
                found.append((place / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:100])
        except OSError:
            continue
    return found


async def nothing_is_left(scratch: Path) -> None:
    await until(lambda: not left_behind(scratch), seconds=90)
    await until(lambda: not list(scratch.iterdir()), seconds=60)


async def said(process: Process, text: str) -> str:
    """Read standard output until it says `text`."""
    assert process.stdout is not None
    heard = b""
    while text.encode() not in heard:
        heard += await process.stdout.receive()
    return heard.decode()


async def heard(process: Process, text: str) -> None:
    """Read standard error until it says `text`."""
    assert process.stderr is not None
    told = b""
    while text.encode() not in told:
        told += await process.stderr.receive()


async def test_two_at_once_do_not_meet_and_bring_all_to_head_and_kept_data_stay_where_it_says(scratch: Path) -> None:
    results: dict[int, Result] = {}

    async def one(tenants: int, *flags: str) -> None:
        command = ("demo", "--tenants", str(tenants), "--exit", *flags)
        results[tenants] = await run(*command, cwd=scratch, env=environment(scratch))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one, 4)
        tasks.start_soon(one, 10, "--keep")
    for tenants, done in results.items():
        assert done.code == 0, done.err
        assert f"{tenants} of {tenants} at head" in done.out
        assert f"creating {tenants} databases" in done.err
    await until(lambda: not left_behind(scratch), seconds=90)
    await until(lambda: len(os.listdir(scratch)) == 1, seconds=60)
    [name] = os.listdir(scratch)
    kept = scratch / name
    assert f"kept: {kept}" in results[10].out
    assert {"demo-1", "demo-2", "tenants.yaml", "orchestrator.db", "daemon.log"} <= set(os.listdir(kept))


async def test_it_stays_to_be_looked_at_until_ctrl_c(scratch: Path) -> None:
    async with started("demo", "--tenants", "3", cwd=scratch, env=environment(scratch)) as process:
        text = await said(process, "Ctrl-C ends the demo")
        urls = {line.split()[0]: line.split()[1] for line in text.splitlines() if "http://" in line and "  " in line}
        async with httpx.AsyncClient() as client:
            assert (await client.get(urls["rollout"])).json()["counts"]["succeeded"] == 3
            assert "orchestrator_targets" in (await client.get(urls["metrics"])).text
            assert (await client.get(urls["OpenAPI"])).status_code == 200
        process.send_signal(signal.SIGINT)
        done = await ended(process)
    assert done.code == 0
    assert "ending the demo" in done.err
    await nothing_is_left(scratch)


@pytest.mark.parametrize("moment", ["starting 2 PostgreSQL servers", "creating 40 databases", "starting the daemon"])
async def test_ctrl_c_in_the_middle_leaves_nothing(scratch: Path, moment: str) -> None:
    async with started("demo", "--tenants", "40", cwd=scratch, env=environment(scratch)) as process:
        await heard(process, moment)
        await anyio.sleep(0.1)  # into the middle of it
        process.send_signal(signal.SIGINT)
        done = await ended(process)
    assert done.code == 130, done.err
    assert "Traceback" not in done.err
    await nothing_is_left(scratch)


async def test_killed_without_a_word_its_servers_and_its_daemon_end_too(scratch: Path) -> None:
    async with started("demo", "--tenants", "2", cwd=scratch, env=environment(scratch)) as process:
        await said(process, "Ctrl-C ends the demo")
        process.send_signal(signal.SIGKILL)
        await process.wait()
    await nothing_is_left(scratch)


async def test_without_postgresql_it_says_what_to_install(scratch: Path) -> None:
    environ = {**environment(scratch), "ORCHESTRATOR_PG_BIN": str(scratch)}
    done = await run("demo", "--exit", cwd=scratch, env=environ)
    assert done.code == 2
    assert "pip install 'migration-orchestrator[demo]'" in done.err


async def test_a_port_that_is_taken_is_told(scratch: Path) -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0) as taken:
        port = str(taken.extra(anyio.abc.SocketAttribute.local_port))
        done = await run("demo", "--tenants", "1", "--exit", "--port", port, cwd=scratch, env=environment(scratch))
    assert done.code == 5
    assert f"port {port} on 127.0.0.1 is in use" in done.err
    await nothing_is_left(scratch)
