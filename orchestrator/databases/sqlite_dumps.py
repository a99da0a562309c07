"""Backups of SQLite files, by SQLite's own online backup."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path

from orchestrator.databases import sqlite_errors
from orchestrator.databases.base import Place
from orchestrator.databases.refusals import backup_failed
from orchestrator.databases.threads import interruptible

# 16 MB at the usual size of pages: so much is copied before anybody is asked whether to go on.
_PAGES = 4096
_INSTRUCTIONS = 100_000
_PAUSE_SECONDS = 0.05  # while somebody writes


class SQLiteDumper:
    """`databases.dumps.Dumper`."""

    suffix = "db"
    is_there = True

    def __init__(self, place: Place, file: str) -> None:
        self._place, self._file = place, file

    @property
    def environment(self) -> Mapping[str, str]:
        return {}

    @asynccontextmanager
    async def ready(self) -> AsyncIterator[None]:
        yield

    async def dump(self, file: Path) -> None:
        await interruptible(partial(self._copy, file))

    def _copy(self, file: Path, gone: threading.Event) -> None:
        def look(*_: int) -> None:
            if gone.is_set():
                raise sqlite3.OperationalError("interrupted")

        with (
            _told("copy"),
            closing(sqlite3.connect(f"{Path(self._file).as_uri()}?mode=ro", uri=True, timeout=0)) as source,
            closing(sqlite3.connect(file)) as copy,
        ):
            copy.execute("PRAGMA synchronous = OFF")  # it is written through when it is whole
            copy.execute("PRAGMA journal_mode = OFF")
            source.backup(copy, pages=_PAGES, progress=look, sleep=_PAUSE_SECONDS)

    async def check(self, file: Path, *, provisioned: bool) -> None:
        said, tables = await interruptible(partial(self._read, file))
        if said != "ok":
            raise backup_failed(f"`PRAGMA integrity_check` says of it: {said}", "check the database itself in that way")
        table = self._place.target.version_table
        if provisioned and table.lower() not in tables:
            raise backup_failed(f"there is no version table {table!r} in it", "check `database` of the tenant")

    def _read(self, file: Path, gone: threading.Event) -> tuple[str, set[str]]:
        # Immutable: a copy of a database in WAL mode would have files made beside it.
        uri = f"{file.as_uri()}?mode=ro&immutable=1"
        with _told("read"), closing(sqlite3.connect(uri, uri=True)) as copy:
            copy.set_progress_handler(gone.is_set, _INSTRUCTIONS)
            said = str(copy.execute("PRAGMA integrity_check(1)").fetchone()[0])
            return said, {str(row[0]).lower() for row in copy.execute("SELECT name FROM sqlite_master")}


@contextmanager
def _told(verb: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as exc:
        raise backup_failed(
            f"SQLite cannot {verb} it: {exc}",
            "check space and rights where backups are kept",
            retriable=sqlite_errors.is_busy(exc),
        ) from exc
