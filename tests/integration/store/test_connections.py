"""One unit of work on SQLite: in a thread, but never longer than it may, and never beyond the caller's end."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest
from sqlalchemy import Connection, text

from orchestrator.errors import StoreError
from orchestrator.store.connections import Connections
from orchestrator.store.place import locate

FOR_EVER = text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n")


@pytest.fixture
def connections(tmp_path: Path) -> Connections:
    return Connections(locate(f"sqlite:///{tmp_path}/control.db"))


def _endless(connection: Connection) -> None:
    connection.execute(FOR_EVER).scalar()


@contextmanager
def _held(path: Path) -> Iterator[None]:
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("PRAGMA journal_mode = WAL")
    holder.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        holder.close()


async def test_a_read_that_takes_too_long_is_interrupted(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.store.connections.STATEMENT_SECONDS", 0.2)
    with anyio.fail_after(60), pytest.raises(StoreError):
        await connections.read(_endless)
    assert await connections.read(lambda connection: connection.execute(text("SELECT 7")).scalar()) == 7
    await connections.dispose()


async def test_a_write_that_is_cancelled_has_ended_when_its_caller_goes_on(connections: Connections) -> None:
    def write(connection: Connection) -> None:
        connection.execute(text("CREATE TABLE t (a)"))
        connection.execute(FOR_EVER).scalar()

    with anyio.fail_after(60):
        with anyio.move_on_after(0.2):
            await connections.write(write)
        tables = text("SELECT count(*) FROM sqlite_master")
        assert await connections.write(lambda connection: connection.execute(tables).scalar()) == 0
    await connections.dispose()


async def test_a_wait_for_the_file_is_cancelled_at_once(connections: Connections, tmp_path: Path) -> None:
    with _held(tmp_path / "control.db"):
        began = anyio.current_time()
        with anyio.move_on_after(0.1):
            await connections.write(lambda connection: None)
        assert anyio.current_time() - began < 5, "SQLite's own wait is ten seconds"
    await connections.dispose()


async def test_a_wait_for_the_file_ends_when_it_is_let_go(connections: Connections, tmp_path: Path) -> None:
    done = anyio.Event()

    async def write() -> None:
        await connections.write(lambda connection: connection.execute(text("CREATE TABLE t (a)")))
        done.set()

    async with anyio.create_task_group() as tasks:
        with _held(tmp_path / "control.db"):
            tasks.start_soon(write)
            await anyio.sleep(0.6)
            assert not done.is_set()
        with anyio.fail_after(60):
            await done.wait()
    await connections.dispose()


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_file_that_was_deleted_takes_no_more_changes(
    connections: Connections, tmp_path: Path, replaced: bool
) -> None:
    await connections.write(lambda connection: connection.execute(text("CREATE TABLE t (a)")))
    file = tmp_path / "control.db"
    file.unlink()
    if replaced:
        file.touch()
    with pytest.raises(StoreError, match="has lost its file"):
        await connections.write(lambda connection: connection.execute(text("INSERT INTO t VALUES (1)")))
    await connections.dispose()


async def test_readers_do_not_wait_for_a_writer(connections: Connections) -> None:
    await connections.write(lambda connection: connection.execute(text("CREATE TABLE t (a)")))
    written = anyio.Event()

    def write(connection: Connection) -> None:
        connection.execute(text("INSERT INTO t VALUES (1)"))
        anyio.from_thread.run_sync(written.set)
        anyio.from_thread.run(read.wait)

    read = anyio.Event()
    count = text("SELECT count(*) FROM t")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(connections.write, write)
        with anyio.fail_after(60):
            await written.wait()
            assert await connections.read(lambda connection: connection.execute(count).scalar()) == 0
        read.set()
    assert await connections.read(lambda connection: connection.execute(count).scalar()) == 1
    await connections.dispose()
