"""Values that a revision's SQL brings along, by whatever names, and what looks like one and is none."""

from __future__ import annotations

import pytest
from alembic.util import CommandError

from tests.integration.backfills.conftest import Project

# 60 rows, with the ids 1, 2, 4, 5, 6, 8, …
SAME_NAMES = {
    "set_ and where": (
        '{"note": sa.text(":v").bindparams(v="new")}, where=sa.text("balance <> :v").bindparams(v=8)',
        "id = 8",
    ),
    "two columns": (
        '{"note": sa.text(":v").bindparams(v="new"), "done": sa.text(":v").bindparams(v=5)}',
        "done <> 5",
    ),
    "a column's": (
        '{"done": 5, "note": "\'new\'"}, where=sa.text("balance > :done").bindparams(done=8)',
        "id <= 8",
    ),
    "one of ours": (
        '{"note": "\'new\'"}, where=sa.text("id > :orchestrator_after_0").bindparams(orchestrator_after_0=40)',
        "id <= 40",
    ),
    "another of ours": (
        '{"note": "\'new\'"}, where=(sa.column("id") > sa.bindparam("given_1", 40)) & (sa.column("id") > 0)',
        "id <= 40",
    ),
    "several values": (
        '{"note": sa.text(":v").bindparams(v="new")},'
        ' where=sa.text("id NOT IN :v").bindparams(sa.bindparam("v", [1, 8], expanding=True))',
        "id IN (1, 8)",
    ),
    "in a subquery": (
        '{"note": sa.text(":v").bindparams(v="new")}, where=sa.column("id").not_in('
        'sa.select(sa.literal_column("8")).where(sa.text(":v = \'old\'").bindparams(v="old")))',
        "id = 8",
    ),
}


@pytest.mark.parametrize("which", SAME_NAMES)
async def test_values_of_the_same_name(one_of_each: Project, which: str) -> None:
    arguments, left = SAME_NAMES[which]
    one_of_each.numbers(60)
    one_of_each.add("filled", None, f'op.backfill("accounts", {arguments}, batch_size=7)')
    await one_of_each.upgrade()
    wrong = f"SELECT count(*) FROM accounts WHERE ({left}) <> (note IS NULL) OR note <> 'new'"
    assert one_of_each.rows(wrong) == [(0,)]


async def test_values_of_the_same_name_for_rows_and_for_what_is_left(one_of_each: Project) -> None:
    one_of_each.numbers(60)
    rows = 'lambda rows: [{"done": 1} for _ in rows]'
    above = 'sa.text("id > :orchestrator_upto_0").bindparams(orchestrator_upto_0=40)'
    left = 'sa.text("(note IS NULL AND id <> :v)").bindparams(v=8)'
    one_of_each.add(
        "filled",
        None,
        f"""
        op.backfill_rows("accounts", ["balance"], {rows}, where={above}, batch_size=7)
        op.backfill("accounts", {{"note": sa.text(":v").bindparams(v="new")}}, where={left}, until_empty=True)
        """,
    )
    await one_of_each.upgrade()
    assert one_of_each.rows("SELECT count(*) FROM accounts WHERE (id > 40) <> (done IS NOT NULL)") == [(0,)]
    assert one_of_each.rows("SELECT id FROM accounts WHERE note IS NULL") == [(8,)]


async def test_columns_that_are_named_as_parameters_are(one_of_each: Project) -> None:
    one_of_each.execute(
        "CREATE TABLE things (id INTEGER PRIMARY KEY, orchestrator_after_0 INTEGER NOT NULL,"
        " orchestrator_upto_0 INTEGER, key_of_row_id INTEGER, given_1 INTEGER, param_1 INTEGER, n INTEGER NOT NULL)",
        *(f"INSERT INTO things VALUES ({number}, 0, 0, 0, 0, 0, 0)" for number in range(20)),
    )
    one_more = '{"n": row["n"] + 1, "key_of_row_id": 5}'
    one_of_each.add(
        "filled",
        None,
        f"""
        op.backfill("things", {{"n": "n + 1", "given_1": sa.text(":given_1").bindparams(given_1=7), "param_1": 8}},
            where=sa.text("id > :param_1").bindparams(param_1=-1), batch_size=7)
        op.backfill("things", {{"orchestrator_upto_0": 4}}, where="orchestrator_upto_0 = 0", until_empty=True)
        op.backfill_rows("things", ["n"], lambda rows: [{one_more} for row in rows], batch_size=7)
        """,
    )
    await one_of_each.upgrade()
    found = "SELECT DISTINCT orchestrator_after_0, orchestrator_upto_0, key_of_row_id, given_1, param_1, n FROM things"
    assert one_of_each.rows(found) == [(0, 4, 5, 7, 8, 2)]


COPY = "UPDATE accounts SET note = ':word' WHERE id > :after AND id <= :upto"
UNBOUND = {
    "json": (r"""op.backfill("accounts", {"note": "'{\"a\":1}'"})""", r"`:1` stands for a value.*write `\\:1`"),
    "where": ("""op.backfill("accounts", {"done": 1}, where="note = ':word'")""", "`where` of .*`:word` stands"),
    "ours": ("""op.backfill("accounts", {"done": 1}, where="id > :orchestrator_upto_0")""", "`where` of .* stands"),
    "rows": ("""op.backfill_rows("accounts", [], lambda rows: [None] * len(rows), where="id > :word")""", "stands for"),
    "sql": (f"""op.backfill_sql("{COPY}", "accounts")""", "the statement of the backfill of 'accounts': `:word`"),
    "verify": ("""op.verify("SELECT ':word' = 'word'", "no")""", "the SQL of op.verify: `:word`"),
    "true": ("""op.backfill("accounts", {"done": 1}, where=True)""", "`where` is True: it must be SQL"),
    "unknown": (
        """op.backfill_rows("accounts", [], lambda rows: [{"key_of_row_id": 1}] * len(rows))""",
        "'key_of_row_id', which is no column",
    ),
}


@pytest.mark.parametrize("which", UNBOUND)
async def test_what_has_no_value_is_refused_and_said_how_to_write(one_of_each: Project, which: str) -> None:
    body, said = UNBOUND[which]
    one_of_each.numbers(10)
    one_of_each.add("filled", None, body)
    with pytest.raises(CommandError, match=said):
        await one_of_each.upgrade()
    assert one_of_each.rows("SELECT count(done), count(note) FROM accounts") == [(0, 0)]


async def test_a_colon_with_a_backslash_is_a_colon(one_of_each: Project) -> None:
    one_of_each.numbers(10)
    one_of_each.add(
        "filled",
        None,
        r"""
        json = "'{" + '"a"' + r"\:1}'"
        op.backfill("accounts", {"note": json}, where=r"note IS NULL OR note = '\:b'")
        note = r"UPDATE accounts SET note = '\:after' WHERE note = " + json
        op.backfill_sql(note + " AND id > :after AND id <= :upto", "accounts", batch_size=3)
        """,
    )
    await one_of_each.upgrade()
    assert one_of_each.rows("SELECT DISTINCT note FROM accounts") == [(":after",)]
