"""Bounds of a statement count where they are code, to each kind of server."""

from __future__ import annotations

import pytest

from orchestrator.history import scanner

BOUNDS = "id > :after AND id <= :upto"
CODE = {
    "postgresql": [
        f"UPDATE t SET a = 'it''s' WHERE {BOUNDS}",
        f"UPDATE t SET a = \"it's\" WHERE {BOUNDS} AND \"she's\" <> ''",
        f'UPDATE t SET a = "a--b" WHERE {BOUNDS}',
        f"UPDATE t SET a = $$it's$$ WHERE {BOUNDS} AND $$she's$$ <> ''",
        f"UPDATE t SET a = $x$ $$ it's $x$ WHERE {BOUNDS}",
        f"UPDATE t SET a = E'it\\'s' WHERE {BOUNDS} AND b <> E'she\\'s'",
        f"UPDATE t SET a = 'C:\\' WHERE {BOUNDS} AND b <> 'D:\\'",
        f"UPDATE t SET a = E'it'\n'\\'s' WHERE {BOUNDS} AND b <> ''",
        f"UPDATE t SET a = /* one /* two */ */ 1 WHERE {BOUNDS}",
        f"UPDATE t SET a = namE'it' WHERE {BOUNDS}",
        f"UPDATE t SET a$x$ = b$x$ WHERE {BOUNDS}",
        f"UPDATE t SET a = a # 1 WHERE {BOUNDS}",
        f"UPDATE t SET a = 1 -- it's all\nWHERE {BOUNDS}",
    ],
    "mysql": [
        f"UPDATE t SET a = \"it's\" WHERE {BOUNDS} AND \"she's\" <> ''",
        f"UPDATE t SET a = 'it\\'s' WHERE {BOUNDS} AND b <> 'she\\'s'",
        f"UPDATE t SET `it's` = 1 WHERE {BOUNDS} AND `it's` IS NOT NULL",
        f"UPDATE t SET a = 1 /*! WHERE {BOUNDS} */",
        f"UPDATE t SET a = 5--1 WHERE {BOUNDS}",
        f"UPDATE t SET a = 1 # it's all\nWHERE {BOUNDS}",
        f"UPDATE t SET a = 1 -- it's all\nWHERE {BOUNDS}",
        f"UPDATE t SET a = 1 /* one /* two */ WHERE {BOUNDS}",
    ],
    "sqlite": [
        f"UPDATE t SET a = [it's] WHERE {BOUNDS} AND [it's] IS NULL",
        f"UPDATE t SET a = \"it's\" WHERE {BOUNDS} AND `she's` <> ''",
        f"UPDATE t SET a = 'C:\\' WHERE {BOUNDS} AND b <> 'D:\\'",
    ],
}
NO_CODE = {
    "postgresql": [
        "UPDATE t SET a = 1 /* /* x */ :after :upto */",
        "UPDATE t SET a = 1 -- :after :upto",
        "UPDATE t SET a = $$ :after :upto $$",
        "UPDATE t SET a = $a$ $b$ :after :upto $a$",
        "UPDATE t SET a = E'\\\\\\' :after :upto'",
        "UPDATE t SET a = e'it''s \\' :after :upto'",
        "UPDATE t SET a = E'it'\n'\\' :after :upto'",
        'UPDATE t SET a = ":after "" :upto"',
        "UPDATE t SET a = ' :after :upto",
        "UPDATE t SET a = 1 /* :after :upto",
        "UPDATE t SET a = $$ :after :upto",
    ],
    "mysql": [
        "UPDATE t SET a = 1 # :after :upto",
        "UPDATE t SET a = 1 -- :after :upto",
        'UPDATE t SET a = ":after :upto"',
        'UPDATE t SET a = "\\" :after :upto"',
        "UPDATE t SET a = 'it\\'s :after :upto'",
        "UPDATE t SET `:after :upto` = 1",
        "UPDATE t SET a = 1 /*!99999 :after :upto */",
        "UPDATE t SET a = 1 /* :after :upto */",
    ],
    "sqlite": [
        'UPDATE t SET a = ":after :upto"',
        "UPDATE t SET [:after :upto] = 1",
        "UPDATE t SET `:after :upto` = 1",
        "UPDATE t SET a = 1 /* :after /* :upto */",
    ],
}


@pytest.mark.parametrize(("dialect", "sql"), [(dialect, sql) for dialect, all_ in CODE.items() for sql in all_])
def test_bounds_beside_what_is_quoted_are_code(dialect: str, sql: str) -> None:
    code = scanner.code(sql, dialect)
    assert ":after" in code
    assert ":upto" in code


@pytest.mark.parametrize(("dialect", "sql"), [(dialect, sql) for dialect, all_ in NO_CODE.items() for sql in all_])
def test_bounds_in_comments_and_quotes_are_no_code(dialect: str, sql: str) -> None:
    code = scanner.code(sql, dialect)
    assert code.startswith("UPDATE t SET")
    assert ":after" not in code
    assert ":upto" not in code


def test_mariadb_reads_as_mysql_does() -> None:
    assert scanner.code("SELECT `a` # b", "mariadb") == "SELECT    "


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("SELECT Id FROM Others", {"select", "id", "from", "others"}),
        ('SELECT * FROM "Mine"."it""s"', {"select", "from", "Mine", 'it"s'}),
        ("SELECT 'others' -- others\n", {"select"}),
    ],
)
def test_names_are_what_the_server_takes_them_for(sql: str, names: set[str]) -> None:
    assert scanner.names(sql, "postgresql") == names
