"""Bounds of `op.backfill_sql`, as the server reads the statement."""

from __future__ import annotations

import pytest
from alembic.util import CommandError

from tests.integration.backfills.conftest import Make

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
