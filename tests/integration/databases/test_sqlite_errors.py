"""SQLite's errors are told by their codes: a table may be called `locked_accounts`, a column `interrupted`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from orchestrator.databases import sqlite_dumps, sqlite_errors
from orchestrator.databases.base import Limits, Place
from orchestrator.databases.sqlite import SQLite, SQLiteGuard
from orchestrator.errors import MigrationFailedError, TargetError, TargetLockedError, TargetUnreachableError
from orchestrator.registry.model import Target

ENDLESS = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    with closing(sqlite3.connect(tmp_path / "acme.db")) as connection:
        connection.execute("CREATE TABLE t (email TEXT)")
        connection.execute("INSERT INTO t VALUES ('ann@example.org')")
        connection.commit()
    return tmp_path / "acme.db"


def _place(file: Path, version_table: str = "alembic_version") -> Place:
    target = Target("acme", "app", "s", file.name, version_table=version_table)
    return Place(target, make_url(f"sqlite:///{file}"), Limits(lock_timeout=0.05))


@pytest.fixture
def guard(file: Path) -> SQLiteGuard:
    return SQLiteGuard(_place(file), str(file))


@pytest.fixture
def locked(file: Path) -> Iterator[None]:
    with closing(sqlite3.connect(file)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        yield


@pytest.mark.parametrize("table", ["locked_accounts", "interrupted", "busy"])
async def test_a_table_that_is_not_there_is_none_whatever_its_name(table: str, guard: SQLiteGuard, file: Path) -> None:
    assert await guard.count(table, 5) is None
    assert await SQLite().read_heads(_place(file, table)) is None


@pytest.mark.parametrize("column", ["locked", "interrupted", "no such table"])
async def test_a_column_that_is_not_there_is_told_whatever_its_name(column: str, guard: SQLiteGuard) -> None:
    with pytest.raises(MigrationFailedError) as told:
        await guard.ask(f'SELECT t."{column}" FROM t', 5)
    assert (told.value.message, told.value.code) == (f"it cannot be asked: no such column: t.{column}", None)


@pytest.mark.usefixtures("locked")
async def test_what_is_really_locked_may_be_tried_again(guard: SQLiteGuard, file: Path) -> None:
    for asking in (guard.ask("SELECT * FROM t", 5), guard.count("t", 5)):
        with pytest.raises(TargetLockedError) as told:
            await asking
        assert told.value.retriable
    with pytest.raises(TargetUnreachableError) as unusable:
        await guard.heads()
    assert (unusable.value.kind, unusable.value.retriable) == ("busy", True)


async def test_what_really_takes_too_long_is_ended(guard: SQLiteGuard) -> None:
    with pytest.raises(MigrationFailedError) as told:
        await guard.ask(ENDLESS, 0.1)
    assert told.value.message == "it took longer than 0.1 s"


async def test_a_file_that_is_no_database_is_not_busy(tmp_path: Path) -> None:
    file = tmp_path / "locked.db"
    file.write_bytes(b"busy and locked" * 100)
    with pytest.raises(TargetUnreachableError) as told:
        await SQLite().read_heads(_place(file))
    assert (told.value.kind, told.value.retriable) == ("unusable", False)


@pytest.mark.usefixtures("locked")
def test_a_backup_is_tried_again_only_where_the_file_is_locked(file: Path) -> None:
    def failed(statement: str) -> TargetError:
        with (
            closing(sqlite3.connect(file, timeout=0)) as connection,
            pytest.raises(TargetError) as told,
            sqlite_dumps._told("read"),
        ):
            connection.execute(statement)
        return told.value

    assert failed("SELECT * FROM t").retriable
    assert not failed("ATTACH 'file:locked_and_busy.db?mode=wrong' AS x").retriable


def test_the_low_byte_tells() -> None:
    exc = sqlite3.OperationalError("database is locked")
    assert not sqlite_errors.is_busy(exc), "the driver's own errors have no code"
    exc.sqlite_errorcode = sqlite3.SQLITE_BUSY_SNAPSHOT
    assert sqlite_errors.is_busy(exc)
    exc.sqlite_errorcode = sqlite3.SQLITE_IOERR_LOCK
    assert not sqlite_errors.is_busy(exc)
    assert not sqlite_errors.is_busy(OSError("locked"))
