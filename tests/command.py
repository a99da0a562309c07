"""The command line as a process of its own, as people run it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import anyio
import anyio.to_thread
from anyio.abc import Process

from tests import forked_command

ROOT = Path(__file__).parent.parent
SECONDS = 120.0
# A shell that runs the tests in the background lets them ignore Ctrl-C, and with them all that they start.
HEAR_INTERRUPTS = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


def environ(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our variables without settings of the orchestrator, and the way to its code from any folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ORCHESTRATOR_", "COLUMNS"))}
    return {**kept, "PYTHONPATH": str(ROOT), **(extra or {})}


def command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "orchestrator", *arguments]


async def run(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, seconds: float = SECONDS, fresh: bool = False
) -> Result:
    """Run a command to its end; its streams are no terminal. A `fresh` one is started as people start it: that takes a
    second longer, and is for what Python itself reads, such as its variables and the command line."""
    with anyio.fail_after(seconds):
        if not fresh:
            return await _forked(arguments, cwd, env)
        done = await anyio.run_process(command(arguments), check=False, cwd=cwd, env=environ(env))
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


async def _forked(arguments: Sequence[str], cwd: Path, env: Mapping[str, str] | None) -> Result:
    with open(os.devnull) as null, TemporaryFile() as out, TemporaryFile() as err:  # noqa: ASYNC230
        streams = {"stdin": null.fileno(), "stdout": out.fileno(), "stderr": err.fileno()}
        process = forked_command.start(arguments, cwd=cwd, env=environ(env), **streams)
        try:
            code = await anyio.to_thread.run_sync(process.wait, abandon_on_cancel=True)
        finally:
            process.kill()
        return Result(code, *(_written(stream) for stream in (out, err)))


def _written(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode()


@asynccontextmanager
async def started(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, seconds: float = SECONDS
) -> AsyncIterator[Process]:
    """A running command, with pipes for its streams; killed at the end if it still runs."""
    options = {"stdin": subprocess.DEVNULL, "cwd": cwd, "env": environ(env)}
    heard = [sys.executable, "-c", HEAR_INTERRUPTS, *command(arguments)]
    process = await anyio.open_process(heard, **options)  # type: ignore[arg-type]
    try:
        with anyio.fail_after(seconds):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        with anyio.CancelScope(shield=True):
            await process.aclose()


async def ended(process: Process) -> Result:
    """Read both streams to their ends, and wait."""
    streams: dict[str, bytes] = {"out": b"", "err": b""}

    async def read(name: str) -> None:
        stream = process.stdout if name == "out" else process.stderr
        assert stream is not None
        async for chunk in stream:
            streams[name] += chunk

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read, "out")
        tasks.start_soon(read, "err")
    code = await process.wait()
    return Result(code, streams["out"].decode(), streams["err"].decode())
