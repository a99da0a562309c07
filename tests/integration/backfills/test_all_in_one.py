"""Small batches on PostgreSQL, which are one statement that changes rows, moves the checkpoint and asks ahead."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from orchestrator.history import pacing
from orchestrator.history.checkpoints import Checkpoint
from tests.integration.backfills.conftest import Project
from tests.integration.backfills.test_parameters import SAME_NAMES
from tests.integration.backfills.test_unasked import MULTIPLY, Lenient

Spy = list[tuple[int, Any] | None]


@pytest.fixture
def spied(monkeypatch: pytest.MonkeyPatch) -> Spy:
    """What each of these statements has answered; None: it could not be sent so."""
    return _acting(monkeypatch, lambda batch: None)


def _acting(monkeypatch: pytest.MonkeyPatch, act: Callable[[int], None]) -> Spy:
    """`act` is called before each of them."""
    answers: Spy = []
    send = Checkpoint.change_move_and_ask

    def sent(*args: Any, **values: Any) -> Any:
        act(len(answers) + 1)
        answers.append(send(*args, **values))
        return answers[-1]

    monkeypatch.setattr(Checkpoint, "change_move_and_ask", sent)
    return answers


async def _upgrade(project: Project) -> None:
    with pacing.applied(Lenient()):
        await project.upgrade()


async def test_they_count_what_they_change(postgres: Project, spied: Spy) -> None:
    """But for the first batch, which has another text, and the last, after which nothing is asked."""
    postgres.numbers(500)
    postgres.execute("UPDATE accounts SET done = 1 WHERE id % 3 = 1")
    postgres.add("filled", None, MULTIPLY.replace("batch", 'where="done IS NULL", batch'))
    await _upgrade(postgres)
    assert len(spied) == 70
    assert None not in spied
    [(left, changed)] = postgres.rows("SELECT sum((done = 1)::int), sum((done IS NULL)::int) FROM accounts")
    assert min(left, changed) > 100
    wrong = "SELECT count(*) FROM accounts WHERE balance <> CASE WHEN done = 1 THEN id ELSE id * 100 END"
    assert postgres.rows(wrong) == [(0,)]
    [checkpoint] = postgres.checkpoints()
    assert (checkpoint["rows_seen"], checkpoint["rows_changed"], checkpoint["sweep_changed"]) == (500, changed, changed)


async def test_other_drivers_and_databases_go_on_as_they_did(project: Project, spied: Spy) -> None:
    project.numbers(60)
    project.add("filled", None, MULTIPLY)
    await _upgrade(project)
    assert project.rows("SELECT count(*), sum(balance) - 100 * sum(id) FROM accounts") == [(60, 0)]
    assert bool(spied) == (project.url.get_driver_name() == "psycopg")


async def test_large_ones_do_not(postgres: Project, spied: Spy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.history.batches.ALL_IN_ONE_ROWS", 6)
    postgres.numbers(60)
    postgres.add("filled", None, MULTIPLY)
    await _upgrade(postgres)
    assert spied == []


@pytest.mark.parametrize("which", SAME_NAMES)
async def test_values_of_the_same_name(postgres: Project, spied: Spy, which: str) -> None:
    arguments, left = SAME_NAMES[which]
    postgres.numbers(60)
    postgres.add("filled", None, f'op.backfill("accounts", {arguments}, batch_size=7)')
    await _upgrade(postgres)
    wrong = f"SELECT count(*) FROM accounts WHERE ({left}) <> (note IS NULL) OR note <> 'new'"
    assert postgres.rows(wrong) == [(0,)]
    assert spied


async def test_whoever_takes_it_over_ends_them(postgres: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    postgres.numbers(70)
    postgres.add("filled", None, MULTIPLY)

    def act(batch: int) -> None:
        if batch == 4:
            postgres.execute("UPDATE alembic_version_backfills SET owner = 'another'")

    _acting(monkeypatch, act)
    with pytest.raises(CommandError, match="somebody else has taken the backfill of 'accounts' over"):
        await _upgrade(postgres)
    assert [one["rows_changed"] for one in postgres.checkpoints()] == [28]
    assert postgres.rows("SELECT count(*) FROM accounts WHERE balance = id * 100") == [(28,)]


async def test_whoever_takes_it_over_while_one_is_on_its_way(
    postgres: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for the row of the checkpoint, finds it another's, and takes back what it has changed."""
    postgres.numbers(70)
    postgres.add("filled", None, MULTIPLY)
    holds, waited = threading.Event(), threading.Event()

    def take_over() -> None:
        with postgres.connected() as other:
            other.execute(sa.text("UPDATE alembic_version_backfills SET owner = 'another'"))
            holds.set()
            while not postgres.rows("SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"):
                time.sleep(0.01)
            waited.set()
            other.commit()

    def act(batch: int) -> None:
        if batch == 4:
            threading.Thread(target=take_over).start()
            assert holds.wait(10)

    _acting(monkeypatch, act)
    with pytest.raises(CommandError, match="somebody else has taken the backfill of 'accounts' over"):
        await _upgrade(postgres)
    assert waited.is_set()
    assert [one["rows_changed"] for one in postgres.checkpoints()] == [28]
    assert postgres.rows("SELECT count(*) FROM accounts WHERE balance = id * 100") == [(28,)]


async def test_a_table_with_rules(postgres: Project, spied: Spy) -> None:
    """PostgreSQL has none of these in a statement with others: it refuses, and the batches go on as others do."""
    postgres.numbers(70)
    postgres.execute(
        "CREATE TABLE seen (id bigint)",
        "CREATE RULE also AS ON UPDATE TO accounts DO ALSO INSERT INTO seen VALUES (new.id)",
    )
    postgres.add("filled", None, MULTIPLY)
    await _upgrade(postgres)
    assert postgres.rows("SELECT count(*), sum(balance) - 100 * sum(id) FROM accounts") == [(70, 0)]
    assert postgres.rows("SELECT count(*), count(DISTINCT id) FROM seen") == [(70, 70)]
    assert spied == []


async def test_its_own_division_by_zero_is_told_as_that(postgres: Project) -> None:
    postgres.numbers(70)
    postgres.execute("UPDATE accounts SET done = id - 40")
    postgres.add("filled", None, MULTIPLY.replace("* 100", "* 100 / done"))
    with pytest.raises(DBAPIError, match="division by zero"):
        await _upgrade(postgres)
    assert [one["rows_changed"] for one in postgres.checkpoints()] == [28]


SETTING = """op.backfill("accounts", set_={{"note": "current_setting('{name}')"}}, batch_size=7)"""


async def test_the_isolation_that_env_py_asks_for_holds(postgres: Project, spied: Spy) -> None:
    env = postgres.folder / "alembic" / "env.py"
    env.write_text(env.read_text().replace("pool.NullPool", 'pool.NullPool, isolation_level="SERIALIZABLE"'))
    postgres.numbers(70)
    postgres.add("filled", None, SETTING.format(name="transaction_isolation"))
    await _upgrade(postgres)
    assert postgres.rows("SELECT DISTINCT note FROM accounts") == [("serializable",)]
    assert spied == []


HEARD = "SET LOCAL application_name = 'heard'"
LISTENERS = {
    "begin": f'lambda connection: connection.exec_driver_sql("{HEARD}")',
    "before_cursor_execute": f'lambda connection, cursor, *_: cursor.execute("{HEARD}")',
}


@pytest.mark.parametrize("told_of", LISTENERS)
async def test_who_listens_to_sqlalchemy_hears_of_each_batch(postgres: Project, spied: Spy, told_of: str) -> None:
    """And may set for its transaction what it needs."""
    env = postgres.folder / "alembic" / "env.py"
    connects = "    with connectable.connect() as connection:"
    listens = f"    __import__('sqlalchemy').event.listen(connectable, '{told_of}', {LISTENERS[told_of]})\n"
    env.write_text(env.read_text().replace(connects, listens + connects))
    postgres.numbers(70)
    postgres.add("filled", None, SETTING.format(name="application_name"))
    await _upgrade(postgres)
    assert postgres.rows("SELECT DISTINCT note FROM accounts") == [("heard",)]
    assert spied == []
