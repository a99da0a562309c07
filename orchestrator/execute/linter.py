"""Asks squawk, a program of others (https://squawkhq.com, package squawk-cli), what it holds against SQL.

It is given text and gives text: it connects to nothing, and its environment is empty.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE
from typing import NamedTuple

import anyio
from anyio.abc import ByteReceiveStream

from orchestrator.plan import squawk
from orchestrator.plan.squawk import Question, Violation

LONGEST_SECONDS = 20.0
AT_ONCE = 4
# Of SQL in one question; a history has some kilobytes.
LONGEST_BYTES = 4_000_000
_NOTHING_FOUND, _FOUND = 0, 1
HOW_TO_GET_IT = "install the extra `lint`: pip install 'migration-orchestrator[lint]'"


class LinterMissingError(Exception):
    """It is not installed."""


class LinterFailedError(Exception):
    """It gave no answer; the text says why, without the SQL."""


class Linter:
    """`program` is found beside this Python, or else in the PATH, unless it is given."""

    def __init__(self, program: str | Path | None = None, seconds: float = LONGEST_SECONDS) -> None:
        self._program, self._seconds = program, seconds
        self._room = anyio.CapacityLimiter(AT_ONCE)

    async def ask(self, question: Question) -> list[Violation]:
        """Raises LinterMissingError and LinterFailedError, the latter also after `seconds`."""
        program = self._program or found()
        if program is None:
            raise LinterMissingError
        text = question.text.encode(errors="replace")
        if len(text) > LONGEST_BYTES:
            raise LinterFailedError(f"the SQL of one transaction is longer than {LONGEST_BYTES / 1e6:.0f} MB")
        async with self._room:
            ended = await self._run([str(program), *squawk.arguments(question)], text)
        if ended.code not in (_NOTHING_FOUND, _FOUND):
            raise LinterFailedError(f"it ended with code {ended.code}: {_first_line(ended.said)}")
        try:
            return squawk.answer(ended.printed)
        except ValueError as exc:
            raise LinterFailedError("its answer is not what squawk says: is another program named so?") from exc

    async def _run(self, command: Sequence[str], text: bytes) -> _Ended:
        try:
            with anyio.fail_after(self._seconds):
                return await _ended(command, text)
        except TimeoutError as exc:
            raise LinterFailedError(f"it gave no answer within {self._seconds:g} s") from exc
        except FileNotFoundError as exc:
            raise LinterMissingError from exc
        except OSError as exc:
            raise LinterFailedError(f"it cannot be run: {exc.strerror or type(exc).__name__}") from exc


class _Ended(NamedTuple):
    code: int
    printed: bytes
    said: bytes


async def _ended(command: Sequence[str], text: bytes) -> _Ended:
    """Run a program to its end, whether it reads what it is given or not. When this is cancelled, it is killed."""
    printed, said = bytearray(), bytearray()
    process = await anyio.open_process(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, env={}, cwd="/")
    async with process:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_drain, process.stdout, printed)
            tasks.start_soon(_drain, process.stderr, said)
            assert process.stdin is not None
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # it has ended, or closed its input
                await process.stdin.send(text)
            with suppress(anyio.BrokenResourceError, OSError):
                await process.stdin.aclose()
        code = await process.wait()
    return _Ended(code, bytes(printed), bytes(said))


async def _drain(stream: ByteReceiveStream | None, into: bytearray) -> None:
    assert stream is not None
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        async for chunk in stream:
            into += chunk


def found() -> str | None:
    """Where squawk is, on this machine."""
    return shutil.which("squawk", path=str(Path(sys.executable).parent)) or shutil.which("squawk")


def _first_line(said: bytes) -> str:
    lines = said.decode(errors="replace").strip().splitlines()
    return lines[0][:200] if lines else "it said nothing"
