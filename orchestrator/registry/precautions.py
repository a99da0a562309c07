"""What is done for a target before and after it is changed, as values: backups, and what must hold in the end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

May = Literal["grow", "shrink", "stay"]


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup of each target before its first change: by the database's own means into `directory`, or by a command.

    `command` and `check` are lines for the shell. `concurrency`: so many backups at once in the process, `per_shard`
    of them on one shard. `keep`: so many are left of each target, the new one included.
    """

    directory: Path | None = None
    command: str | None = None
    check: str | None = None
    concurrency: int = 2
    per_shard: int | None = None
    deadline_seconds: float = 1800.0
    keep: int = 3


@dataclass(frozen=True, slots=True)
class Assertion:
    """SQL whose one row must have `expect` as its first value, or true when that is left out.

    `revision`: asked only where that revision was among the steps.
    """

    sql: str
    name: str | None = None
    expect: str | None = None
    revision: str | None = None
    timeout_seconds: float = 60.0

    @property
    def title(self) -> str:
        """What it is called in messages."""
        return self.name or shortened(self.sql)


@dataclass(frozen=True, slots=True)
class RowGuard:
    """A table that is counted before and after: it may grow, shrink, or stay as it is.

    It may go against that by `within_count` rows, or by `within_percent` of those that there were.
    """

    table: str
    name: str | None = None
    may: May = "grow"
    within_count: int | None = None
    within_percent: float | None = None
    revision: str | None = None
    timeout_seconds: float = 60.0

    @property
    def title(self) -> str:
        """What it is called in messages."""
        return self.name or f"rows of {self.table}"


Verification = Assertion | RowGuard
LONGEST_TITLE = 120


def shortened(text: str, longest: int = LONGEST_TITLE) -> str:
    """One line of at most so many characters.

    >>> shortened("SELECT  1\\nFROM t", 10)
    'SELECT 1 …'
    """
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"
