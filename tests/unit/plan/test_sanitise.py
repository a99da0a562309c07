"""No literal gets through, however it is written, whichever way a server reads backslashes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.plan import sanitise
from tests.histories import AWKWARD

SECRET = "swordfish"
DIALECTS = ["postgresql", "mysql", "mariadb", "sqlite", "oracle"]


def _plain(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _escaped(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _twice(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


# How each kind of server writes a literal, in its usual modes and in others.
FORMS = {
    "postgresql": [_plain, _escaped, lambda text: f"E{_escaped(text)}", lambda text: f"$b${text}$b$"],
    "mysql": [_plain, _escaped, _twice],
    "mariadb": [_plain, _escaped, _twice],
    "sqlite": [_plain, _twice],
}
PIECES = st.lists(st.sampled_from([*AWKWARD, "'", '"', "\\", "`", "/*", "*/", "--", "#", "x"]), max_size=5)


@given(st.data())
def test_no_literal_is_shown(data: st.DataObject) -> None:
    dialect = data.draw(st.sampled_from(sorted(FORMS)))
    written = []
    for _ in range(data.draw(st.integers(1, 4))):
        before, after = data.draw(PIECES), data.draw(PIECES)
        text = "".join([*before, SECRET, *after])
        form = data.draw(st.sampled_from(FORMS[dialect]))
        if "$b$" in form("") and "$b$" in text:
            continue
        written.append(form(text))
    sql = f"INSERT INTO people (a, b) VALUES ({', '.join(written)}) RETURNING id"
    shown = sanitise.shown(sql, dialect)
    assert SECRET not in shown
    assert shown.startswith("INSERT INTO people (a, b) VALUES (")


@pytest.mark.parametrize(
    ("name", "dialect"),
    [("[it's]", "sqlite"), ("`it's`", "sqlite"), ("`it's`", "mysql"), ('"it\'s"', "postgresql")],
)
def test_a_quote_in_a_name_does_not_turn_literals_inside_out(name: str, dialect: str) -> None:
    assert sanitise.shown(f"SELECT {name}, 'swordfish' FROM t", dialect) == f"SELECT {name}, ? FROM t"


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("comment", ["-- swordfish\n", "/* swordfish */", "/* a */ /* swordfish */"])
def test_no_comment_is_shown(dialect: str, comment: str) -> None:
    assert sanitise.shown(f"SELECT a {comment} FROM t", dialect) == "SELECT a FROM t"


@pytest.mark.parametrize(
    ("dialect", "sql", "shown"),
    [
        ("postgresql", 'SELECT "a b", t1.c2, $1, %(x)s', 'SELECT "a b", t1.c2, $1, %(x)s'),
        ("postgresql", "SELECT a::varchar(30), 1.5e-3, .5", "SELECT a::varchar(?), ?, ?"),
        ("postgresql", "/* outer /* inner */ swordfish */ SELECT 1", "SELECT ?"),
        ("postgresql", "SELECT 'never ended swordfish", "SELECT ? ..."),
        ("postgresql", "DO $x$ swordfish $y$ $x$", "DO ?"),
        ("postgresql", "DO $x$ swordfish", "DO ? ..."),
        ("postgresql", "SELECT /* swordfish", "SELECT ? ..."),
        ("mysql", "SELECT 1 # swordfish\nFROM `a b`", "SELECT ? FROM `a b`"),
        ("mysql", "SELECT 0xDEADBEEF, X'ABCD'", "SELECT ?, X?"),
        ("mysql", "SELECT 'C:\\', 'swordfish'", "SELECT ? ..."),
    ],
)
def test_what_is_shown(dialect: str, sql: str, shown: str) -> None:
    assert sanitise.shown(sql, dialect) == shown


def test_long_texts_are_cut_and_a_literal_that_is_cut_is_not_shown() -> None:
    shown = sanitise.shown("SELECT " + ", ".join(["column_name"] * 5_000), "postgresql")
    assert len(shown) == sanitise.LONGEST
    padding = " " * (sanitise.LOOKED_AT - len("SELECT '") - 5)
    assert "sword" not in sanitise.shown(f"SELECT {padding}'swordfish'", "postgresql")
    _, text = sanitise.together(("SELECT " + "a, " * 400,) * 50, "postgresql")
    assert len(text) <= sanitise.LONGEST


@pytest.mark.parametrize(
    ("sql", "operation"),
    [
        ("ALTER TABLE t ADD COLUMN a int", "ALTER TABLE"),
        ("create or replace function f() returns int", "CREATE FUNCTION"),
        ("DROP MATERIALIZED VIEW v", "DROP VIEW"),
        ("COMMENT ON COLUMN t.a IS ?", "COMMENT COLUMN"),
        ("INSERT INTO t VALUES (?)", "INSERT"),
        ("SECRET THING", "OTHER"),
        ("", "OTHER"),
    ],
)
def test_operations_are_few(sql: str, operation: str) -> None:
    assert sanitise.operation(sql) == operation
