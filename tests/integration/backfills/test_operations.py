"""Backfills under plain `alembic upgrade`, on real databases."""

from __future__ import annotations

import anyio
import pytest
from alembic import command
from alembic.util import CommandError

from orchestrator.history import keyset
from tests.integration.backfills.conftest import Make, Project

MULTIPLY = 'op.backfill("accounts", set_={"balance": "balance * 100"}, batch_size=7)'


async def test_each_row_is_changed_once(project: Project) -> None:
    project.numbers(500)
    project.add("filled", None, MULTIPLY)
    await project.upgrade()
    assert project.rows("SELECT count(*), sum(balance) - 100 * sum(id) FROM accounts") == [(500, 0)]
    (checkpoint,) = project.checkpoints()
    assert (checkpoint["state"], checkpoint["rows_changed"], checkpoint["rows_seen"]) == ("finished", 500, 500)
    assert bool(checkpoint["applied"])
    await project.upgrade()  # a second run finds nothing to do
    assert project.rows("SELECT sum(balance) - 100 * sum(id) FROM accounts") == [(0,)]


async def test_an_empty_table(project: Project) -> None:
    project.numbers(0)
    project.add("filled", None, MULTIPLY)
    await project.upgrade()
    assert project.checkpoints()[0]["state"] == "finished"
    assert project.rows("SELECT version_num FROM alembic_version") == [("filled",)]


async def test_where_and_values_of_every_kind(project: Project) -> None:
    project.numbers(60)
    body = """
    values = {"note": sa.literal("it's :done"), "done": 1, "balance": sa.column("balance") + 1}
    done = op.backfill("accounts", set_=values, where="balance % 2 = 0", batch_size=10)
    assert done == op.backfill("accounts", {"done": 2}, where=sa.column("done") == 1), done
    """
    project.add("filled", None, body)
    await project.upgrade()
    changed = project.rows(
        "SELECT count(*) FROM accounts WHERE note = 'it''s \\:done' AND done = 2 AND balance = id + 1"
    )
    assert changed == project.rows("SELECT count(*) FROM accounts WHERE id % 2 = 0")
    assert changed[0][0] > 20
    assert [row["ordinal"] for row in project.checkpoints()] == [1, 2]


async def test_rows_through_a_function(project: Project) -> None:
    project.numbers(100)
    body = """
    def transform(rows):
        assert len(rows) <= 30
        return [{"note": f"n{row['balance']}"} if row["id"] % 2 else None for row in rows]
    op.backfill_rows("accounts", ["balance"], transform, batch_size=9)
    """
    project.add("filled", None, body)
    await project.upgrade()
    ((odd, noted),) = project.rows("SELECT sum(CASE WHEN id % 2 = 1 THEN 1 ELSE 0 END), count(note) FROM accounts")
    assert odd == noted > 30
    assert project.rows("SELECT note FROM accounts WHERE id = 1") == [("n1",)]
    assert project.checkpoints()[0]["rows_changed"] == noted


async def test_a_statement_with_bounds(project: Project) -> None:
    project.numbers(100)
    project.numbers(0, "archive")
    body = """
    copy = "INSERT INTO archive (id, balance) SELECT id, balance FROM accounts WHERE id > :after AND id <= :upto"
    op.backfill_sql(copy, "accounts", batch_size=9)
    op.backfill_sql("DELETE FROM accounts WHERE id > :after AND id <= :upto AND balance % 2 = 0", "accounts")
    """
    project.add("moved", None, body)
    await project.upgrade()
    assert project.rows("SELECT count(*), sum(balance - id) FROM archive") == [(100, 0)]
    assert project.rows("SELECT count(*) FROM accounts WHERE balance % 2 = 0") == [(0,)]


async def test_keys_of_several_columns_and_of_text(project: Project) -> None:
    project.execute(
        "CREATE TABLE bills (tenant VARCHAR(20) NOT NULL, day DATE NOT NULL, nr INTEGER NOT NULL,"
        " amount BIGINT NOT NULL, PRIMARY KEY (tenant, day, nr))",
        *(
            f"INSERT INTO bills VALUES ('{tenant}', '2026-01-{day:02}', {nr}, 1)"
            for tenant in ("a''b", "ACME", "zoë", "ß", "")
            for day in (1, 28)
            for nr in range(-5, 6)
        ),
    )
    body = """
    op.backfill("bills", {"amount": "amount + 1"}, batch_size=4)
    op.backfill_rows("bills", ["amount"], lambda rows: [{"amount": row["amount"] * 10} for row in rows], batch_size=4)
    op.backfill_sql("UPDATE bills SET amount = amount * 10 WHERE nr > 0 AND (tenant, day, nr) > "
        "(:after_tenant, :after_day, :after_nr) AND (tenant, day, nr) <= (:upto_tenant, :upto_day, :upto_nr)",
        "bills", batch_size=4)
    """
    project.add("filled", None, body)
    await project.upgrade()
    assert project.rows("SELECT amount, count(*) FROM bills GROUP BY amount ORDER BY amount") == [(20, 60), (200, 50)]


async def test_a_key_in_another_character_set_than_the_checkpoints(make_project: Make) -> None:
    project = await make_project("pymysql")
    project.execute(
        f"ALTER DATABASE {project.url.database} CHARACTER SET latin1",
        "CREATE TABLE words (id VARCHAR(20) PRIMARY KEY, n INTEGER NOT NULL) CHARACTER SET utf8mb4",
        *(f"INSERT INTO words VALUES ('{word}', 0)" for word in "абвгдежзик𝄞"),
    )
    project.add("filled", None, 'op.backfill("words", {"n": "n + 1"}, batch_size=3)')
    await project.upgrade()
    assert project.rows("SELECT n, count(*) FROM words GROUP BY n") == [(1, 11)]


async def test_batches_find_their_rows_in_the_index_however_skewed_the_key_is(make_project: Make) -> None:
    """Of a thousand rows each, among many with the same first column: they do not go through those before them."""
    project = await make_project("pymysql")
    project.execute(
        "CREATE TABLE bills (tenant INTEGER, day INTEGER, nr INTEGER, n INTEGER, PRIMARY KEY (tenant, day, nr))",
        "INSERT INTO bills SELECT 1, 1, seq, 0 FROM seq_1_to_20000",
        "INSERT INTO bills SELECT 1, 2, seq, 0 FROM seq_1_to_500",
        "INSERT INTO bills SELECT 2, 1, seq, 0 FROM seq_1_to_5000",
        "ANALYZE TABLE bills",
    )
    with project.connected() as connection:
        found = keyset.find(connection, "bills", None, None)
        for after in ((1, 1, 18_000), (1, 1, 19_900), (1, 2, 499)):
            connection.exec_driver_sql("FLUSH STATUS")
            upto, seen = found.step(connection, after, (2, 1, 5000), 1000)
            batch = found.table.update().where(found.between(first=after is None)).values(n=1)
            changed = connection.execute(batch, found.bounds(after, upto)).rowcount
            read = connection.exec_driver_sql("SHOW SESSION STATUS LIKE 'Handler_read_next'").one()
            assert (seen, changed) == (1000, 1000)
            assert int(read[1]) < 2100


@pytest.mark.parametrize(("theirs", "while_it_runs"), [("1s", "1s"), ("5min", "30s"), ("0", "30s")])
async def test_a_statement_is_limited_by_the_shorter_of_two_times(
    theirs: str, while_it_runs: str, postgres: Project
) -> None:
    postgres.numbers(3)
    postgres.execute(
        "CREATE TABLE seen (v TEXT)",
        f"ALTER DATABASE \"{postgres.url.database}\" SET statement_timeout = '{theirs}'",
    )
    limit = "INSERT INTO seen SELECT current_setting('statement_timeout')"
    bounds = "WHERE CAST(:after AS bigint) < CAST(:upto AS bigint)"
    postgres.add("filled", None, f'op.backfill_sql("{limit} {bounds}", "accounts")')
    postgres.add("after", "filled", f'op.execute("{limit}")')
    await postgres.upgrade()
    assert postgres.rows("SELECT v FROM seen") == [(while_it_runs,), (theirs,)]


async def test_a_uuid_key_of_ones_own(one_of_each: Project) -> None:
    kind = {"postgresql": "UUID", "mysql": "CHAR(36)", "sqlite": "CHAR(36)"}[one_of_each.dialect]
    one_of_each.execute(
        f"CREATE TABLE things (id INTEGER PRIMARY KEY, ref {kind} NOT NULL UNIQUE, n INTEGER NOT NULL)",
        *(f"INSERT INTO things VALUES ({n}, '{n * 7919 % 100:08x}-0000-4000-8000-{n:012x}', 0)" for n in range(100)),
    )
    one_of_each.add("filled", None, 'op.backfill("things", {"n": "n + 1"}, key="ref", batch_size=9)')
    await one_of_each.upgrade()
    assert one_of_each.rows("SELECT min(n), max(n), count(*) FROM things") == [(1, 1, 100)]


REFUSED = [
    ('op.backfill("nowhere", {"a": 1})', "there is no table 'nowhere'"),
    ('op.backfill("accounts", {"nothing": 1})', "no column 'nothing'"),
    ('op.backfill("accounts", {})', "sets nothing"),
    ('op.backfill("accounts", {"id": "id + 1"})', "by which the rows are gone through"),
    ('op.backfill("accounts", {"done": 1}, key="balance")', "not unique"),
    ('op.backfill("accounts", {"done": 1}, key="nope")', "no column 'nope'"),
    ('op.backfill("accounts", {"done": 1}, key="note")', "NULL"),
    ('op.backfill("accounts", {"done": 1}, batch_size=0)', "counts rows"),
    ('op.backfill("accounts", {"done": 1}, until_empty=True)', "needs a `where`"),
    ('op.backfill("accounts", {"done": 1}, where="balance > 0", until_empty=True)', "again and again"),
    ('op.backfill_sql("DELETE FROM accounts WHERE id > :after", "accounts")', ":upto"),
    ('op.backfill_sql("UPDATE accounts SET n = 1 /* :after */ -- :upto", "accounts")', ":after, :upto"),
    ('op.backfill_rows("accounts", ["nope"], lambda rows: [])', "no column 'nope'"),
    ('op.backfill_rows("accounts", ["done"], lambda rows: [])', "0 answers"),
    ('op.backfill_rows("accounts", ["done"], lambda rows: [{"id": 1}] * len(rows))', "part of the key"),
    ('op.verify("SELECT count(*) FROM accounts WHERE id < 0", "rows below zero")', "rows below zero"),
    ('op.verify("SELECT 1 FROM accounts", "several")', "several rows"),
]


async def test_what_cannot_be_is_refused_and_changes_nothing(one_of_each: Project) -> None:
    one_of_each.numbers(30)
    one_of_each.execute("CREATE UNIQUE INDEX by_note ON accounts (note)")
    for body, said in REFUSED:
        one_of_each.add("filled", None, body)
        with pytest.raises(CommandError, match=said):
            await one_of_each.upgrade()
        assert one_of_each.rows("SELECT sum(balance) - sum(id), count(done), count(note) FROM accounts") == [(0, 0, 0)]
        with pytest.raises(CommandError, match=said):
            await one_of_each.upgrade()


async def test_a_table_without_a_key(one_of_each: Project) -> None:
    one_of_each.execute("CREATE TABLE log (line VARCHAR(20))", "INSERT INTO log VALUES ('x')")
    one_of_each.add("filled", None, 'op.backfill("log", {"line": "\'y\'"})')
    with pytest.raises(CommandError, match="no primary key"):
        await one_of_each.upgrade()


async def test_what_stands_beside_a_backfill_is_refused(one_of_each: Project) -> None:
    one_of_each.numbers(3)
    one_of_each.add("mixed", None, f'op.add_column("accounts", sa.Column("more", sa.Integer))\n{MULTIPLY}')
    with pytest.raises(CommandError, match=r"op\.add_column \(line \d+\).*revision of its own"):
        await one_of_each.upgrade()
    assert one_of_each.rows("SELECT sum(balance) - sum(id) FROM accounts") == [(0,)]


async def test_it_cannot_be_written_as_a_script(postgres: Project) -> None:
    postgres.add("filled", None, MULTIPLY)
    with pytest.raises(CommandError, match="cannot be written as a script"):
        await postgres.run(lambda config: command.upgrade(config, "head", sql=True))


async def test_again_after_a_downgrade(one_of_each: Project) -> None:
    """What was backfilled once is backfilled again after the revision was taken back."""
    one_of_each.numbers(20)
    one_of_each.add("first", None, "pass")
    one_of_each.add("filled", "first", MULTIPLY, 'op.backfill("accounts", set_={"balance": "balance / 100"})')
    one_of_each.add("last", "filled", 'op.requires_backfill("filled")')
    for _ in range(3):
        await one_of_each.upgrade()
        assert one_of_each.rows("SELECT sum(balance) - 100 * sum(id) FROM accounts") == [(0,)]
        await one_of_each.downgrade("first")
        assert one_of_each.rows("SELECT sum(balance) - sum(id) FROM accounts") == [(0,)]


async def test_again_after_a_downgrade_that_holds_nothing(one_of_each: Project) -> None:
    one_of_each.numbers(20)
    one_of_each.add("first", None, "pass")
    one_of_each.add("filled", "first", MULTIPLY)
    await one_of_each.upgrade()
    await one_of_each.downgrade("first")
    await one_of_each.upgrade()
    assert one_of_each.rows("SELECT sum(balance) - 10000 * sum(id) FROM accounts") == [(0,)]


async def test_an_error_in_the_middle_leaves_what_is_done_and_goes_on_there(project: Project) -> None:
    project.numbers(90)
    body = """
    def transform(rows):
        if any(row["id"] > 60 for row in rows) and not os.path.exists({flag!r}):
            raise RuntimeError("not yet")
        return [dict(balance=row["balance"] * 100) for row in rows]
    op.backfill_rows("accounts", ["balance"], transform, batch_size=5)
    """
    flag = project.folder / "flag"
    project.add("first", None, "pass")
    project.add("filled", "first", body.replace("{flag!r}", repr(str(flag))))
    project.add("last", "filled", 'op.requires_backfill("filled")\nop.drop_column("accounts", "done")')
    for _ in range(2):
        with pytest.raises(RuntimeError, match="not yet"):
            await project.upgrade()
    (checkpoint,) = project.checkpoints()
    done = checkpoint["rows_changed"]
    assert 0 < done < 60
    assert checkpoint["state"] == "running"
    assert project.rows("SELECT count(*) FROM accounts WHERE balance = 100 * id") == [(done,)]
    # Somebody says that it is done; what needs it does not believe that.
    await project.run(lambda config: command.stamp(config, "filled"))
    with pytest.raises(CommandError, match="not finished in this database"):
        await project.upgrade()
    await project.run(lambda config: command.stamp(config, "first"))
    flag.touch()
    await project.upgrade()
    assert project.rows("SELECT count(*), sum(balance) - 100 * sum(id) FROM accounts") == [(90, 0)]


async def test_a_backfill_that_was_changed_after_it_had_begun(one_of_each: Project) -> None:
    one_of_each.numbers(30)
    failing = (
        'op.backfill_rows("accounts", ["id"], lambda rows: [{"done": 1 // (20 - r["id"])} for r in rows], batch_size=3)'
    )
    one_of_each.add("filled", None, failing)
    with pytest.raises(ZeroDivisionError):
        await one_of_each.upgrade()
    one_of_each.add("filled", None, 'op.backfill("accounts", {"done": 2})')
    with pytest.raises(CommandError, match="was changed after it had begun"):
        await one_of_each.upgrade()


async def test_one_that_is_only_made_anew_goes_on_by_the_sql_that_is_offered(one_of_each: Project) -> None:
    env = one_of_each.folder / "alembic" / "env.py"
    named = 'context.configure(version_table="The 100% Versions", '
    env.write_text(env.read_text().replace("context.configure(", named))
    one_of_each.numbers(30)
    rows = 'lambda rows: [{"done": 1 // (20 - r["id"])} for r in rows]'
    one_of_each.add("filled", None, f'op.backfill_rows("accounts", ["id"], {rows}, batch_size=3)')
    with pytest.raises(ZeroDivisionError):
        await one_of_each.upgrade()
    one_of_each.add("filled", None, 'op.backfill("accounts", {"done": 2})')
    with pytest.raises(CommandError, match="let it go on: UPDATE ") as caught:
        await one_of_each.upgrade()
    with one_of_each.connected() as connection, connection.begin():
        cursor = connection.connection.cursor()
        cursor.execute(str(caught.value).partition("let it go on: ")[2])
        assert cursor.rowcount == 1
        cursor.close()
    await one_of_each.upgrade()
    assert one_of_each.rows("SELECT count(*) FROM accounts WHERE done IS NULL") == [(0,)]


async def test_two_of_one_revision_and_the_second_fails(one_of_each: Project) -> None:
    """The first, which is finished, is not begun again."""
    one_of_each.numbers(30)
    one_of_each.add("filled", None, f'{MULTIPLY}\nop.backfill("accounts", {{"note": "nonsense"}})')
    with pytest.raises(Exception, match=r"(?i)nonsense"):
        await one_of_each.upgrade()
    one_of_each.add("filled", None, f'{MULTIPLY}\nop.backfill("accounts", {{"done": 1}})')
    await one_of_each.upgrade()
    assert one_of_each.rows("SELECT sum(balance) - 100 * sum(id), min(done) FROM accounts") == [(0, 1)]


async def test_autogenerate_leaves_the_checkpoints_alone(one_of_each: Project) -> None:
    one_of_each.numbers(3)
    one_of_each.add("filled", None, MULTIPLY)
    env = one_of_each.folder / "alembic" / "env.py"
    metadata = "import sqlalchemy, orchestrator.operations\ntarget_metadata = sqlalchemy.MetaData()"
    env.write_text(env.read_text().replace("target_metadata = None", metadata))
    await one_of_each.upgrade()
    made = await one_of_each.run(lambda config: command.revision(config, "made", autogenerate=True))
    text = await anyio.Path(made.path).read_text()
    assert "op.drop_table('accounts')" in text
    assert "backfills" not in text
