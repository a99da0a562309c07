"""What revisions have committed before their end, followed statement by statement."""

from __future__ import annotations

import pytest

from orchestrator.errors import HALF_APPLIED, MigrationFailedError
from orchestrator.history.committed import Committed

INSERT, OTHER = "INSERT INTO t VALUES (1)", "UPDATE t SET a = 2"
HERE, ELSEWHERE = 1, 2


class Followed:
    """A migration from `before` on; `noted` are the revisions that were written down. The server says whether anything
    was `written`, and is `asked` so often."""

    def __init__(self) -> None:
        self.noted: list[str] = []
        self.written, self.asked = False, 0
        self.of = Committed(("before",), self.noted.append)
        self.of.revision("a1")

    def sends(self, sql: str, *, on: int = HERE, alone: bool = False, after: bool | None = None) -> None:
        self.of.begins(on, sql, alone, self._asked)
        self.of.executed(on, sql, alone if after is None else after)

    def commits(self, on: int = HERE) -> None:
        self.of.commits(on, self._asked)

    def _asked(self) -> bool:
        self.asked += 1
        return self.written

    def fails(self, code: str | None = "42P01", statement: str | None = "SELECT x") -> MigrationFailedError:
        exc = MigrationFailedError("boom", code=code, statement=statement, retriable=True)
        self.of.complete(exc, lambda text: text.replace("hunter2", "***"))
        return exc


def test_what_a_failed_transaction_had_done_is_of_no_matter() -> None:
    one = Followed()
    one.sends(INSERT)
    one.of.rolled_back(HERE)
    assert (one.fails().message, one.noted) == ("boom", [])


def test_a_commit_in_the_middle_is_written_down_before_and_told_after() -> None:
    one = Followed()
    one.sends(INSERT)
    one.commits()
    assert one.noted == ["a1"]
    exc = one.fails()
    assert (exc.kind, exc.retriable) == (HALF_APPLIED, False)
    assert f"stays ({INSERT}). The version table still says before" in exc.message


def test_a_commit_that_the_server_refuses_leaves_nothing() -> None:
    one = Followed()
    one.sends(INSERT)
    one.commits()
    assert one.fails("23503", statement=None).message == "boom"
    assert one.noted == ["a1"], "nobody could know that before"


def test_a_commit_that_brings_the_version_table_along_leaves_nothing_in_doubt() -> None:
    one = Followed()
    one.sends(INSERT)
    one.of.stamped(HERE, ("a1",))
    one.commits()
    one.of.revision("b2")
    one.sends(OTHER)
    assert (one.fails().message, one.noted) == ("boom", [])


def test_what_one_session_commits_is_not_what_another_has_open() -> None:
    one = Followed()
    one.sends(INSERT)
    one.sends(OTHER, on=ELSEWHERE)
    one.commits(ELSEWHERE)
    message = one.fails().message
    assert OTHER in message
    assert INSERT not in message


@pytest.mark.parametrize(
    ("code", "told"), [("08006", "may be half applied"), ("57014", None), (None, None), ("57P01", None)]
)
def test_a_statement_that_was_on_its_way_when_the_connection_was_lost_may_have_been_done(
    code: str | None, told: str | None
) -> None:
    one = Followed()
    one.of.begins(HERE, "INSERT INTO t VALUES ('hunter2')", True, bool)
    exc = one.fails(code, "INSERT")
    assert (told or "boom") in exc.message
    assert (exc.kind == HALF_APPLIED) is (told is not None)
    assert "hunter2" not in exc.message


def test_reading_outside_of_transactions_is_nothing() -> None:
    one = Followed()
    for sql in ("SELECT a FROM t", "SET work_mem = '1MB'", "CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON t (a)"):
        one.of.begins(HERE, sql, True, bool)
    assert one.noted == []


def test_after_a_commit_as_a_statement_nothing_is_in_a_transaction_until_the_driver_begins_one() -> None:
    one = Followed()
    one.sends("COMMIT", after=True)
    assert one.noted == []
    one.sends(INSERT, after=True)
    assert one.noted == ["a1"]
    one.of.revision("b2")
    one.sends("SELECT 1", after=False)  # the driver has begun one
    one.sends(OTHER)
    assert one.noted == ["a1"]


CALL = "SELECT bump()"


@pytest.mark.parametrize("sql", [CALL, None], ids=["a function", "past SQLAlchemy"])
def test_what_no_statement_tells_the_server_does(sql: str | None) -> None:
    one = Followed()
    if sql is not None:
        one.sends(sql)
    one.written = True
    one.commits()
    assert one.noted == ["a1"]
    exc = one.fails()
    assert exc.kind == HALF_APPLIED
    assert (sql or "past SQLAlchemy") in exc.message


def test_a_function_that_only_reads_leaves_nothing_when_it_is_committed() -> None:
    one = Followed()
    one.sends(CALL)
    one.commits()
    assert (one.asked, one.noted, one.fails().kind) == (1, [], "failed")


def test_a_commit_as_a_statement_is_asked_about_as_well() -> None:
    one = Followed()
    one.written = True
    one.sends("COMMIT", after=True)
    assert one.noted == ["a1"]
    assert one.fails().kind == HALF_APPLIED


def test_what_the_version_table_has_brought_along_is_not_asked_about() -> None:
    one = Followed()
    one.written = True
    one.sends(CALL)
    one.of.stamped(HERE, ("a1",))
    one.commits()
    assert (one.asked, one.noted, one.fails().kind) == (0, [], "failed")


def test_what_the_transaction_held_before_the_revision_is_not_taken_for_the_revisions() -> None:
    one = Followed()
    one.written = True
    one.of.stamped(HERE, ("a1",))
    one.of.revision("b2", HERE, written=True)
    one.commits()
    assert (one.asked, one.noted) == (0, [])


def test_a_function_that_is_called_where_the_server_cannot_tell_counts() -> None:
    one = Followed()
    one.of.stamped(HERE, ("a1",))
    one.of.revision("b2", HERE, written=True)
    one.sends(CALL)
    one.commits()
    assert (one.noted, one.fails().kind) == (["b2"], HALF_APPLIED)


def test_a_function_that_is_called_outside_of_transactions_stays() -> None:
    one = Followed()
    one.sends(CALL, alone=True)
    assert f"stays ({CALL})" in one.fails().message
