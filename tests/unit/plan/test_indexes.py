"""Which index a statement builds beside everybody's work."""

from __future__ import annotations

import pytest

from orchestrator.errors import HALF_APPLIED, MigrationFailedError
from orchestrator.plan import indexes
from orchestrator.plan.indexes import Built
from orchestrator.plan.statements import builds_index
from orchestrator.sessions import Timeouts


@pytest.mark.parametrize(
    ("sql", "built"),
    [
        ("CREATE INDEX CONCURRENTLY ix ON t (a)", Built("ix", "t")),
        ("create unique index concurrently IX on only T(a)", Built("ix", "T")),
        ('CREATE INDEX CONCURRENTLY IF NOT EXISTS "My ""Ix" ON "A b"."T" (a)', Built('My "Ix', '"A b"."T"')),
        ("CREATE INDEX CONCURRENTLY /* a */ ix -- b\n ON s.t USING gin (a)", Built("ix", "s.t")),
        ("CREATE INDEX CONCURRENTLY ON t (a)", None),  # the server names it
        ("CREATE INDEX ix ON t (a)", None),
        ("DROP INDEX CONCURRENTLY ix", None),
        ("REINDEX INDEX CONCURRENTLY ix", None),
        ("INSERT INTO notes VALUES ('create index concurrently ix on t')", None),
    ],
)
def test_the_index_is_found(sql: str, built: Built | None) -> None:
    assert indexes.built(sql) == built


def test_names_are_quoted_in_questions() -> None:
    assert "= 'it''s'" in indexes.question(Built("it's", "t"))
    assert "'o''neill'" in indexes.all_in("o'neill")


@pytest.mark.parametrize(
    ("sql", "builds"),
    [
        ("CREATE INDEX ix ON t (a)", True),
        ("/* why */ CREATE UNIQUE INDEX CONCURRENTLY ix ON t (a)", True),
        ("SELECT 1; REINDEX TABLE t", True),
        ("REINDEX INDEX ix", True),
        ("ALTER INDEX ix RENAME TO iy", False),
        ("CREATE TABLE index_of_things (a int)", False),
        ("COMMENT ON INDEX ix IS 'CREATE INDEX'", False),
        ("CREATE INDEX ix ON t (a) WHERE b = 'open", False),
    ],
)
def test_what_builds_an_index(sql: str, builds: bool) -> None:
    assert builds_index(sql) is builds


def test_a_failure_names_what_it_left_and_a_drop_goes_on_by_itself() -> None:
    failed = MigrationFailedError(
        "x", statement="CREATE INDEX CONCURRENTLY i ON t (a)", remedy=f"{indexes.LOOK}; then y"
    )
    indexes.complete(failed, ["s.i"])
    assert (failed.kind, failed.remedy) == (HALF_APPLIED, "DROP INDEX CONCURRENTLY s.i; then y")
    dropped = MigrationFailedError("x", statement="DROP INDEX CONCURRENTLY i")
    indexes.complete(dropped, ["s.i"])
    assert dropped.remedy == "correct the cause and retry: the statement goes on where it was"
    nothing = MigrationFailedError("x", statement="CREATE INDEX CONCURRENTLY i ON t (a)")
    indexes.complete(nothing, [])
    assert nothing.kind == "failed"


def test_limits_are_eased_and_given_back() -> None:
    timeouts = Timeouts("2000ms", "3600000ms", "86400000ms")
    assert "set_config('lock_timeout', '2147483647ms', false)" in timeouts.lifted(concurrently=True)
    assert "lock_timeout" not in timeouts.lifted(concurrently=False, local=True)
    assert "set_config('lock_timeout', '2000ms', false)" in timeouts.restored(concurrently=True)
