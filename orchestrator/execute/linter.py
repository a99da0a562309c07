"""Asks squawk, a program of others (https://squawkhq.com, package squawk-cli), what it holds against SQL.

It is given text and gives text: it connects to nothing, and its environment is empty.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio

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
        if ended.returncode not in (_NOTHING_FOUND, _FOUND):
            raise LinterFailedError(f"it ended with code {ended.returncode}: {_first_line(ended.stderr)}")
        try:
            return squawk.answer(ended.stdout)
        except ValueError as exc:
            raise LinterFailedError("its answer is not what squawk says: is another program named so?") from exc

    async def _run(self, command: Sequence[str], text: bytes) -> subprocess.CompletedProcess[bytes]:
        try:
            with anyio.fail_after(self._seconds):  # when that ends it, the process is killed
                return await anyio.run_process(command, input=text, check=False, env={}, cwd="/")
        except TimeoutError as exc:
            raise LinterFailedError(f"it gave no answer within {self._seconds:g} s") from exc
        except FileNotFoundError as exc:
            raise LinterMissingError from exc
        except OSError as exc:
            raise LinterFailedError(f"it cannot be run: {exc.strerror or type(exc).__name__}") from exc


def found() -> str | None:
    """Where squawk is, on this machine."""
    return shutil.which("squawk", path=str(Path(sys.executable).parent)) or shutil.which("squawk")


def _first_line(said: bytes) -> str:
    lines = said.decode(errors="replace").strip().splitlines()
    return lines[0][:200] if lines else "it said nothing"
