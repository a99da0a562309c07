"""How a SQLite file is opened, and what its failures mean to the operator."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from orchestrator.databases import sqlite_errors
from orchestrator.databases.base import Place
from orchestrator.errors import TargetUnreachableError

WHERE = "SELECT file, 0 FROM pragma_database_list WHERE name = 'main'"


@contextmanager
def opened(place: Place) -> Iterator[sqlite3.Connection]:
    """A connection to the file, which must be there: SQLite would create what a typo names, and migrate it."""
    path = Path(place.url.database or "")
    try:
        there = path.is_file()
    except OSError as exc:
        raise unusable(place, exc) from exc
    if not there:
        raise TargetUnreachableError(
            f"there is no database file {path}",
            kind="missing_database",
            remedy="create it (an empty file will do), or correct `database:` of the tenant",
        )
    try:
        connection = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=place.limits.lock_timeout)
        with closing(connection):
            yield connection
    except sqlite3.Error as exc:
        raise unusable(place, exc) from exc


def unusable(place: Place, exc: sqlite3.Error | OSError) -> TargetUnreachableError:
    busy = sqlite_errors.is_busy(exc)
    ours = "check that we may read and write the file and its folder, where the lock file is made"
    free = ours if isinstance(exc, OSError) else "check that it is a SQLite database we may write"
    return TargetUnreachableError(
        f"cannot use database file {place.url.database}: {exc}",
        kind="busy" if busy else "unusable",
        remedy="end the process that keeps it locked" if busy else free,
        retriable=busy,
    )
