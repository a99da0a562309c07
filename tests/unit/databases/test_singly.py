"""What is sent one by one around the statements of revisions."""

from __future__ import annotations

import pytest

from orchestrator.databases import mysql_replay, singly, sqlite_replay
from orchestrator.databases.singly import Role, Sent
from orchestrator.databases.version_sql import Spelling, VersionTable
from orchestrator.errors import HeadsChangedError, MigrationFailedError
from orchestrator.events import Statement
from orchestrator.plan.compiled import Begun, Move, Script

CREATE = (
    "CREATE TABLE orchestrator_version_table_name (\n\tversion_num VARCHAR(32) NOT NULL, \n"
    "\tCONSTRAINT orchestrator_version_table_name_pkc PRIMARY KEY (version_num)\n)"
)
FIRST = Script(
    True, (), ("a",), (Begun("a"), "CREATE TABLE t (x int)", Move((), ("a",))), revisions=("a",), creates_version=True
)
MERGES = Script(True, ("a", "b"), ("c",), (Move(("a", "b"), ("c",)),), revisions=("c",))


def texts(script: Script, spelling: Spelling, name: str = "v", schema: str | None = None) -> list[str]:
    return [one.text for one in singly.statements((script,), VersionTable(name, schema, spelling), CREATE)]


def test_on_sqlite_a_script_is_a_transaction() -> None:
    assert texts(FIRST, sqlite_replay.SPELLING, 'o"dd') == [
        "BEGIN IMMEDIATE",
        'CREATE TABLE "o""dd" (\n\tversion_num VARCHAR(32) NOT NULL, \n'
        '\tCONSTRAINT "o""dd_pkc" PRIMARY KEY (version_num)\n)',
        "CREATE TABLE t (x int)",
        'INSERT INTO "o""dd" (version_num) VALUES (\'a\')',
        'SELECT version_num FROM "o""dd"',
        "COMMIT",
    ]


def test_on_mysql_the_version_tables_rows_are_kept_from_others() -> None:
    assert texts(MERGES, mysql_replay.SPELLING, "o`dd", "other") == [
        "SET autocommit = 0",
        "SELECT version_num FROM `other`.`o``dd` FOR UPDATE",
        "UPDATE `other`.`o``dd` SET version_num='c' WHERE version_num = 'a'",
        "DELETE FROM `other`.`o``dd` WHERE version_num = 'b'",
        "SELECT version_num FROM `other`.`o``dd` FOR UPDATE",
        "COMMIT",
    ]


def test_each_statement_knows_its_revision_and_what_is_complete_when_it_is_done() -> None:
    table = VersionTable("v", None, sqlite_replay.SPELLING)
    second = Script(True, ("a",), ("b",), (Move(("a",), ("b",)),), revisions=("b",))
    found = singly.statements((FIRST, second), table, CREATE)
    assert [one.revision for one in found if one.role in (Role.REVISION, Role.MOVE)] == ["a", "a", "b"]
    assert [one.revisions for one in found if one.role is Role.COMMIT] == [("a",), ("b",)]
    assert [one.heads for one in found if one.role is Role.HEADS] == [("a",), ("a",), ("b",)]


def test_heads_that_changed_before_a_revision_are_planned_anew_and_after_one_they_are_its_failure() -> None:
    singly.prove_heads(Sent("…", Role.HEADS, heads=("b", "a")), [("a",), ("b",)])
    with pytest.raises(HeadsChangedError, match="it holds nothing, not a") as changed:
        singly.prove_heads(Sent("…", Role.HEADS, heads=("a",)), [])
    assert changed.value.retriable
    with pytest.raises(MigrationFailedError, match="revision a: the version table holds a, b after it, not a"):
        singly.prove_heads(Sent("…", Role.HEADS, "a", ("a",)), [("a",), ("b",)])


def test_statements_of_revisions_are_told_without_their_literals_also_those_that_fail() -> None:
    heard: list[Statement] = []
    with singly.told(Sent("SELECT version_num FROM v", Role.HEADS), "sqlite", heard.append):
        pass
    with singly.told(Sent("INSERT INTO t VALUES ('secret')", Role.REVISION, "a"), "sqlite", heard.append):
        pass
    with (
        pytest.raises(MigrationFailedError),
        singly.told(Sent("DROP TABLE t", Role.REVISION, "b"), "mysql", heard.append),
    ):
        raise MigrationFailedError("no", code="1051")
    assert [(one.text, one.revision, one.failed, one.code) for one in heard] == [
        ("INSERT INTO t VALUES (?)", "a", False, None),
        ("DROP TABLE t", "b", True, "1051"),
    ]
