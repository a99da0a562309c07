"""Bounds of `op.backfill_sql`, as the server reads the statement."""

from __future__ import annotations

import pytest
from alembic.util import CommandError

from tests.integration.backfills.conftest import Make, Project

TENFOLD = "UPDATE accounts SET balance = balance * 10"
BOUNDS = "id > :after AND id <= :upto"
IN_CODE = {
    "a MySQL text": ("pymysql", f"{TENFOLD}, note = \"it's\" WHERE {BOUNDS} AND \"she's\" <> ''"),
    "a backslash": ("pymysql", f"{TENFOLD}, note = 'it\\'s' WHERE {BOUNDS} AND 'she\\'s' <> ''"),
    "backticks": ("pymysql", f"{TENFOLD}, `it's` = 1 WHERE {BOUNDS} AND `it's` IS NULL"),
    "code in a comment": ("pymysql", f"{TENFOLD} /*! WHERE {BOUNDS} */"),
    "a PostgreSQL name": ("psycopg", f'{TENFOLD}, "it\'s" = 1 WHERE {BOUNDS} AND "it\'s" IS NULL'),
    "dollars": ("psycopg", f"{TENFOLD}, note = $$it's$$ WHERE {BOUNDS} AND $$she's$$ <> ''"),
    "brackets": ("pysqlite", f"{TENFOLD}, [it's] = 1 WHERE {BOUNDS} AND [it's] IS NULL"),
}
IN_NO_CODE = {
    "a MySQL comment": ("pymysql", f"{TENFOLD} # WHERE {BOUNDS}"),
    "a MySQL text": ("pymysql", f'{TENFOLD}, note = "{BOUNDS}"'),
    "a backslash": ("pymysql", f"{TENFOLD}, note = 'it\\'s {BOUNDS}'"),
    "a nested comment": ("psycopg", f"{TENFOLD} /* /* x */ WHERE {BOUNDS} */"),
    "dollars": ("psycopg", f"{TENFOLD}, note = $$ {BOUNDS} $$"),
    "a SQLite name": ("pysqlite", f'{TENFOLD}, note = "{BOUNDS}"'),
}


@pytest.mark.parametrize("which", IN_CODE)
async def test_that_bind(make_project: Make, which: str) -> None:
    driver, statement = IN_CODE[which]
    project = await make_project(driver)
    project.numbers(60)
    name = "`it's`" if project.dialect == "mysql" else '"it\'s"'
    project.execute(f"ALTER TABLE accounts ADD COLUMN {name} INTEGER")
    project.add("filled", None, f'op.backfill_sql({statement!r}, "accounts", batch_size=7)')
    await project.upgrade()
    assert project.rows("SELECT min(balance / id), max(balance / id) FROM accounts") == [(10, 10)]


@pytest.mark.parametrize("which", IN_NO_CODE)
async def test_that_bind_nothing(make_project: Make, which: str) -> None:
    driver, statement = IN_NO_CODE[which]
    project = await make_project(driver)
    project.numbers(60)
    project.add("filled", None, f'op.backfill_sql({statement!r}, "accounts", batch_size=7)')
    with pytest.raises(CommandError, match="lacks :after, :upto"):
        await project.upgrade()
    assert project.rows("SELECT max(balance / id) FROM accounts") == [(1,)]


async def test_that_are_cast_in_a_way_that_sqlalchemy_does_not_see(postgres: Project) -> None:
    postgres.numbers(60)
    statement = f"{TENFOLD} WHERE id > :after::bigint AND id <= :upto"
    postgres.add("filled", None, f'op.backfill_sql({statement!r}, "accounts", batch_size=7)')
    with pytest.raises(CommandError, match=r"lacks :after: .*write CAST\(:after AS"):
        await postgres.upgrade()
    statement = statement.replace(":after::bigint", "CAST(:after AS bigint)")
    postgres.add("filled", None, f'op.backfill_sql({statement!r}, "accounts", batch_size=7)')
    await postgres.upgrade()
    assert postgres.rows("SELECT min(balance / id), max(balance / id) FROM accounts") == [(10, 10)]


async def test_before_a_uuid_of_which_the_database_looks_at_the_end_first(make_project: Make) -> None:
    """A native one of MariaDB's: its own order puts the key less one behind other keys."""
    project = await make_project("pymysql")
    project.execute(
        "CREATE TABLE things (id UUID PRIMARY KEY, n INT NOT NULL)",
        *(f"INSERT INTO things VALUES ('{n:08x}-0000-4000-8000-000000000000', 1)" for n in range(1, 50)),
    )
    statement = "UPDATE things SET n = n * 10 WHERE id > :after AND id <= :upto"
    project.add("filled", None, f'op.backfill_sql("{statement}", "things", batch_size=10)')
    await project.upgrade()
    assert project.rows("SELECT min(n), max(n), count(*) FROM things") == [(10, 10, 49)]


async def test_nothing_is_taken_for_before_the_first_key_that_is_not(make_project: Make) -> None:
    """By collations that fill up with blanks, a tab comes before nothing at all."""
    project = await make_project("pymysql")
    project.execute(
        "CREATE TABLE things (id VARCHAR(9) COLLATE utf8mb4_general_ci PRIMARY KEY, n INT NOT NULL)",
        "INSERT INTO things VALUES ('\ta', 1), ('\tb', 1), ('c', 1)",
    )
    statement = "UPDATE things SET n = n * 10 WHERE id > :after AND id <= :upto"
    project.add("filled", None, f'op.backfill_sql("{statement}", "things", batch_size=2)')
    with pytest.raises(CommandError, match="nothing comes before"):
        await project.upgrade()
    assert project.rows("SELECT max(n) FROM things") == [(1,)]
