"""Others work on the table while a backfill runs: sessions that write, a second runner, a lock that is held."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import anyio.to_thread
import pytest
import sqlalchemy as sa
from alembic.util import CommandError

from tests.engine import until
from tests.integration.backfills.conftest import ROOT, Make, Project


@contextmanager
def at_work(project: Project, work: Callable[[sa.Connection, threading.Event], None]) -> Iterator[None]:
    """`work` runs in a thread with a connection of its own until this ends."""
    ended = threading.Event()

    def run() -> None:
        with project.connected() as connection:
            work(connection, ended)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


async def test_rows_that_others_insert_update_and_delete(one_of_each: Project) -> None:
    """Each row that should be changed is, and none twice: `balance` is the count of changes, `done` says whose."""
    project = one_of_each
    project.numbers(4000)
    project.execute("UPDATE accounts SET balance = 0")
    body = """
    op.backfill("accounts", {"balance": "balance + 1", "done": 1}, "done IS NULL", batch_size=20, until_empty=True)
    """
    project.add("filled", None, body)
    chance = random.Random(7)
    inserted = [0]

    def write(connection: sa.Connection, ended: threading.Event) -> None:
        while not ended.is_set():
            time.sleep(0.002)  # SQLite lets nobody in whom another keeps from coming in
            number = chance.randrange(1, 5400)
            # Before where the backfill is by now, and after where it was to end; until there are enough.
            new = [-number, number + 6000 + inserted[0]] if inserted[0] < 200 else []
            try:
                with connection.begin():
                    for key in new:
                        taken = connection.execute(sa.text(f"SELECT 1 FROM accounts WHERE id = {key}")).first()
                        if taken is None:
                            connection.execute(sa.text(f"INSERT INTO accounts (id, balance) VALUES ({key}, 0)"))
                            inserted[0] += 1
                    connection.execute(sa.text(f"UPDATE accounts SET note = 'seen' WHERE id = {number}"))
                    connection.execute(sa.text(f"DELETE FROM accounts WHERE id = {chance.randrange(1, 5400)}"))
            except sa.exc.DBAPIError:  # a deadlock's victim, or SQLite is busy
                continue

    with at_work(project, write):
        await until(lambda: inserted[0] >= 20)
        await project.upgrade()
    # What came after the last sweep is not the backfill's.
    left = project.rows("SELECT count(*) FROM accounts WHERE done IS NULL AND balance <> 0")
    assert left == [(0,)]
    assert project.rows("SELECT count(*) FROM accounts WHERE done = 1 AND balance <> 1") == [(0,)]
    assert project.rows("SELECT count(*) FROM accounts WHERE done = 1")[0][0] > 2000
    assert project.checkpoints()[0]["sweep"] >= 1


def at_it(project: Project) -> list[tuple[Any, ...]]:
    """Who runs a backfill, as PostgreSQL tells."""
    return project.rows(
        "SELECT pid FROM pg_locks JOIN pg_database d ON d.oid = database AND d.datname = current_database()"
        " WHERE locktype = 'advisory' AND granted"
    )


async def test_a_row_that_was_being_inserted_when_it_began(postgres: Project) -> None:
    """Its key is below the greatest one, and nobody sees it before its transaction is committed."""
    postgres.numbers(100)
    postgres.execute("DELETE FROM accounts WHERE id = 50")
    postgres.add("filled", None, 'op.backfill("accounts", {"balance": "balance * 100"})')
    with postgres.connected() as other:
        other.begin()
        other.execute(sa.text("INSERT INTO accounts (id, balance) VALUES (50, 50)"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(postgres.upgrade)
            await until(lambda: bool(at_it(postgres)))
            await anyio.sleep(0.3)  # time enough for all of its batches, if it does not wait
            assert _checkpoints(postgres) == []
            other.commit()
    assert postgres.rows("SELECT count(*), sum(balance) - 100 * sum(id) FROM accounts") == [(100, 0)]


async def test_a_run_that_ends_while_it_waits_for_a_row_that_is_being_inserted(postgres: Project) -> None:
    """The next run waits for the same transaction: what it has written is among the rows that were there."""
    postgres.numbers(100)
    postgres.execute("DELETE FROM accounts WHERE id = 50")
    postgres.add("filled", None, 'op.backfill("accounts", {"balance": "balance * 100"})')
    terminate = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
    with postgres.connected() as other:
        other.begin()
        other.execute(sa.text("INSERT INTO accounts (id, balance) VALUES (50, 50)"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_fail, postgres)
            await until(lambda: bool(at_it(postgres)))
            assert postgres.rows(terminate) == [(True,)]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(postgres.upgrade)
            await until(lambda: bool(at_it(postgres)))
            await anyio.sleep(0.3)  # time enough for all of its batches, if it does not wait
            other.commit()
    assert postgres.rows("SELECT count(*), sum(balance) - 100 * sum(id) FROM accounts") == [(100, 0)]


@pytest.mark.parametrize("driver", ["pymysql", "asyncmy"])
async def test_a_copy_waits_for_rows_that_are_being_inserted_whatever_the_isolation(
    driver: str, make_project: Make
) -> None:
    """Below REPEATABLE READ, MySQL's `INSERT ... SELECT` would leave them out."""
    project = await make_project(driver)
    project.numbers(100)
    project.execute("DELETE FROM accounts WHERE id = 50", "CREATE TABLE copies (id BIGINT PRIMARY KEY, level TEXT)")
    change_engine(project, 'isolation_level="READ COMMITTED"')
    copy = "INSERT INTO copies (id) SELECT id FROM accounts WHERE id > :after AND id <= :upto"
    project.add("filled", None, f'op.backfill_sql("{copy}", "accounts")')
    project.add("after", "filled", 'op.execute("UPDATE copies SET level = @@tx_isolation")')
    with project.connected() as other:
        other.begin()
        other.execute(sa.text("INSERT INTO accounts (id, balance) VALUES (50, 50)"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(project.upgrade)
            await until(lambda: bool(_checkpoints(project)))
            await anyio.sleep(0.3)  # time enough for all of its batches, if it does not wait
            other.commit()
    assert project.rows("SELECT count(*), min(level) FROM copies") == [(100, "READ-COMMITTED")]


async def test_a_row_that_was_changed_since_the_batch_began_on_mariadb(make_project: Make) -> None:
    """From 11.6.2 on it refuses that by default: `innodb_snapshot_isolation`."""
    project = await make_project("pymysql")
    project.numbers(100)
    change_engine(project, 'connect_args={"init_command": "SET SESSION innodb_snapshot_isolation = ON"}')
    project.add("filled", None, 'op.backfill("accounts", {"balance": "balance * 100"})')
    changed: list[str] = []

    @sa.event.listens_for(sa.Engine, "before_cursor_execute")
    def change(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("UPDATE accounts SET balance") and not changed:
            changed.append(statement)
            project.execute("UPDATE accounts SET note = 'seen' WHERE id = 50")

    try:
        await project.upgrade()
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", change)
    assert changed
    found = project.rows("SELECT count(*), sum(balance) - 100 * sum(id), count(note) FROM accounts")
    assert found == [(100, 0, 1)]


def change_engine(project: Project, argument: str) -> None:
    """Give env.py's engine another argument."""
    env = project.folder / "alembic" / "env.py"
    text = env.read_text()
    assert "poolclass=pool.NullPool" in text
    env.write_text(text.replace("poolclass=pool.NullPool", f"poolclass=pool.NullPool, {argument}"))


async def _fail(project: Project) -> None:
    with pytest.raises(sa.exc.DBAPIError):
        await project.upgrade()


def _checkpoints(project: Project) -> list[dict[str, Any]]:
    with project.connected() as connection:
        begun = sa.inspect(connection).has_table("alembic_version_backfills")
    return project.checkpoints() if begun else []


def upgrade_elsewhere(project: Project) -> None:
    """In a process of its own, as a colleague does. Raises CommandError with what Alembic says when it fails."""
    settings = {"TEST_URL": project.url.render_as_string(hide_password=False)}
    ran = subprocess.run(
        [sys.executable, "-m", "tests.integration.backfills.kills", str(project.config), "1", "0"],
        cwd=ROOT,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    if '"exit": 0' not in ran.stdout:
        raise CommandError(ran.stderr)


@pytest.mark.parametrize("driver", ["psycopg", "pymysql"])
async def test_a_second_runner_cannot_join_in(driver: str, make_project: Make) -> None:
    project = await make_project(driver)
    project.numbers(200)
    flag = project.folder / "go on"
    body = f"""
    def transform(rows):
        if rows[0]["id"] > 50:
            while not os.path.exists({str(flag)!r}):
                time.sleep(0.01)
        return [dict(balance=row["balance"] * 100) for row in rows]
    op.backfill_rows("accounts", ["balance"], transform, batch_size=5)
    """
    project.add("filled", None, body)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(project.upgrade)
        await until(lambda: any(row["rows_changed"] for row in _checkpoints(project)))
        with pytest.raises(CommandError, match="another session is at the backfill"):
            await anyio.to_thread.run_sync(upgrade_elsewhere, project)
        flag.touch()
    assert project.rows("SELECT count(*), sum(balance) - 100 * sum(id) FROM accounts") == [(200, 0)]


async def test_on_sqlite_a_run_whose_process_is_there_keeps_others_out(make_project: Make) -> None:
    """No lock of the server's tells there: the checkpoint names the process."""
    project = await make_project("pysqlite")
    project.numbers(30)
    body = """
    def transform(rows):
        if rows[0]["id"] > 20 and not os.path.exists({flag!r}):
            raise RuntimeError("not yet")
        return [dict(balance=row["balance"] * 100) for row in rows]
    op.backfill_rows("accounts", ["balance"], transform, batch_size=5)
    """
    flag = project.folder / "flag"
    project.add("filled", None, body.replace("{flag!r}", repr(str(flag))))
    with pytest.raises(RuntimeError, match="not yet"):
        await project.upgrade()
    flag.touch()
    host = project.checkpoints()[0]["owner"].split(":")[0]
    async with await anyio.open_process(["sleep", "600"]) as other:
        project.execute(f"UPDATE alembic_version_backfills SET owner = '{host}:{other.pid}:0123456789ab'")
        with pytest.raises(CommandError, match="another session is at the backfill"):
            await project.upgrade()
        other.kill()
    await project.upgrade()
    assert project.rows("SELECT count(*), sum(balance) - 100 * sum(id) FROM accounts") == [(30, 0)]


@pytest.mark.parametrize("driver", ["psycopg", "pymysql"])
async def test_a_row_that_is_locked_makes_batches_smaller_and_costs_nothing_else(
    driver: str, make_project: Make
) -> None:
    project = await make_project(driver)
    project.numbers(300)
    project.add("filled", None, 'op.backfill("accounts", {"balance": "balance * 100"}, batch_size=100)')
    with project.connected() as other:
        other.begin()
        other.execute(sa.text("SELECT 1 FROM accounts WHERE id = 150 FOR UPDATE"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(project.upgrade)
            await until(lambda: any(row["rows_seen"] >= 100 for row in _checkpoints(project)))
            await anyio.sleep(2.5)  # longer than a batch waits for a lock
            other.commit()
    assert project.rows("SELECT count(*), sum(balance) - 100 * sum(id) FROM accounts") == [(300, 0)]


async def test_rows_that_stay_locked_are_told_by_the_keys_between_which_they_are(postgres: Project) -> None:
    postgres.numbers(900)
    postgres.execute(f"ALTER DATABASE {postgres.url.database} SET lock_timeout = '50ms'")
    postgres.add("filled", None, 'op.backfill("accounts", {"balance": "balance * 100"}, batch_size=40)')
    with postgres.connected() as other:
        other.execute(sa.text("SELECT 1 FROM accounts WHERE id = 601 FOR UPDATE"))
        with pytest.raises(CommandError, match=r"The rows after (\d+) up to (\d+) are the ones") as raised:
            await postgres.upgrade()
    found = re.search(r"after (\d+) up to (\d+)", str(raised.value))
    assert found is not None
    after, upto = map(int, found.groups())
    assert after < 601 <= upto < after + 20


async def test_an_env_py_with_a_transaction_of_its_own(postgres: Project) -> None:
    postgres.numbers(3)
    postgres.add("filled", None, 'op.backfill("accounts", {"balance": "balance * 100"})')
    env = postgres.folder / "alembic" / "env.py"
    env.write_text(env.read_text().replace("connectable.connect() as", "connectable.begin() as"))
    with pytest.raises(CommandError, match="transaction of its own"):
        await postgres.upgrade()
    assert postgres.rows("SELECT sum(balance) - sum(id) FROM accounts") == [(0,)]


async def test_one_transaction_for_all_revisions(postgres: Project) -> None:
    """A backfill commits what came before it. When a later revision fails, it is finished although the version table
    does not show it: it is not begun again."""
    postgres.numbers(10)
    postgres.add("before", None, 'op.add_column("accounts", sa.Column("more", sa.Integer, server_default="0"))')
    postgres.add("filled", "before", 'op.backfill("accounts", {"more": "more + id"})')
    postgres.add("after", "filled", 'op.drop_column("accounts", "done")\nraise RuntimeError("no")')
    with pytest.raises(RuntimeError, match="no"):
        await postgres.upgrade()
    assert postgres.rows("SELECT version_num FROM alembic_version") == [("before",)]
    assert postgres.rows("SELECT count(*) FROM accounts WHERE more = id") == [(10,)]
    postgres.add("after", "filled", 'op.requires_backfill("filled")\nop.drop_column("accounts", "done")')
    await postgres.upgrade()
    assert postgres.rows("SELECT version_num FROM alembic_version") == [("after",)]
    assert postgres.rows("SELECT count(*) FROM accounts WHERE more = id") == [(10,)]
