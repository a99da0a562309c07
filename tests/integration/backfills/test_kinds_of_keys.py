"""Keys of every kind: what the database tells apart stays apart in Python, and what cannot be gone by is refused."""

from __future__ import annotations

import pytest
from alembic.util import CommandError

from tests.integration.backfills.conftest import Make


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
@pytest.mark.parametrize("last", ["01:30", "05:30", "00:30"])
async def test_the_hour_that_comes_twice(make_project: Make, driver: str, last: str) -> None:
    """In Berlin, 00:30 and 01:30 UTC of that day are both half past two."""
    project = await make_project(driver)
    project.execute(
        f"ALTER DATABASE {project.url.database} SET timezone = 'Europe/Berlin'",
        "CREATE TABLE readings (k timestamptz PRIMARY KEY, n int NOT NULL, m int NOT NULL, o int NOT NULL)",
        f"INSERT INTO readings SELECT timestamptz '2026-10-25 {last}+00' - i * interval '1 hour', 0, 0, 0"
        " FROM generate_series(0, 5) i".replace(":", "\\:"),
    )
    one_more = 'lambda rows: [{"m": row["m"] + 1} for row in rows]'
    project.add(
        "filled",
        None,
        f"""
        op.backfill("readings", {{"n": "n + 1"}}, batch_size=5)
        op.backfill_rows("readings", ["m"], {one_more}, batch_size=1)
        op.backfill_sql("UPDATE readings SET o = o + 1 WHERE k > :after AND k <= :upto", "readings", batch_size=1)
        """,
    )
    await project.upgrade()
    assert project.rows("SELECT DISTINCT n, m, o FROM readings") == [(1, 1, 1)]


INEXACT = {
    "double": ("pymysql", "DOUBLE", "DOUBLE"),
    "float": ("pymysql", "FLOAT", "FLOAT"),
    "real": ("pymysql", "REAL", "DOUBLE"),
    "float8": ("psycopg", "float8", "DOUBLE PRECISION"),
    "float4": ("psycopg", "float4", "REAL"),
    "domain": ("psycopg", "measure", "DOUBLE PRECISION"),
}


@pytest.mark.parametrize("kind", INEXACT)
async def test_numbers_that_are_not_exact(make_project: Make, kind: str) -> None:
    driver, sql, said = INEXACT[kind]
    project = await make_project(driver)
    if sql == "measure":
        project.execute("CREATE DOMAIN measure AS float8")
    project.execute(
        f"CREATE TABLE readings (k {sql} PRIMARY KEY, n INT NOT NULL)",
        "INSERT INTO readings VALUES (0.1, 0), (0.2, 0), (1.00000000002, 0)",
    )
    project.add("filled", None, 'op.backfill("readings", {"n": "n + 1"})')
    with pytest.raises(CommandError, match=f"k is a {said}, whose values are not exact"):
        await project.upgrade()
    assert project.rows("SELECT DISTINCT n FROM readings") == [(0,)]


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg", "pymysql", "asyncmy"])
async def test_whole_numbers_of_more_than_28_digits(make_project: Make, driver: str) -> None:
    project = await make_project(driver)
    first = 123456789012345678901234567890123456
    project.execute(
        "CREATE TABLE things (k NUMERIC(38, 0) PRIMARY KEY, n INT NOT NULL)",
        *(f"INSERT INTO things VALUES ({first + number}, 0)" for number in range(20)),
    )
    move = "UPDATE things SET n = n + 1 WHERE k > :after AND k <= :upto"
    project.add("filled", None, f'op.backfill_sql("{move}", "things", batch_size=3)')
    await project.upgrade()
    assert project.rows("SELECT DISTINCT n FROM things") == [(1,)]


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg", "pymysql"])
@pytest.mark.parametrize(("kind", "smallest"), [("NUMERIC(2, 0)", -99), ("counted", 1)])
async def test_the_smallest_number_that_a_column_holds(
    make_project: Make, driver: str, kind: str, smallest: int
) -> None:
    """What comes before it is no value of the column."""
    project = await make_project(driver)
    if kind == "counted":
        if project.dialect == "mysql":
            kind = "INT CHECK (k > 0)"
        else:
            project.execute("CREATE DOMAIN counted AS int CHECK (value > 0)")
    project.execute(
        f"CREATE TABLE things (k {kind}, n INT NOT NULL, PRIMARY KEY (k))", f"INSERT INTO things VALUES ({smallest}, 0)"
    )
    move = "UPDATE things SET n = n + 1 WHERE k > :after AND k <= :upto"
    project.add("filled", None, f'op.backfill_sql("{move}", "things")')
    await project.upgrade()
    assert project.rows("SELECT n FROM things") == [(1,)]
