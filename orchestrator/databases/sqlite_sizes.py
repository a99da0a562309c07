"""Sizes of SQLite files and tables. Nothing is counted: the greatest rowid is found in an instant, and says enough."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path

import anyio.to_thread

from orchestrator.databases.base import Place
from orchestrator.databases.quoting import quoted
from orchestrator.errors import TargetUnreachableError
from orchestrator.plan.parts import Size, Sized
from orchestrator.plan.tokens import Table

_BYTES_A_ROW = 100


class SQLiteSizes:
    """`databases.sizes.Sizes`."""

    async def databases(self, place: Place, names: Sequence[str]) -> Mapping[str, int]:
        """Databases of one folder: that of the place, which is the file `place.target.database` in it."""
        return await anyio.to_thread.run_sync(_files, place, names)

    async def tables(self, places: Sequence[Place], wanted: Mapping[Table, frozenset[str]]) -> Sized:
        return await anyio.to_thread.run_sync(_tables, places, wanted)


def _files(place: Place, names: Sequence[str]) -> Mapping[str, int]:
    file, found = Path(place.url.database or ""), {}
    for name in names:
        with suppress(OSError):
            found[name] = file.with_name(name).stat().st_size
    return found


def _tables(places: Sequence[Place], wanted: Mapping[Table, frozenset[str]]) -> Sized:
    place = places[0]
    try:
        file = f"{Path(place.url.database or '').as_uri()}?mode=ro"
        with closing(sqlite3.connect(file, uri=True, timeout=place.limits.lock_timeout)) as connection:
            rows = {table: _greatest(connection, table) for table in wanted}
    except sqlite3.Error as exc:
        raise TargetUnreachableError(
            f"cannot use database file {place.url.database}: {exc}",
            kind="unusable",
            remedy="check that it is a SQLite database we may read, and that nobody keeps it locked",
        ) from exc
    found = [(table, count) for table, count in rows.items() if count is not None]
    return Sized(
        None,
        [(table, Size(one.target.tenant, count, count * _BYTES_A_ROW)) for table, count in found for one in places],
    )


def _greatest(connection: sqlite3.Connection, table: Table) -> float | None:
    """None where there is no such table, or it has no rowid."""
    try:
        (found,) = connection.execute(f"SELECT max(rowid) FROM {quoted(table.name)}").fetchone()
    except sqlite3.OperationalError as exc:
        if "no such" in str(exc):
            return None
        raise
    return float(found or 0)
