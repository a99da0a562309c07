"""What somebody who meant no good found."""

from __future__ import annotations

import pytest
from alembic import command
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from orchestrator.errors import MigrationFailedError
from orchestrator.history import failures
from tests.integration.backfills.conftest import Make, Project

MULTIPLY = 'op.backfill("accounts", set_={"balance": "balance * 100"}, batch_size=7)'
AND_DONE = 'op.backfill("accounts", {"done": 1})'
DIE = 'if not os.path.exists("/nonexistent"): raise RuntimeError("killed")'


def requiring(project: Project, asks: str) -> None:
    """Three revisions, of which the last needs the second's backfill and loses a column."""
    project.numbers(30)
    project.add("first", None, "pass")
    project.add("filled", "first", MULTIPLY)
    project.add("last", "filled", f'{asks}\nop.drop_column("accounts", "done")')


async def stamp(project: Project, revision: str) -> None:
    await project.run(lambda config: command.stamp(config, revision))


@pytest.mark.parametrize("died_before", [DIE, f"{DIE}\n{AND_DONE}"], ids=["version", "second"])
async def test_a_revision_that_was_stamped_over_is_not_taken_for_backfilled(
    one_of_each: Project, died_before: str
) -> None:
    """Its first backfill is finished; whether that was all of them, only its end could tell."""
    requiring(one_of_each, 'op.requires_backfill("filled", or_stamped=True)')
    one_of_each.add("filled", "first", f"{MULTIPLY}\n{died_before}")
    with pytest.raises(RuntimeError):
        await one_of_each.upgrade()
    await stamp(one_of_each, "filled")
    with pytest.raises(CommandError, match="not finished in this database: it was stamped"):
        await one_of_each.upgrade()
    one_of_each.add("filled", "first", f"{MULTIPLY}\n{AND_DONE}")
    await stamp(one_of_each, "first")
    await one_of_each.upgrade()
    assert one_of_each.rows("SELECT sum(balance) - 100 * sum(id) FROM accounts") == [(0,)]


async def test_a_revision_whose_backfill_never_began_is_required(one_of_each: Project) -> None:
    requiring(one_of_each, 'op.requires_backfill("filled")')
    await stamp(one_of_each, "filled")
    with pytest.raises(CommandError, match=r"ever begun in this database.*Stamp.*or_stamped=True"):
        await one_of_each.upgrade()
    await stamp(one_of_each, "first")
    await one_of_each.upgrade()
    assert one_of_each.rows("SELECT sum(balance) - 100 * sum(id) FROM accounts") == [(0,)]


async def test_one_that_was_stamped_may_be_let_through(one_of_each: Project) -> None:
    requiring(one_of_each, 'op.requires_backfill("filled", or_stamped=True)')
    await stamp(one_of_each, "filled")
    await one_of_each.upgrade()
    assert one_of_each.rows("SELECT version_num FROM alembic_version") == [("last",)]


async def test_a_backfill_that_the_revision_no_longer_has_is_not_waited_for(one_of_each: Project) -> None:
    requiring(one_of_each, 'op.requires_backfill("filled")')
    one_of_each.add("filled", "first", f'{MULTIPLY}\nop.backfill_rows("accounts", ["id"], lambda rows: 1 // 0)')
    with pytest.raises(ZeroDivisionError):
        await one_of_each.upgrade()
    assert [row["state"] for row in one_of_each.checkpoints()] == ["finished", "running"]
    one_of_each.add("filled", "first", MULTIPLY)
    await one_of_each.upgrade()
    assert [row["ordinal"] for row in one_of_each.checkpoints()] == [1]


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("fliled", "there is no such one: did you mean filled"),
        ("fi", "there is no such one: did you mean (filled or first|first or filled)"),
        ("base", "there is no such one"),
        ("first", "revision first, which holds none"),
    ],
)
async def test_what_is_required_must_be_a_revision_with_a_backfill(postgres: Project, named: str, said: str) -> None:
    requiring(postgres, f'op.requires_backfill("{named}", or_stamped=True)')
    with pytest.raises(CommandError, match=said):
        await postgres.upgrade()


async def test_what_is_required_may_be_abbreviated(postgres: Project) -> None:
    requiring(postgres, 'op.requires_backfill("fill")')
    await stamp(postgres, "filled")
    with pytest.raises(CommandError, match="of revision filled: none of them has ever begun"):
        await postgres.upgrade()
    await stamp(postgres, "first")
    await postgres.upgrade()


@pytest.mark.parametrize("named", ["ours.backfill", "fill"])
async def test_the_typed_functions_do_what_the_operations_do(postgres: Project, named: str) -> None:
    postgres.numbers(30)
    imports = "from orchestrator import operations as ours\nfrom orchestrator.operations import backfill as fill\n"
    postgres.add("filled", None, f'{imports}assert {named}("accounts", {{"balance": "balance * 100"}}) == 30')
    await postgres.upgrade()
    assert [row["state"] for row in postgres.checkpoints()] == ["finished"]


SECRET = "anna@secret"
FAILING = {
    "key": 'op.backfill_rows("accounts", ["note"], lambda rows: [{"note": {}[row["note"]]} for row in rows])',
    "number": 'op.backfill_rows("accounts", ["note"], lambda rows: [{"done": int(row["note"])} for row in rows])',
    "driver": 'op.backfill_rows("accounts", ["note"], lambda rows: [{"balance": row["note"]} for row in rows])',
    "null": 'op.backfill("accounts", {"balance": "NULL"})',
    "unique": 'op.backfill("accounts", {"note": "(SELECT max(note) FROM (SELECT note FROM accounts) x)"})',
    "cast": 'op.backfill("accounts", {"balance": "CAST(note AS INTEGER)"})',
    "name": 'op.backfill_rows("accounts", ["note"], lambda rows: [{row["note"]: 1} for row in rows])',
}


@pytest.mark.parametrize("kind", FAILING)
async def test_a_failure_shows_none_of_the_rows(project: Project, kind: str) -> None:
    project.numbers(2)
    project.execute(
        f"UPDATE accounts SET note = '{SECRET} ''' WHERE id = 1", "CREATE UNIQUE INDEX ones ON accounts (note)"
    )
    project.add("filled", None, FAILING[kind])
    failure = None
    try:
        await project.upgrade()
    except Exception as exc:
        failure = failures.translate(exc, "filled", str(project.folder))
    if failure is None:
        assert project.dialect == "sqlite", "which stores anything anywhere"
        return
    assert isinstance(failure, MigrationFailedError)
    assert SECRET not in f"{failure} {failure.statement}"
    if kind in ("key", "number"):
        file = project.folder / "alembic" / "versions" / "filled.py"
        name = {"key": "KeyError", "number": "ValueError"}[kind]
        assert failure.message.startswith(f"revision filled: {name} [{file}:")
    if (kind, project.url.drivername) == ("null", "postgresql+psycopg"):  # asyncpg says no more than the first line
        assert 'null value in column "balance"' in failure.message
        assert "left out" in failure.message


# What somebody's own trigger says of a row.
RAISING = {
    "postgresql": [
        "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE EXCEPTION USING MESSAGE = 'not ' || OLD.note, ERRCODE = '{}'; END $$",
        "CREATE TRIGGER tells BEFORE UPDATE ON accounts FOR EACH ROW EXECUTE FUNCTION tell()",
    ],
    "mysql": [
        "CREATE TRIGGER tells BEFORE UPDATE ON accounts FOR EACH ROW BEGIN"
        " SET @said = CONCAT('not ', OLD.note); SIGNAL SQLSTATE '{}' SET MESSAGE_TEXT = @said; END"
    ],
    "sqlite": [f"CREATE TRIGGER tells BEFORE UPDATE ON accounts BEGIN SELECT RAISE(ABORT, 'not {SECRET}'); END"],
}


@pytest.mark.parametrize(
    ("driver", "state", "code"),
    [
        ("psycopg", "P0001", "P0001"),
        ("asyncpg", "P0001", "P0001"),
        ("psycopg", "23514", "23514"),
        ("asyncpg", "23514", "23514"),
        ("pymysql", "45000", "1644"),
        ("asyncmy", "45000", "1644"),
        ("pysqlite", "", None),
        ("aiosqlite", "", None),
    ],
)
async def test_what_a_trigger_says_of_a_row_is_not_told(
    make_project: Make, driver: str, state: str, code: str | None
) -> None:
    project = await make_project(driver)
    project.numbers(2)
    project.execute(f"UPDATE accounts SET note = '{SECRET}'")
    with project.connected() as connection, connection.begin():
        for sql in RAISING[project.dialect]:
            connection.exec_driver_sql(sql.replace("{}", state))
    project.add("filled", None, MULTIPLY)
    with pytest.raises(DBAPIError) as raised:
        await project.upgrade()
    failure = failures.translate(raised.value, "filled", str(project.folder))
    assert SECRET in str(raised.value)
    assert SECRET not in str(failure)
    assert failure.code == code
    assert "a trigger or a function has raised an error" in str(failure)


async def test_what_is_verified_shows_none_of_the_rows(postgres: Project) -> None:
    postgres.numbers(2)
    postgres.execute(f"UPDATE accounts SET note = '{SECRET}'")
    postgres.add("filled", None, 'op.verify("SELECT max(CAST(note AS int)) > 0 FROM accounts", "all have numbers")')
    with pytest.raises(DBAPIError) as raised:
        await postgres.upgrade()
    failure = failures.translate(raised.value, "filled", str(postgres.folder))
    assert SECRET in str(raised.value)
    assert 'invalid input syntax for type integer: "..."' in str(failure)


async def test_an_ordinary_revision_still_shows_its_own_mistake(postgres: Project) -> None:
    postgres.add("filled", None, "op.execute(\"SELECT 'twelve'::int\")")
    with pytest.raises(DBAPIError) as raised:
        await postgres.upgrade()
    assert '"twelve"' in failures.translate(raised.value, "filled", str(postgres.folder)).message


async def test_rows_that_came_since_an_earlier_run_was_not_verified(one_of_each: Project) -> None:
    one_of_each.numbers(20)
    fill = 'op.backfill("accounts", {"done": "COALESCE(done, 0) + 1"}, where="done IS NULL"'
    ask = 'op.verify("SELECT count(*) = 0 FROM accounts WHERE done IS NULL", "some are not done")'
    asked = f"{fill}, until_empty=True)\n{ask}"
    one_of_each.add("filled", None, f"{asked}\nop.verify(\"SELECT count(*) > 20 FROM accounts\", 'too few')")
    with pytest.raises(CommandError, match=r"too few .*another run does not do it again .*by SQL"):
        await one_of_each.upgrade()
    one_of_each.execute("INSERT INTO accounts (id, balance) VALUES (3, 3), (1000, 1000)")
    await one_of_each.upgrade()
    assert one_of_each.rows("SELECT done, count(*) FROM accounts GROUP BY 1") == [(1, 22)]
    [row] = one_of_each.checkpoints()
    assert (row["state"], row["rows_changed"]) == ("finished", 22)


async def test_what_sweeps_again_has_not_ended(postgres: Project) -> None:
    postgres.numbers(20)
    fill = 'op.backfill("accounts", {"done": "1"}, where="done IS NULL", until_empty=True)'
    postgres.add("filled", None, f"{fill}\nop.verify(\"SELECT count(*) > 20 FROM accounts\", 'too few')")
    with pytest.raises(CommandError, match="too few"):
        await postgres.upgrade()
    [row] = postgres.checkpoints()
    assert (row["state"], row["finished_at"] is None) == ("finished", False)
    postgres.execute("ALTER TABLE accounts ADD CHECK (id < 1000 OR done IS NULL)")
    postgres.execute("INSERT INTO accounts (id, balance) VALUES (1000, 1000)")
    with pytest.raises(DBAPIError):
        await postgres.upgrade()
    [row] = postgres.checkpoints()
    assert (row["state"], row["finished_at"]) == ("running", None)


async def test_a_question_without_a_backfill_has_no_more_to_say(postgres: Project) -> None:
    postgres.add("asked", None, 'op.verify("SELECT false", "no")')
    with pytest.raises(CommandError, match=r"answered with false\)$"):
        await postgres.upgrade()


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
@pytest.mark.parametrize("statistics", ["none", "old"])
async def test_rows_are_estimated_by_what_the_table_is_now(make_project: Make, driver: str, statistics: str) -> None:
    project = await make_project(driver)
    project.execute(
        'CREATE TABLE "a %things:x" (id int PRIMARY KEY, note text) WITH (autovacuum_enabled = off)'.replace(":", "\\:")
    )
    fill = "INSERT INTO \"a %things:x\" SELECT i, repeat('x', 40) FROM generate_series({}, {}) i".replace(":", "\\:")
    project.execute(fill.format(1, 500))
    if statistics == "old":
        with project.connected() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("VACUUM ANALYZE")
    project.execute(fill.format(501, 60_000))
    project.add("filled", None, 'op.backfill("a %things:x", {"note": "1 / (id - 30000)"})')
    with pytest.raises(DBAPIError):
        await project.upgrade()
    [row] = project.checkpoints()
    assert 40_000 < row["rows_estimated"] < 90_000
