"""Where every error of a command ends: what was expected in one message with its remedy, anything else as a bug."""

from __future__ import annotations

import os
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import typer

from orchestrator.cli import screen
from orchestrator.errors import OrchestratorError, leaves

INTERRUPTED = 130
BUG = 1
_QUIET = (typer.Exit, typer.Abort, SystemExit, BrokenPipeError)


@contextmanager
def guarded() -> Iterator[None]:
    """Turn whatever the block raises into words on standard error and an exit code."""
    try:
        yield
    except BaseException as exc:
        found = leaves(exc)
        if any(isinstance(leaf, KeyboardInterrupt) for leaf in found):
            raise typer.Exit(INTERRUPTED) from None
        if len(found) == 1 and (isinstance(found[0], _QUIET) or is_usage(found[0])):
            raise found[0] from None
        raise typer.Exit(answer(found)) from None


def is_usage(exc: BaseException) -> bool:
    """Bad usage, which typer words and for which it exits with 2. (Where its class is depends on typer's version.)"""
    return any(cls.__name__ == "ClickException" for cls in type(exc).__mro__)


def answer(found: Sequence[BaseException]) -> int:
    """Tell of the errors; the exit code. One unexpected error among expected ones makes it a bug."""
    surprises = [exc for exc in found if not isinstance(exc, OrchestratorError)]
    if surprises:
        screen.remark(bug(surprises[0], write_trace(surprises)))
        return BUG
    expected = [exc for exc in found if isinstance(exc, OrchestratorError)]
    for text in dict.fromkeys(map(worded, expected)):
        screen.remark(text)
    return max(exc.exit_code for exc in expected)


def worded(exc: OrchestratorError) -> str:
    """
    >>> print(worded(OrchestratorError("it broke", remedy="mend it")))
    error: it broke
      try: mend it
    """
    from orchestrator.observe import redact

    lines = [f"error: {exc.message}"]
    if exc.remedy:
        lines.append(f"  try: {exc.remedy}")
    return redact.text("\n".join(lines))


def bug(exc: BaseException, trace: str | None) -> str:
    """An unexpected error in one line; its message stays in the file, it was not written for this screen."""
    where = f"please report it with {trace}" if trace else "please report it"
    return f"error: this is a bug ({type(exc).__name__}); {where}"


def write_trace(found: Sequence[BaseException]) -> str | None:
    """Write the tracebacks, without local variables and without secrets, to a file that only we can read.

    Returns its path; None when not even that works.
    """
    from orchestrator.observe import redact

    text = "\n".join("".join(traceback.format_exception(exc)) for exc in found)
    try:
        handle, path = tempfile.mkstemp(prefix="orchestrator-bug-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(redact.text(text))
    except OSError:
        return None
    return path
