"""Which statements of a revision that failed the database keeps."""

from __future__ import annotations

import pytest

from orchestrator.errors import HALF_APPLIED, MigrationFailedError
from orchestrator.plan.lasting import SHOWN, Lasting
from orchestrator.sessions import SessionRules

CREATE, INSERT, ALTER = "CREATE TABLE t (id int)", "INSERT INTO t VALUES (1)", "ALTER TABLE t ADD x int"


def _failed(lasting: Lasting, statement: str | None = None) -> MigrationFailedError:
    exc = MigrationFailedError("boom", code="1146", statement=statement, remedy="correct it", retriable=True)
    lasting.complete(exc, lambda text: text.replace("hunter2", "***"))
    return exc


@pytest.mark.parametrize(
    ("dialect", "executed", "failed", "kept"),
    [
        ("mysql", [], CREATE, []),
        ("mysql", [CREATE], ALTER, [CREATE]),
        ("mysql", [INSERT], "INSERT INTO nowhere VALUES (1)", []),
        ("mysql", [INSERT], ALTER, [INSERT]),
        ("mysql", [CREATE, INSERT], "UPDATE nowhere SET x = 1", [CREATE]),
        ("mysql", [INSERT, CREATE, INSERT], None, [INSERT, CREATE]),
        ("mysql", ["SELECT 1", "SHOW TABLES", "SET @x = 1"], ALTER, []),
        ("mysql", ["CREATE TEMPORARY TABLE x (id int)", INSERT], "INSERT INTO nowhere VALUES (1)", []),
        ("mysql", [INSERT, "ROLLBACK"], ALTER, []),
        ("mysql", [INSERT, "COMMIT"], "SELECT nowhere", [INSERT]),
        ("mysql", ["-- of the app\nCREATE TABLE x (id int)"], INSERT, ["-- of the app CREATE TABLE x (id int)"]),
        ("sqlite", [CREATE], ALTER, [CREATE]),
        ("sqlite", [CREATE, INSERT, ALTER], "DROP TABLE nowhere", [CREATE]),
        ("sqlite", [INSERT, ALTER], "DROP TABLE nowhere", []),
        ("sqlite", ["BEGIN", CREATE, ALTER], "DROP TABLE nowhere", []),
        ("sqlite", ["PRAGMA foreign_keys = off"], CREATE, []),
        ("sqlite", [INSERT, "COMMIT", CREATE], "DROP TABLE nowhere", [INSERT, CREATE]),
    ],
)
def test_what_stays(dialect: str, executed: list[str], failed: str | None, kept: list[str]) -> None:
    lasting = Lasting(dialect, ("beta",))
    for statement in executed:
        lasting.executed(statement)
    exc = _failed(lasting, failed)
    if kept:
        assert f"{len(kept)} of its statements stay ({'; '.join(kept)})" in exc.message
        assert exc.message.endswith("The version table still says beta")
        assert (exc.kind, exc.retriable) == (HALF_APPLIED, False)
        assert "by hand" in str(exc.remedy)
    else:
        assert (exc.message, exc.kind, exc.remedy, exc.retriable) == ("boom", "failed", "correct it", True)


def test_what_env_py_does_before_is_not_the_revisions_but_its_transaction_is() -> None:
    lasting = Lasting("sqlite", ())
    for statement in ("BEGIN", "CREATE TABLE alembic_version (version_num text)"):
        lasting.executed(statement)
    lasting.started()
    lasting.executed(CREATE)
    assert _failed(lasting).message == "boom"
    lasting.committed()
    lasting.executed(CREATE)
    assert "stay" in _failed(lasting).message


def test_revisions_that_were_brought_to_their_end_are_not_told() -> None:
    lasting = Lasting("mysql", ())
    lasting.executed(CREATE)
    lasting.executed("UPDATE alembic_version SET version_num = 'beta'")
    lasting.stamped(("beta",))
    lasting.committed()
    lasting.executed(ALTER)
    assert f"1 of its statements stay ({ALTER}). The version table still says beta" in _failed(lasting).message


@pytest.mark.parametrize(("failed", "heads"), [(ALTER, "beta"), ("SELECT nowhere", "nothing")])
def test_in_a_transaction_of_env_py_the_version_goes_back_with_it_unless_ddl_committed_it(
    failed: str, heads: str
) -> None:
    lasting = Lasting("mysql", ())
    lasting.executed(CREATE)
    lasting.executed(INSERT)
    lasting.stamped(("beta",))
    lasting.executed(INSERT)
    message = _failed(lasting, failed).message
    assert message.endswith(f"The version table still says {heads}")


def test_many_and_long_statements_are_told_in_short_and_without_secrets() -> None:
    lasting = Lasting("mysql", ("beta",))
    for number in range(1000):
        lasting.executed(f"CREATE USER u{number} IDENTIFIED BY 'hunter2' COMMENT '{'x' * 1000}'")
    message = _failed(lasting).message
    assert "1000 of its statements stay (CREATE USER u0 IDENTIFIED BY '***' COMMENT 'xxx" in message
    assert f"; and {1000 - SHOWN} more)" in message
    assert len(message) < 2500


def test_where_ddl_is_taken_back_nothing_is_followed() -> None:
    assert Lasting.of(SessionRules("postgresql", "", (), "x"), ()) is None
