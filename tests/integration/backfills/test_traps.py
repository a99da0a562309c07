"""What looks like a backfill that goes well, and would change rows twice or leave some out."""

from __future__ import annotations

import anyio
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.util import CommandError

from tests.engine import until
from tests.integration.backfills.conftest import Make, Project
from tests.integration.backfills.test_meanwhile import at_it

ONCE = "SELECT min(balance / id), max(balance / id), count(*) FROM accounts"


@pytest.mark.parametrize(
    "arguments",
    [
        '{"balance": "balance * 100"}, where=sa.text("id > 0 OR id < 0")',
        '{"balance": "balance * 100"}, where=sa.literal_column("id > 0 OR id < 0")',
        '{"balance": "balance * 100 -- as cents"}',
        '{"balance": "balance * 100"}, where="id > 0 -- all of them"',
        '{"balance": sa.literal_column("balance * 100")}',
    ],
)
async def test_sql_keeps_to_the_batch_whatever_stands_in_it(one_of_each: Project, arguments: str) -> None:
    one_of_each.numbers(60)
    one_of_each.add("filled", None, f'op.backfill("accounts", {arguments}, batch_size=7)')
    await one_of_each.upgrade()
    assert one_of_each.rows(ONCE) == [(100, 100, 60)]


async def test_rows_with_a_condition_in_two_parts(one_of_each: Project) -> None:
    one_of_each.numbers(60)
    body = """
    op.backfill_rows("accounts", ["balance"], lambda rows: [{"balance": r["balance"] * 100} for r in rows],
        where=sa.text("id > 0 OR id < 0"), batch_size=7)
    """
    one_of_each.add("filled", None, body)
    await one_of_each.upgrade()
    assert one_of_each.rows(ONCE) == [(100, 100, 60)]


async def test_an_engine_that_commits_each_statement(project: Project) -> None:
    """A batch and its checkpoint are one transaction all the same."""
    project.numbers(60)
    env = project.folder / "alembic" / "env.py"
    env.write_text(env.read_text().replace("pool.NullPool", 'pool.NullPool, isolation_level="AUTOCOMMIT"'))
    body = """
    def fail(conn, cursor, statement, parameters, context, executemany):
        if statement.startswith("UPDATE") and "alembic_version_backfills" in statement and parameters:
            seen.append(statement)
            if len(seen) == 3:
                raise RuntimeError("killed here")
    seen = []
    if not os.path.exists({flag!r}):
        open({flag!r}, "w").close()
        sa.event.listen(sa.engine.Engine, "before_cursor_execute", fail)
    try:
        op.backfill("accounts", {{"balance": "balance * 100"}}, batch_size=7)
    finally:
        if seen:
            sa.event.remove(sa.engine.Engine, "before_cursor_execute", fail)
    """
    project.add("filled", None, body.format(flag=str(project.folder / "flag")))
    with pytest.raises(RuntimeError, match="killed here"):
        await project.upgrade()
    await project.upgrade()
    assert project.rows(ONCE) == [(100, 100, 60)]


@pytest.mark.parametrize(
    "arrange",
    [
        ("until_empty", 'op.backfill("accounts", {"done": 1}, where="done IS NULL", until_empty=True)', ()),
        ("empty", 'op.backfill("accounts", {"done": 1})', ("DELETE FROM accounts",)),
        (
            "heirs",
            'op.backfill("accounts", {"done": 1})',
            ("CREATE TABLE child (PRIMARY KEY (id)) INHERITS (accounts)", "INSERT INTO child SELECT 1000, 1000"),
        ),
    ],
    ids=lambda arrange: arrange[0],
)
async def test_writers_are_waited_for_wherever_they_write(
    postgres: Project, arrange: tuple[str, str, tuple[str, ...]]
) -> None:
    name, body, before = arrange
    postgres.numbers(60)
    postgres.execute(*before)
    postgres.add("filled", None, body)
    with postgres.connected() as other:
        other.begin()
        other.execute(sa.text(f"INSERT INTO {'child' if name == 'heirs' else 'accounts'} VALUES (11, 11)"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(postgres.upgrade)
            await until(lambda: bool(at_it(postgres)))
            await anyio.sleep(0.3)  # time enough for all of its batches, if it does not wait
            other.commit()
    assert postgres.rows("SELECT count(*) FROM accounts WHERE done IS NULL") == [(0,)]


async def test_sqlite_goes_by_what_it_stores(make_project: Make) -> None:
    """A moment may be written in several ways there; SQLAlchemy would write it in one."""
    project = await make_project("pysqlite")
    project.execute(
        "CREATE TABLE readings (sensor UUID, k DATETIME NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (sensor, k))",
        *(f"INSERT INTO readings VALUES ('a', '2026-01-01T0{hour}:00:00', 0)" for hour in range(9)),
        *(f"INSERT INTO readings VALUES ('a', '2026-01-01 0{hour}:00:00', 0)" for hour in range(9)),
    )
    project.add("filled", None, 'op.backfill("readings", {"n": "n + 1"}, batch_size=2)')
    await project.upgrade()
    assert project.rows("SELECT min(n), max(n), count(*) FROM readings") == [(1, 1, 18)]


MYSQL = {
    "ENUM": "kind ENUM('small', 'medium', 'large') NOT NULL, id INT NOT NULL, PRIMARY KEY (kind, id)",
    "time zone": "kind TIMESTAMP NOT NULL, id INT NOT NULL, PRIMARY KEY (id, kind)",
    "by itself": "kind DATETIME NOT NULL ON UPDATE CURRENT_TIMESTAMP, id INT NOT NULL, PRIMARY KEY (kind, id)",
}


@pytest.mark.parametrize("said", MYSQL)
async def test_keys_that_mysql_does_not_keep_in_order(make_project: Make, said: str) -> None:
    project = await make_project("pymysql")
    project.execute(f"CREATE TABLE things ({MYSQL[said]}, n INT NOT NULL DEFAULT 0)")
    project.add("filled", None, 'op.backfill("things", {"n": "n + 1"})')
    with pytest.raises(CommandError, match=said):
        await project.upgrade()


async def test_a_key_that_is_generated(postgres: Project) -> None:
    postgres.execute(
        "CREATE TABLE things (id INT NOT NULL, n INT NOT NULL, k INT GENERATED ALWAYS AS (n) STORED,"
        " PRIMARY KEY (k, id))"
    )
    postgres.add("filled", None, 'op.backfill("things", {"n": "n + 1"})')
    with pytest.raises(CommandError, match="k is generated"):
        await postgres.upgrade()


async def test_an_index_that_is_not_whole_is_no_key(postgres: Project) -> None:
    postgres.numbers(3)
    postgres.execute("UPDATE accounts SET note = id", "ALTER TABLE accounts ALTER note SET NOT NULL")
    postgres.execute("CREATE UNIQUE INDEX by_note ON accounts (note)")
    postgres.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'by_note'::regclass")
    postgres.add("filled", None, 'op.backfill("accounts", {"done": 1}, key="note")')
    with pytest.raises(CommandError, match="not unique"):
        await postgres.upgrade()


OTHERWISE = {
    "postgresql": [
        "CREATE COLLATION alike (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
        "CREATE TABLE things (k text COLLATE alike NOT NULL, n int NOT NULL, m int)",
        'CREATE UNIQUE INDEX by_k ON things (k COLLATE "C")',
    ],
    "sqlite": [
        "CREATE TABLE things (k text COLLATE NOCASE NOT NULL, n int NOT NULL, m int)",
        "CREATE UNIQUE INDEX by_k ON things (k COLLATE BINARY)",
    ],
}


@pytest.mark.parametrize("driver", ["psycopg", "pysqlite"])
async def test_an_index_that_tells_apart_what_the_column_takes_for_the_same(make_project: Make, driver: str) -> None:
    project = await make_project(driver)
    project.execute(
        *OTHERWISE[project.dialect], "INSERT INTO things (k, n) VALUES ('a', 1), ('A', 2), ('b', 3), ('B', 4)"
    )
    rows = 'lambda rows: [{"m": r["n"] * 10} for r in rows]'
    project.add("filled", None, f'op.backfill_rows("things", ["n"], {rows}, key="k", batch_size=3)')
    with pytest.raises(CommandError, match=r"not unique: k.* collations"):
        await project.upgrade()
    assert project.rows("SELECT count(m) FROM things") == [(0,)]
    project.execute("DELETE FROM things WHERE n % 2 = 0", "DROP INDEX by_k", "CREATE UNIQUE INDEX by_k ON things (k)")
    await project.upgrade()
    assert project.rows("SELECT count(*), sum(m - n * 10) FROM things") == [(2, 0)]


async def test_indexes_of_sqlite_by_which_rows_can_be_gone_through(make_project: Make) -> None:
    project = await make_project("aiosqlite")
    project.execute(
        "CREATE TABLE alike (k text COLLATE NOCASE, n int NOT NULL, PRIMARY KEY (k COLLATE BINARY))",
        'CREATE TABLE "odd ""100%""" (a int NOT NULL, b int NOT NULL, c int NOT NULL, n int NOT NULL)',
        'CREATE UNIQUE INDEX "by ""ab""" ON "odd ""100%""" (a, b DESC)',
        'CREATE UNIQUE INDEX some ON "odd ""100%""" (c) WHERE n > 9',
        'INSERT INTO "odd ""100%""" VALUES (1, 1, 1, 0), (1, 2, 1, 0), (2, 1, 1, 0)',
    )
    odd = "op.backfill('odd \"100%\"', {{'n': 'n + 1'}}, key={}, batch_size=1)"
    project.add("filled", None, odd.format(["a", "b"]))
    await project.upgrade()
    assert project.rows('SELECT min(n), max(n) FROM "odd ""100%"""') == [(1, 1)]
    for number, (body, said) in enumerate(
        [
            (odd.format(["c"]), "is not unique: c"),
            ("op.backfill('alike', {'n': 1})", "k has another collation in the primary key"),
        ]
    ):
        project.add(f"refused{number}", "filled", body)
        with pytest.raises(CommandError, match=said):
            await project.upgrade(f"refused{number}")


async def test_a_copy_into_a_table_without_transactions(make_project: Make) -> None:
    project = await make_project("pymysql")
    project.numbers(10)
    project.execute("CREATE TABLE copies (id BIGINT) ENGINE=MyISAM")
    copy = "INSERT INTO copies SELECT id FROM accounts WHERE id > :after AND id <= :upto"
    project.add("filled", None, f'op.backfill_sql("{copy}", "accounts")')
    with pytest.raises(CommandError, match="'copies' is kept without transactions"):
        await project.upgrade()


async def test_tables_that_are_another_servers(postgres: Project) -> None:
    postgres.numbers(10)
    postgres.execute(
        "CREATE FOREIGN DATA WRAPPER away",
        "CREATE SERVER elsewhere FOREIGN DATA WRAPPER away",
        'CREATE FOREIGN TABLE "Copies" (id bigint) SERVER elsewhere',
        "CREATE TABLE parents (LIKE accounts INCLUDING ALL)",
        "CREATE FOREIGN TABLE heirs () INHERITS (parents) SERVER elsewhere",
        "CREATE SCHEMA aside",
        "CREATE FOREIGN TABLE aside.accounts (id bigint) SERVER elsewhere",
    )
    copy = 'INSERT INTO "Copies" SELECT id FROM accounts WHERE id > :after AND id <= :upto'
    aside = copy.replace('"Copies"', "aside.accounts")
    for body, table in (
        (f"op.backfill_sql({copy!r}, 'accounts')", "Copies"),
        (f"op.backfill_sql({aside!r}, 'accounts')", "accounts"),
        ('op.backfill("parents", {"done": 1})', "heirs"),
    ):
        postgres.add("filled", None, body)
        with pytest.raises(CommandError, match=f"'{table}' is a foreign table"):
            await postgres.upgrade()
    postgres.add("filled", None, 'op.backfill("accounts", {"done": 1}, where="id <> 0 OR 1 = 2")')
    await postgres.upgrade()


async def test_until_empty_and_a_row_that_stays_as_it_was(one_of_each: Project) -> None:
    one_of_each.numbers(20)
    values = '{"balance": "balance + 1000", "done": "CASE WHEN id = 8 THEN NULL ELSE 1 END"}'
    one_of_each.add("filled", None, f'op.backfill("accounts", {values}, where="done IS NULL", until_empty=True)')
    with pytest.raises(CommandError, match="again and again"):
        await one_of_each.upgrade()
    assert one_of_each.rows("SELECT max(balance - id) FROM accounts") == [(0,)]
    rows = 'lambda rows: [{"balance": r["balance"] + 1} for r in rows]'
    one_of_each.add("filled", None, f'op.backfill_rows("accounts", ["balance"], {rows}, until_empty=True)')
    with pytest.raises(CommandError, match="needs a `where`"):
        await one_of_each.upgrade()


async def test_until_empty_and_a_later_row_that_stays_as_it_was(postgres: Project) -> None:
    """It comes between two sweeps, by a trigger: it is changed once at most, as those of the first sweep are."""
    postgres.numbers(20)
    postgres.execute(
        "CREATE FUNCTION follow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO accounts (id, balance) SELECT 1000, 0 WHERE NEW.id = 20 AND NEW.done = 1; RETURN NULL; END $$",
        "CREATE TRIGGER follows AFTER UPDATE ON accounts FOR EACH ROW EXECUTE FUNCTION follow()",
    )
    values = '{"balance": "balance + 1000", "done": "CASE WHEN id = 1000 THEN NULL ELSE 1 END"}'
    postgres.add("filled", None, f'op.backfill("accounts", {values}, where="done IS NULL", until_empty=True)')
    with pytest.raises(CommandError, match="again and again"):
        await postgres.upgrade()
    assert postgres.rows("SELECT balance FROM accounts WHERE id = 1000") == [(0,)]


async def test_a_search_path_that_ends_with_env_pys_transaction(postgres: Project) -> None:
    postgres.numbers(5)
    postgres.execute("CREATE SCHEMA mine", "CREATE TABLE mine.accounts (LIKE accounts INCLUDING ALL)")
    env = postgres.folder / "alembic" / "env.py"
    begins = "with context.begin_transaction():\n"
    there = '            connection.exec_driver_sql("SET LOCAL search_path = mine")\n'
    env.write_text(
        env.read_text().replace(f"        {begins}            context", f"        {begins}{there}            context")
    )
    assert "SET LOCAL" in env.read_text()
    postgres.add("filled", None, 'op.backfill("accounts", {"balance": "balance * 100"})')
    with pytest.raises(CommandError, match="SET, not SET LOCAL"):
        await postgres.upgrade()
    assert postgres.rows("SELECT sum(balance) - sum(id) FROM accounts") == [(0,)]


async def test_a_function_or_a_procedure_that_was_changed_in_the_middle(postgres: Project) -> None:
    postgres.numbers(60)
    failing = '[{"balance": r["balance"] * (100 if r["id"] < 40 else 1 // 0)} for r in rows]'
    start = 'op.backfill_rows("accounts", ["balance"], lambda rows: '
    postgres.add("filled", None, f"{start}{failing}, batch_size=3)")
    with pytest.raises(ZeroDivisionError):
        await postgres.upgrade()
    postgres.add("filled", None, f'{start}[{{"balance": r["balance"] * 7}} for r in rows], batch_size=3)')
    with pytest.raises(CommandError, match="was changed after it had begun") as raised:
        await postgres.upgrade()
    # Who knows better can say so.
    postgres.execute(str(raised.value).rpartition("let it go on: ")[2])
    await postgres.upgrade()
    assert postgres.rows("SELECT count(*) FROM accounts WHERE balance NOT IN (id * 100, id * 7)") == [(0,)]


async def test_another_size_in_the_line_of_a_function_is_no_other_function(one_of_each: Project) -> None:
    one_of_each.numbers(60)
    divisor = f"(0 if r['id'] > 40 and not os.path.exists({str(one_of_each.folder / 'flag')!r}) else 1)"
    rows = f"lambda rows: [{{'balance': r['balance'] * 100 // {divisor}}} for r in rows]"
    one_of_each.add("filled", None, f'op.backfill_rows("accounts", ["balance"], {rows}, batch_size=7)')
    with pytest.raises(ZeroDivisionError):
        await one_of_each.upgrade()
    (one_of_each.folder / "flag").touch()
    again = f'op.backfill_rows(\n    "accounts",\n    ["balance"],\n    transform={rows},\n    batch_size=3,\n)'
    one_of_each.add("filled", None, again)
    await one_of_each.upgrade()
    assert one_of_each.rows(ONCE) == [(100, 100, 60)]


async def test_one_that_found_no_rows_may_be_corrected(one_of_each: Project) -> None:
    """The next one of its revision failed, so both are run again."""
    one_of_each.numbers(9)
    one_of_each.numbers(0, "others")
    filled = 'op.backfill("others", {{"done": {}}})\nop.backfill("accounts", {{"done": "{}"}})'
    one_of_each.add("filled", None, filled.format(1, "nowhere"))
    with pytest.raises(sa.exc.DBAPIError):
        await one_of_each.upgrade()
    assert [row["state"] for row in one_of_each.checkpoints() if not row["rows_seen"]][:1] == ["finished"]
    one_of_each.execute("INSERT INTO others (id, balance) VALUES (1, 1)")
    one_of_each.add("filled", None, filled.format(2, "3"))
    await one_of_each.upgrade()
    assert one_of_each.rows("SELECT (SELECT max(done) FROM others), min(done), max(done) FROM accounts") == [(2, 3, 3)]


async def test_until_empty_and_a_later_row_that_has_no_key(one_of_each: Project) -> None:
    one_of_each.execute(
        "CREATE TABLE things (id INT PRIMARY KEY, ref INT UNIQUE, n INT)",
        *(f"INSERT INTO things (id, ref) VALUES ({n}, {n})" for n in range(1, 61)),
    )
    late = "not os.path.exists({!r}) and rows[0]['ref'] > 40".format(str(one_of_each.folder / "flag"))
    rows = f"lambda rows: [{{'n': 1 // (0 if {late} else 1)}} for r in rows]"
    arguments = '"things", ["n"], {}, where="n IS NULL", key="ref", batch_size=7, until_empty=True'
    one_of_each.add("filled", None, f"op.backfill_rows({arguments.format(rows)})")
    with pytest.raises(ZeroDivisionError):
        await one_of_each.upgrade()
    one_of_each.execute("INSERT INTO things (id, ref, n) VALUES (100, NULL, 1), (101, NULL, NULL)")
    (one_of_each.folder / "flag").touch()
    # PostgreSQL comes upon it where it looks for the last row.
    with pytest.raises(CommandError, match=r"where the key is NULL \(ref\)|a ref that cannot be gone by"):
        await one_of_each.upgrade()
    one_of_each.execute("UPDATE things SET ref = id WHERE id > 60")
    await one_of_each.upgrade()
    assert one_of_each.rows("SELECT count(*), sum(n) FROM things") == [(62, 62)]


async def test_a_statement_that_does_not_tell_its_count_goes_on_where_it_was(postgres: Project) -> None:
    postgres.numbers(60)
    postgres.execute(
        "CREATE FUNCTION cents(a bigint, b bigint) RETURNS void LANGUAGE sql AS "
        "'UPDATE accounts SET balance = balance * 100 / (CASE WHEN b > 40 THEN 0 ELSE 1 END) WHERE id > a AND id <= b'"
    )
    body = 'op.backfill_sql("SELECT cents(:after, :upto)", "accounts", batch_size=3)'
    postgres.add("filled", None, body)
    with pytest.raises(sa.exc.DBAPIError, match="division"):
        await postgres.upgrade()
    postgres.add("filled", None, body.replace("SELECT cents", "SELECT  cents"))
    with pytest.raises(CommandError, match="was changed after it had begun"):
        await postgres.upgrade()


@pytest.mark.parametrize("number", [-(2**31), -(2**63)])
async def test_nothing_comes_before_the_first_key(postgres: Project, number: int) -> None:
    kind = "integer" if number == -(2**31) else "bigint"
    postgres.execute(f"CREATE TABLE things (id {kind} PRIMARY KEY)", f"INSERT INTO things VALUES ({number})")
    postgres.add("filled", None, 'op.backfill_sql("DELETE FROM things WHERE id > :after AND id <= :upto", "things")')
    with pytest.raises(CommandError, match="nothing comes before"):
        await postgres.upgrade()


async def test_names_with_anything_in_them(one_of_each: Project) -> None:
    quote = "`" if one_of_each.dialect == "mysql" else '"'
    table, key, column = (f"{quote}{name}{quote}" for name in ("Odd 100% it's", "key (%)", "va%(l)s"))
    with one_of_each.connected() as connection, connection.begin():
        for sql in (
            f"CREATE TABLE {table} ({key} INTEGER PRIMARY KEY, {column} INTEGER NOT NULL)",
            *(f"INSERT INTO {table} VALUES ({number}, {number})" for number in range(-5, 5)),
        ):
            connection.execute(sa.text(sql))
    body = """
    op.backfill("Odd 100% it's", {"va%(l)s": sa.column("va%(l)s") + 1}, batch_size=2)
    op.backfill_rows("Odd 100% it's", ["va%(l)s"], lambda rows: [{"va%(l)s": r["va%(l)s"] + 1} for r in rows],
        batch_size=2)
    """
    one_of_each.add("filled", None, body)
    await one_of_each.upgrade()
    assert one_of_each.rows(f"SELECT sum({column}) - sum({key}) FROM {table}") == [(20,)]


async def test_a_finished_backfill_whose_revision_was_not_recorded_is_told(
    postgres: Project, caplog: pytest.LogCaptureFixture
) -> None:
    postgres.numbers(5)
    fill = 'op.backfill("accounts", {"balance": "balance * 100"})'
    postgres.add("filled", None, fill)
    postgres.add("after", "filled", 'raise RuntimeError("no")')
    with pytest.raises(RuntimeError, match="no"):
        await postgres.upgrade()
    await postgres.run(lambda config: command.upgrade(config, "filled"))
    assert "an earlier run has finished it" in caplog.text
    assert postgres.rows(ONCE) == [(100, 100, 5)]
