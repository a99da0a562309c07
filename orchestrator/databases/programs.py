"""Run programs of others (pg_dump, a command of the operator's) so that nothing of them outlives us."""

from __future__ import annotations

import os
import shutil
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import IO

import anyio
from anyio.abc import ByteReceiveStream, Process

# The kernel closes our end of the pipe however we die, and then the shell ends its whole process group.
_SUPERVISED = """
exec 3<&0 </dev/null
"$@" 3<&- &
child=$!
(read -r _ <&3; kill -s KILL 0) >/dev/null 2>&1 &
watch=$!
wait "$child"
code=$?
kill -s KILL "$watch"
exit "$code"
"""
ENDING_SECONDS = 3.0
DRAINING_SECONDS = 1.0
LINES_KEPT, LONGEST_LINE = 20, 1000
# Of ours: the store's URL may be among them. Of libpq: these would lead a program elsewhere than the URL says.
_OURS = "ORCHESTRATOR_"
_MISLEADING = frozenset(("PGHOSTADDR", "PGSERVICE", "PGSERVICEFILE", "PGDATABASE", "PGCLIENTENCODING", "PGAPPNAME"))


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended: its exit code (over 128: a signal), the end of what it said, and what it printed."""

    code: int
    said: tuple[str, ...]
    printed: bytes = b""


def shell() -> list[str]:
    """A shell for a command line of the operator's: one that fails when a part of a pipe does, where there is one."""
    bash = shutil.which("bash")
    return [bash, "-o", "pipefail", "-c"] if bash else ["/bin/sh", "-c"]


async def run(
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    *,
    output: IO[bytes] | None = None,
    catch: bool = False,
    descriptors: Sequence[int] = (),
    folder: str | Path = "/",
) -> Ended:
    """Run a program to its end, in a process group of its own, with `environment` alone.

    What it prints goes to `output`, or with `catch` into the result. `descriptors` stay open in it. When this is
    cancelled, or when our process dies, the whole group is ended. Files it makes are its user's alone. Raises OSError
    when there is no shell.
    """
    process = await anyio.open_process(
        ["/bin/sh", "-c", _SUPERVISED, "supervisor", *map(str, command)],
        stdin=PIPE,
        stdout=PIPE if catch else output if output is not None else DEVNULL,
        stderr=PIPE,
        env=dict(environment),
        cwd=folder,
        start_new_session=True,
        pass_fds=descriptors,
        umask=0o077,
    )
    said, printed = _Tail(), bytearray()
    try:
        async with anyio.create_task_group() as readers:
            readers.start_soon(_drain, process.stderr, said.take)
            if catch:
                readers.start_soon(_drain, process.stdout, printed.extend)
            code = await process.wait()
            # What it left running may keep its streams open.
            readers.cancel_scope.deadline = anyio.current_time() + DRAINING_SECONDS
    finally:
        with anyio.CancelScope(shield=True):
            await _end(process)
    return Ended(code if code >= 0 else 128 - code, said.lines(), bytes(printed))


def inherited() -> dict[str, str]:
    """Our own environment, as far as a program of others may have it."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_OURS) and name not in _MISLEADING}


class _Tail:
    """Keeps the last lines of a stream, however long it is."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._rest = b""

    def take(self, chunk: bytes) -> None:
        *whole, rest = (self._rest + chunk).split(b"\n")
        self._lines.extend(_text(line) for line in whole if line.strip())
        self._rest = rest[-LONGEST_LINE:]

    def lines(self) -> tuple[str, ...]:
        last = [_text(self._rest)] if self._rest.strip() else []
        return (*self._lines, *last)[-LINES_KEPT:]


def _text(line: bytes) -> str:
    return line.decode(errors="replace").strip()[:LONGEST_LINE]


async def _drain(stream: ByteReceiveStream | None, take: Callable[[bytes], object]) -> None:
    assert stream is not None
    with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
        async for chunk in stream:
            take(chunk)


async def _end(process: Process) -> None:
    """End what is left of the group: first asked, then made to."""
    if process.returncode is None and _signal(process.pid, signal.SIGTERM):
        # All of them have this stream open, or had it: its end is theirs. A group may still count its dead.
        with anyio.move_on_after(ENDING_SECONDS):
            await _drain(process.stderr, lambda chunk: None)
        _signal(process.pid, signal.SIGKILL)
    await process.aclose()


def _signal(group: int, number: int) -> bool:
    """Whether there was anybody in the group to hear it."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
