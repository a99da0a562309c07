"""What programs that make backups say, and what of it is shown."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from orchestrator.databases.programs import Ended
from orchestrator.databases.refusals import backup_failed
from orchestrator.errors import MigrationFailedError
from orchestrator.observe import redact

# A message shows so many lines of what a program said last.
LINES_SHOWN = 3
LONGEST_MESSAGE = 600
_SIGNALS = 128


def failed(what: str, ended: Ended, secret: str | None, *, transient: Iterable[str] = ()) -> MigrationFailedError:
    """That a program ended with an error, in its own last words, without the password."""
    text = "\n".join(ended.said)
    how = f"signal {ended.code - _SIGNALS}" if ended.code > _SIGNALS else f"code {ended.code}"
    said = shown(ended.said, secret)
    return backup_failed(
        f"{what} ended with {how}{': ' + said if said else ''}",
        "look at what it says: rights of the shard's user, space on the disk, the program's version",
        retriable=any(sign in text for sign in transient),
    )


def shown(said: Iterable[str], secret: str | None) -> str:
    """The last lines of what a program said, without secrets.

    >>> shown(["…", "cannot reach db as ann:s3cret"], "s3cret")
    '…; cannot reach db as ann:***'
    """
    text = redact.text("; ".join(list(said)[-LINES_SHOWN:]), secret)
    return text if len(text) <= LONGEST_MESSAGE else f"…{text[1 - LONGEST_MESSAGE :]}"


def tail(file: Path, size: int = 4096) -> bytes:
    """The last bytes of a file. Blocks. Raises OSError."""
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - size))
        return opened.read()
