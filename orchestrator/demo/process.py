"""The demo's daemon: a process of its own, as in production, that never outlives us."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
from anyio.abc import Process

import orchestrator
from orchestrator.client.daemon import Daemon
from orchestrator.errors import DaemonError

START_SECONDS = 60.0
GRACE_SECONDS = 5.0
STOP_SECONDS = 20.0
TAIL_LINES = 12

# The pipe closes however we die, kill -9 included. A terminal's Ctrl-C reaches neither the daemon nor this watchdog.
WATCHDOG = 'read -r _ && exit; kill -TERM "$1"; [ -z "$2" ] || { sleep 10; rm -rf -- "$2"; }'


@asynccontextmanager
async def running(folder: Path, port: int, secrets: Mapping[str, str], *, keep: bool) -> AsyncIterator[str]:
    """A daemon over the registry in `folder` while the block runs; gives its URL once it takes work.

    `secrets` become its environment variables. Raises DaemonError with the end of its log if it does not start.
    """
    log = folder / "daemon.log"
    process = await anyio.open_process(
        command(folder, port),
        stdin=subprocess.DEVNULL,
        stdout=(output := log.open("wb")),
        stderr=output,
        env=environment(os.environ, secrets),
        start_new_session=True,
    )
    output.close()
    watchdog = _watch(process.pid, None if keep else folder)
    try:
        yield await _ready(process, anyio.Path(log))
    finally:
        await _stop(process)
        watchdog.communicate(b"\n")


def command(folder: Path, port: int) -> list[str]:
    return [
        *(sys.executable, "-P", "-m", "orchestrator", "serve"),
        *("--config", str(folder / "tenants.yaml"), "--store-url", f"sqlite:///{folder / 'orchestrator.db'}"),
        *("--host", "127.0.0.1", "--port", str(port), "--log-format", "json", "--log-level", "info"),
        *("--shutdown-grace-seconds", f"{GRACE_SECONDS:g}"),
    ]


def environment(ours: Mapping[str, str], secrets: Mapping[str, str]) -> dict[str, str]:
    """The daemon's variables: ours without the settings of some other daemon, our code, and its secrets."""
    kept = {name: value for name, value in ours.items() if not name.startswith("ORCHESTRATOR_")}
    code = str(Path(orchestrator.__file__).parent.parent)
    path = os.pathsep.join(filter(None, [code, kept.get("PYTHONPATH")]))
    return {**kept, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **secrets}


def url_in(log: str) -> str | None:
    """The URL of the line that tells where the daemon listens, if it was written yet.

    >>> url_in('starting\\n{"event": "listening", "url": "http://127.0.0.1:4711"}\\n')
    'http://127.0.0.1:4711'
    """
    for line in log.splitlines():
        with suppress(ValueError):
            said = json.loads(line)
            if isinstance(said, dict) and said.get("event") == "listening":
                return str(said["url"])
    return None


async def _ready(process: Process, log: anyio.Path) -> str:
    with anyio.move_on_after(START_SECONDS):
        while process.returncode is None:
            if (url := url_in(await log.read_text(errors="replace"))) and await _takes_work(url):
                return url
            await anyio.sleep(0.05)
    lines = (await log.read_text(errors="replace")).splitlines()[-TAIL_LINES:]
    tail = "\n".join(f"  {line}" for line in lines)
    raise DaemonError(f"the demo's daemon did not start; its log ends:\n{tail}", remedy="try another --port")


async def _takes_work(url: str) -> bool:
    async with Daemon(url) as daemon:
        return await daemon.ready()


def _watch(pid: int, folder: Path | None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["/bin/sh", "-c", WATCHDOG, "watchdog", str(pid), str(folder or "")],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )


async def _stop(process: Process) -> None:
    """Ask it to end, and see to it that it does."""
    with anyio.CancelScope(shield=True):
        with suppress(ProcessLookupError):
            process.terminate()
        with anyio.move_on_after(STOP_SECONDS):
            await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
