"""What an error means, and when it is tried again."""

from __future__ import annotations

import pytest

from orchestrator.errors import (
    HeadsChangedError,
    MigrationFailedError,
    TargetAheadError,
    TargetError,
    TargetLockedError,
    TargetUnreachableError,
    WrongDatabaseError,
)
from orchestrator.execute.classify import ErrorClass, classify, is_server_down, outcome
from orchestrator.execute.retry import Retries, RetryPolicy, Schedule
from orchestrator.execute.survey import ShardHealth

CASES: list[tuple[TargetError, str, str]] = [
    (MigrationFailedError("x", code="42P07"), "permanent", "failed"),
    (MigrationFailedError("x", code="55P03"), "contention", "locked"),
    (MigrationFailedError("x", code="40P01"), "transient", "failed"),
    (MigrationFailedError("x", code="08006"), "transient", "failed"),
    (MigrationFailedError("x", code="57P01"), "transient", "failed"),
    (MigrationFailedError("x", code="57014"), "permanent", "failed"),
    (MigrationFailedError("x", kind="worker_died", retriable=True), "transient", "failed"),
    (MigrationFailedError("(sqlite3.OperationalError) database is locked"), "transient", "failed"),
    (TargetUnreachableError("x", retriable=True), "transient", "unreachable"),
    (TargetUnreachableError("x", kind="authentication", code="28P01"), "permanent", "unreachable"),
    (TargetLockedError("x"), "permanent", "locked"),
    (TargetLockedError("x", retriable=True), "contention", "locked"),
    (TargetLockedError("x", code="55P03", retriable=True), "contention", "locked"),
    (MigrationFailedError("x", kind="connection"), "transient", "failed"),
    (MigrationFailedError("x", kind="connection", code="28P01"), "permanent", "failed"),
    (MigrationFailedError("x", kind="connection", code="3D000"), "permanent", "failed"),
    (MigrationFailedError("x", kind="connection", revision="beta"), "permanent", "failed"),
    (HeadsChangedError("x", retriable=True), "contention", "locked"),
    (TargetAheadError("x"), "permanent", "ahead"),
    (WrongDatabaseError("x"), "permanent", "failed"),
]


@pytest.mark.parametrize(("error", "kind", "state"), CASES)
def test_each_error_has_its_class_and_its_outcome(error: TargetError, kind: str, state: str) -> None:
    assert (classify(error), outcome(error)) == (kind, state)


def test_retries_are_bounded_by_class_and_grow() -> None:
    policy = RetryPolicy(transient=Schedule(2, 1.0, 8.0), contention=Schedule(1, 3.0, 3.0))
    retries = Retries(policy)
    transient, contention = MigrationFailedError("x", code="08006"), MigrationFailedError("x", code="55P03")
    waits = [retries.after(transient), retries.after(contention), retries.after(transient), retries.after(transient)]
    assert [None if wait is None else int(wait) for wait in waits] == [1, 3, 2, None]
    assert retries.after(contention) is None
    assert Retries(policy).after(WrongDatabaseError("x")) is None


def test_a_shard_is_down_after_three_in_a_row_and_up_again_after_one_answer() -> None:
    health, down = ShardHealth(), TargetUnreachableError("no answer", retriable=True)
    assert is_server_down(down)
    for _ in range(2):
        health.note(down)
    health.note(TargetUnreachableError("no such database", kind="missing_database"))
    seen = []
    for result in (down, down, down, None):
        health.note(result)
        seen.append(health.reason)
    assert seen == [None, None, down, None]


def test_classes_are_the_words_of_the_metric() -> None:
    assert {kind.value for kind in ErrorClass} == {"transient", "contention", "permanent"}
