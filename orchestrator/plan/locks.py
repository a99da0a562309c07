"""What a statement does to a table: the lock that it takes, the work that it does meanwhile, and for how long. Pure.

Sources: table-level locks (https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-TABLES) and the notes
of "ALTER TABLE" (https://www.postgresql.org/docs/current/sql-altertable.html); for MySQL "Online DDL Operations"
(https://dev.mysql.com/doc/refman/8.4/en/innodb-online-ddl-operations.html).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from orchestrator.plan.tokens import Table


class Lock(StrEnum):
    """Of PostgreSQL, by its name there, the strongest first; `SHARED` is that of MySQL while it copies a table, `FILE`
    that of SQLite."""

    ACCESS_EXCLUSIVE = "ACCESS EXCLUSIVE"
    SHARE_ROW_EXCLUSIVE = "SHARE ROW EXCLUSIVE"
    SHARE = "SHARE"
    SHARED = "LOCK=SHARED"
    FILE = "the whole database"
    SHARE_UPDATE_EXCLUSIVE = "SHARE UPDATE EXCLUSIVE"
    ROW_EXCLUSIVE = "ROW EXCLUSIVE"

    @property
    def blocks(self) -> str:
        """What others cannot do meanwhile; "" where they can read and write."""
        if self is Lock.ACCESS_EXCLUSIVE:
            return "reads and writes"
        return "writes" if self in (Lock.SHARE_ROW_EXCLUSIVE, Lock.SHARE, Lock.SHARED, Lock.FILE) else ""

    @property
    def weight(self) -> int:
        """Greater for a stronger one."""
        return -list(Lock).index(self)


class Work(StrEnum):
    """How much of a table is gone through while the lock is held."""

    NONE = "none"
    SCAN = "scan"
    BUILD = "build"
    REWRITE = "rewrite"
    CHANGE = "change"


# Bytes of a table that an ordinary server gets through in a second: no promise, a magnitude. Changed rows are
# written twice, and once more to each index.
BYTES_PER_SECOND = {Work.SCAN: 200e6, Work.BUILD: 40e6, Work.REWRITE: 40e6, Work.CHANGE: 10e6}


# What is said of a touch that names an index: the lock is on its table, which the statement does not name.
DROP_INDEX = "DROP INDEX"
# How the names of tables begin to which Alembic's batch mode copies others.
COPY = "_alembic_tmp_"


def seconds(work: Work, size_bytes: float) -> float:
    """
    >>> seconds(Work.REWRITE, 4e9), seconds(Work.NONE, 4e9)
    (100.0, 0.0)
    """
    return size_bytes / BYTES_PER_SECOND[work] if work in BYTES_PER_SECOND else 0.0


@dataclass(frozen=True, slots=True)
class Touch:
    """What a command does to a table that is there before. `what` says it in words, without literals.

    `column`: the work is done unless the catalog knows better of this column: that it has no NULL (`type` None), or
    that what it holds is stored alike in the `type` that it is given.
    """

    table: Table
    lock: Lock
    work: Work
    what: str
    column: str | None = None
    type: str | None = None


@dataclass(frozen=True, slots=True)
class NotNull:
    """A check constraint that says a column has no NULL; `valid`: all rows have been looked at."""

    table: Table
    column: str
    name: str
    valid: bool


@dataclass(frozen=True, slots=True)
class Command:
    """What can be told of one command. `creates` are tables that are new, `provides` those that are where they were not
    there yet, `drops` those that are gone; `index` is a new one with its table; `renames` is a table that has another
    name from here on, `validates` a constraint that holds from here on."""

    touches: tuple[Touch, ...] = ()
    creates: tuple[Table, ...] = ()
    renames: tuple[Table, Table] | None = None
    index: tuple[Table, Table] | None = None
    states: tuple[NotNull, ...] = ()
    validates: tuple[Table, str] | None = None
    provides: tuple[Table, ...] = ()
    drops: tuple[Table, ...] = ()
