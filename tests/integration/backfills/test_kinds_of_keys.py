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


EVERY_WAY = """
op.backfill("things", {"n": "n + 1"}, batch_size=3)
op.backfill_rows("things", ["m"], lambda rows: [{"m": row["m"] + 1} for row in rows], batch_size=3)
op.backfill_sql("UPDATE things SET o = o + 1 WHERE k > :after AND k <= :upto", "things", batch_size=3)
"""


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
@pytest.mark.parametrize("kind", ["time", "time(0)", "timestamp(0)", "timestamptz(0)", "numeric(6, 1)"])
async def test_what_comes_before_is_not_rounded_to_the_first(make_project: Make, driver: str, kind: str) -> None:
    project = await make_project(driver)
    values = {"time": "time '05:00' + i * interval '1 minute'", "nume": "i + 0.5"}
    project.execute(
        f"CREATE TABLE things (k {kind} PRIMARY KEY, n int NOT NULL, m int NOT NULL, o int NOT NULL)",
        f"INSERT INTO things SELECT {values[kind[:4]] if kind[:5] != 'times' else 'now() + i * interval $$1 day$$'},"
        " 0, 0, 0 FROM generate_series(1, 8) i".replace(":", "\\:"),
    )
    project.add("filled", None, EVERY_WAY)
    await project.upgrade()
    assert project.rows("SELECT n, m, o, count(*) FROM things GROUP BY 1, 2, 3") == [(1, 1, 1, 8)]


REFUSED = {
    "one byte": ("psycopg", '"char"', "'a'", "ordered by bytes and compared as text"),
    "a domain of it": ("asyncpg", "letter", "'a'", "ordered by bytes and compared as text"),
    "time zone": ("psycopg", "timetz", "'12:00+00'", "TIME WITH TIME ZONE"),
    "mysql time": ("pymysql", "TIME", "'-01:30'", "below zero or longer than a day"),
    "zero": ("pymysql", "DATE", "'0000-00-00'", "a row of 'things' has a k that cannot be gone by: 0000-00-00"),
    "zero moment": ("asyncmy", "DATETIME", "'0000-00-00'", "a row of 'things' has a k that cannot be gone by"),
    "month": ("asyncmy", "DATE", "'2026-02-00'", "a row of 'things' has a k that cannot be gone by"),
}


@pytest.mark.parametrize("which", REFUSED)
async def test_what_python_cannot_tell_apart_or_read(make_project: Make, which: str) -> None:
    driver, kind, value, said = REFUSED[which]
    project = await make_project(driver)
    project.execute(
        *(["SET SESSION sql_mode = ''"] if project.dialect == "mysql" else []),
        *(['CREATE DOMAIN byte AS "char"', "CREATE DOMAIN letter AS byte"] if kind == "letter" else []),
        f"CREATE TABLE things (k {kind} PRIMARY KEY, n INT NOT NULL)",
        f"INSERT INTO things VALUES ({value}, 0)".replace(":", "\\:"),
    )
    project.add("filled", None, 'op.backfill("things", {"n": "n + 1"})')
    with pytest.raises(CommandError, match=said):
        await project.upgrade()
    assert project.rows("SELECT n FROM things") == [(0,)]


@pytest.mark.filterwarnings("ignore:Did not recognize type")
@pytest.mark.parametrize(("driver", "kind"), [("psycopg", "mood"), ("asyncpg", "mood"), ("pymysql", "INET6")])
async def test_kinds_that_have_nothing_before_their_first_value(make_project: Make, driver: str, kind: str) -> None:
    project = await make_project(driver)
    values = ["::1", "::2", "ff::"] if kind == "INET6" else ["z", "a", "M"]
    if kind == "mood":
        project.execute("CREATE TYPE mood AS ENUM ('z', 'a', 'M')")
    project.execute(
        f"CREATE TABLE things (k {kind} PRIMARY KEY, n INT NOT NULL, m INT NOT NULL, o INT NOT NULL)",
        *(f"INSERT INTO things VALUES ('{value}', 0, 0, 0)".replace(":", "\\:") for value in values),
    )
    *others, statement = EVERY_WAY.strip().splitlines()
    project.add("others", None, "\n".join(others))
    project.add("filled", "others", statement)
    said = r"k is (an enum \(mood\)|of a kind \(as INET6\)).*Use op.backfill or"
    with pytest.raises(CommandError, match=said):
        await project.upgrade()
    assert project.rows("SELECT DISTINCT n, m, o FROM things") == [(1, 1, 0)]


@pytest.mark.filterwarnings("ignore:Type object")
async def test_nothing_is_less_than_no_bits(make_project: Make) -> None:
    """MariaDB takes -1 for the greatest of 64 bits, and no row would be after it."""
    project = await make_project("pymysql")
    project.execute(
        "CREATE TABLE things (k BIT(64) PRIMARY KEY, n INT NOT NULL)",
        "INSERT INTO things VALUES (b'0', 0), (b'1', 0)",
    )
    project.add("filled", None, 'op.backfill_sql("UPDATE things SET n = 1 WHERE k > :after AND k <= :upto", "things")')
    with pytest.raises(CommandError, match="nothing comes before"):
        await project.upgrade()
    assert project.rows("SELECT DISTINCT n FROM things") == [(0,)]


@pytest.mark.parametrize("driver", ["pymysql", "asyncmy"])
@pytest.mark.parametrize("charset", ["latin1", "utf8"])
async def test_characters_that_the_session_does_not_have(make_project: Make, driver: str, charset: str) -> None:
    """The server gives a question mark in their place, and no row is up to that."""
    project = await make_project(driver)
    project.execute(
        "CREATE TABLE things (k VARCHAR(20) PRIMARY KEY, note VARCHAR(20), n INT NOT NULL) COLLATE utf8mb4_bin",
        *(f"INSERT INTO things VALUES ('{value}', '{value}', 0)" for value in ("a", "b", "😀", "😁")),
    )
    url = project.url
    project.url = url.update_query_dict({"charset": charset})
    project.add("filled", None, 'op.backfill("things", {"n": "n + 1"})')
    with pytest.raises(CommandError, match=r"'\?', in which `\?` may stand for a character .* say charset=utf8mb4"):
        await project.upgrade()
    project.add(
        "filled", None, 'op.backfill_rows("things", ["note"], lambda rows: [{"note": r["note"]} for r in rows])'
    )
    with pytest.raises(CommandError, match=r"would be given `.` for each character of note"):
        await project.upgrade()
    assert project.rows("SELECT DISTINCT n FROM things") == [(0,)]
    project.execute("DELETE FROM things WHERE n = 0 AND k > 'c'")
    project.add("filled", None, 'op.backfill("things", {"n": "n + 1"})')
    await project.upgrade()
    project.url = url
    assert project.rows("SELECT k, n FROM things ORDER BY k") == [("a", 1), ("b", 1)]


LAST = {
    "date": "9999-12-31",
    "timestamp": "9999-12-31 23:59:59.999999",
    "timestamptz": "9999-12-31 23:59:59.999999+00",
}
TENFOLD = 'op.backfill_rows("prices", ["cents"], lambda rows: [{"cents": r["cents"] * 10} for r in rows], batch_size=7)'


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
@pytest.mark.parametrize("kind", LAST)
async def test_a_moment_that_stands_for_no_end(make_project: Make, driver: str, kind: str) -> None:
    """asyncpg writes it as infinity, which no row has."""
    project = await make_project(driver)
    project.execute(
        f"CREATE TABLE prices (item int, until {kind}, cents int NOT NULL, PRIMARY KEY (item, until))",
        f"INSERT INTO prices SELECT i, '{LAST[kind]}', 1 FROM generate_series(1, 20) i".replace(":", "\\:"),
        "INSERT INTO prices SELECT i, '2025-01-01', 1 FROM generate_series(1, 20) i",
    )
    bounds = "(item, until) > (:after_item, :after_until) AND (item, until) <= (:upto_item, :upto_until)"
    others = f"""
    op.backfill("prices", {{"cents": "cents * 10"}}, batch_size=7)
    op.backfill_sql("UPDATE prices SET cents = cents * 10 WHERE {bounds}", "prices", batch_size=7)
    """
    project.add("others", None, others)
    project.add("filled", "others", TENFOLD)
    if driver == "asyncpg":
        with pytest.raises(CommandError, match=r"asyncpg does not tell 9999-12-31.* from infinity.*op.backfill$"):
            await project.upgrade()
        assert project.rows("SELECT cents, count(*) FROM prices GROUP BY 1") == [(100, 40)]
    else:
        await project.upgrade()
        assert project.rows("SELECT cents, count(*) FROM prices GROUP BY 1") == [(1000, 40)]


@pytest.mark.parametrize(
    ("key", "day"),
    [("item, day", "0001-01-01"), ("day, item", "0001-01-01"), ("day, item", "9999-12-31")],
    ids=["the last row", "the first day", "the last day"],
)
async def test_a_day_that_no_batch_can_end_with(make_project: Make, key: str, day: str) -> None:
    """As asyncpg writes it, the last row would be left out; or all rows of that day would be in one batch."""
    project = await make_project("asyncpg")
    project.execute(
        f"CREATE TABLE prices (item int, day date, cents int NOT NULL, PRIMARY KEY ({key}))",
        f"INSERT INTO prices SELECT i, '{day}', 1 FROM generate_series(1, 20) i",
    )
    project.add("filled", None, 'op.backfill("prices", {"cents": "cents * 10"}, batch_size=7)')
    with pytest.raises(CommandError, match=f"asyncpg does not tell {day} from infinity"):
        await project.upgrade()
    assert project.rows("SELECT cents, count(*) FROM prices GROUP BY 1") == [(1, 20)]


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg", "pymysql", "asyncmy", "pysqlite"])
async def test_a_row_that_is_not_written_is_not_counted(make_project: Make, driver: str) -> None:
    project = await make_project(driver)
    project.numbers(20)
    if driver == "psycopg":
        project.execute(
            "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
            "CREATE TRIGGER keeps BEFORE UPDATE ON accounts FOR EACH ROW WHEN (OLD.id = 12) EXECUTE FUNCTION keep()",
        )
    rows = "import orchestrator.history.keyset as keyset\nbound = keyset.Keyset.bound\n"
    rows += "away = lambda self, key: bound(self, (key[0] if key[0] != 12 else 99,))\n"
    rows += "keyset.Keyset.bound = away\ntry:\n    {}\nfinally:\n    keyset.Keyset.bound = bound"
    body = 'op.backfill_rows("accounts", ["balance"], lambda rows: [{"done": 1} for r in rows], batch_size=9)'
    project.add("filled", None, body if driver == "psycopg" else rows.format(body))
    with pytest.raises(CommandError, match="1 of them could not be written"):
        await project.upgrade()
    assert project.rows("SELECT count(done) FROM accounts") == [(0,)]
    [left] = project.checkpoints()
    assert left["rows_changed"] == 0


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_rows_of_partitions_of_which_each_changes_something_else(make_project: Make, driver: str) -> None:
    project = await make_project(driver)
    project.execute(
        "CREATE TABLE things (id int, kind int NOT NULL, PRIMARY KEY (id, kind)) PARTITION BY LIST (kind)",
        *(f"CREATE TABLE things{kind} PARTITION OF things FOR VALUES IN ({kind})" for kind in (1, 2)),
        "INSERT INTO things SELECT i, 1 + i % 3 / 2 FROM generate_series(1, 20) i",
    )
    changes = '{"note": "a"} if row["id"] % 2 else {"n": 1}'
    project.add(
        "filled", None, f'op.backfill_rows("things", [], lambda rows: [{changes} for row in rows], batch_size=7)'
    )
    project.execute("ALTER TABLE things ADD note text, ADD n int")
    await project.upgrade()
    assert project.rows("SELECT count(*) FROM things WHERE (note IS NULL) <> (n IS NULL)") == [(20,)]
