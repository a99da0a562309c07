"""Which statements are replayed on MySQL and SQLite, and why others are left to env.py."""

from __future__ import annotations

import pytest

from orchestrator.plan.objections import objection


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t VALUES ('a; commit', \"b; set x\") -- set",
        "CREATE TRIGGER a AFTER INSERT ON t BEGIN INSERT INTO t VALUES ('x'); SELECT 1; END",
        "UPDATE t SET a = 'a -- no comment'",
        "CREATE TABLE pragma_of (a int);",
        "CREATE TABLE t (temp int)",
    ],
)
@pytest.mark.parametrize("dialect", ["sqlite", "mysql", "mariadb"])
def test_what_stands_for_itself_is_replayed(sql: str, dialect: str) -> None:
    assert objection(sql, dialect) is None


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("/* why */ PRAGMA foreign_keys = OFF", "it changes its session: PRAGMA"),
        ("CREATE TEMP TABLE t (a int)", "it changes its session: CREATE"),
        ("CREATE TABLE temp.t (a int)", "it changes its session: CREATE"),
        ("vacuum", "it cannot run in a transaction: VACUUM"),
        ("ATTACH 'x' AS y", "it changes its session: ATTACH"),
        ("COMMIT", "it has a COMMIT of its own"),
        ("DROP TABLE a; DROP TABLE b", "it sends several statements at once"),
        ("-- nothing", "it sends a statement without a word"),
        ("SELECT 'open", "it has a quoted text that does not end"),
    ],
)
def test_what_is_left_to_env_py_on_sqlite(sql: str, said: str) -> None:
    assert objection(sql, "sqlite") == said


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SET foreign_key_checks = 0", "it changes its session: SET"),
        ("USE other", "it changes its session: USE"),
        ("LOCK TABLES t WRITE", "it changes its session: LOCK"),
        ("CALL p()", "it changes its session: CALL"),
        ("CREATE TEMPORARY TABLE t (a int)", "it changes its session: CREATE"),
        ("CREATE OR REPLACE TEMPORARY TABLE t (a int)", "it changes its session: CREATE"),
        ("SELECT a INTO @x FROM t", "it changes its session: a variable"),
        ("SELECT GET_LOCK('a', 1)", "it changes its session: a lock"),
        ("LOAD DATA LOCAL INFILE 'x' INTO TABLE t", "its client has a part in it: LOAD"),
        ("START TRANSACTION", "it has a START of its own"),
        ("DROP TABLE a; DROP TABLE b", "it sends several statements at once"),
        (
            "CREATE PROCEDURE p() BEGIN SELECT 1; END; CREATE PROCEDURE q() BEGIN SELECT 1; END",
            "it sends several statements at once",
        ),
        ("CREATE PROCEDURE p() SELECT 1; DROP TABLE t", "it sends several statements at once"),
        ("UPDATE t SET a = 5--3", "it has a comment that servers read in different ways"),
        ("/*!50000 SET x = 1 */", "it sends a statement without a word"),
        ("SELECT /*M! 1, */ 2", "it has a comment that servers read in different ways"),
    ],
)
def test_what_is_left_to_env_py_on_mysql(sql: str, said: str) -> None:
    assert objection(sql, "mysql") == said


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE DEFINER=`root`@`localhost` TRIGGER a BEFORE INSERT ON t FOR EACH ROW BEGIN SET NEW.a = 1; END",
        "CREATE PROCEDURE p()\nBEGIN\n\tDECLARE m int; # it's\n\tSET m = 2;\nEND",
        "UPDATE t SET a = 'back\\'slash; set'",
        "ALTER TABLE t ADD b int DEFAULT 0, LOCK=NONE",
        "SELECT @@version",
    ],
)
def test_what_is_replayed_on_mysql(sql: str) -> None:
    assert objection(sql, "mysql") is None
