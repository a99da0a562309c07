"""What an error means, and when it is tried again."""

from __future__ import annotations

from itertools import pairwise

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
    (MigrationFailedError("x", kind="backfill_stopped", retriable=True), "transient", "failed"),
    (MigrationFailedError("x", kind="backfill_aborted", code="55P03"), "permanent", "cancelled"),
    (MigrationFailedError("x", kind="backfill_too_slow", code="55P03"), "permanent", "failed"),
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
    policy = RetryPolicy(transient=Schedule(1.0, 8.0, retries=2), contention=Schedule(3.0, 3.0, retries=1))
    retries = Retries(policy)
    transient, contention = MigrationFailedError("x", code="08006"), MigrationFailedError("x", code="55P03")
    waits = [retries.after(transient), retries.after(contention), retries.after(transient), retries.after(transient)]
    assert [None if wait is None else int(wait) for wait in waits] == [1, 3, 2, None]
    assert retries.after(contention) is None
    assert Retries(policy).after(WrongDatabaseError("x")) is None


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


LOCKED = MigrationFailedError("x", code="55P03")


def _attempts(seconds: float, attempt: float, clock: Clock, retries: Retries) -> list[float]:
    """The waits until no further attempt is made, each of which takes `attempt` seconds and finds the lock held."""
    waits: list[float] = []
    for _ in range(10_000):
        clock.now += attempt
        wait = retries.after(LOCKED)
        if wait is None:
            return waits
        waits.append(wait)
        clock.now += wait
    raise AssertionError("it never ends")


@pytest.mark.parametrize("attempt", [0.0, 2.0, 45.0])
@pytest.mark.parametrize("seconds", [0.0, 5.0, 60.0, 3600.0])
def test_a_lock_is_waited_for_with_growing_pauses_and_never_beyond_the_deadline(attempt: float, seconds: float) -> None:
    clock = Clock()
    retries = Retries(RetryPolicy.within(seconds), clock)
    waits = _attempts(seconds, attempt, clock, retries)
    assert clock.now - 1000.0 <= seconds + 2 * attempt + 1e-6, "from the first failure, the last attempt included"
    assert all(later >= earlier * 0.8 for earlier, later in pairwise(waits[:-1])), waits
    assert all(wait <= 12.5 for wait in waits)
    if attempt == 2.0 and seconds == 60.0:
        assert len(waits) >= 5


def test_the_last_attempt_is_made_at_the_very_end_of_the_deadline() -> None:
    clock = Clock()
    retries = Retries(RetryPolicy.within(60.0), clock)
    _attempts(60.0, 0.0, clock, retries)
    assert 1059.0 <= clock.now <= 1060.0


def test_standing_in_a_queue_counts_against_no_deadline() -> None:
    clock = Clock()
    retries = Retries(RetryPolicy.within(10.0), clock)
    assert retries.after(LOCKED) is not None
    clock.now += 3600.0
    retries.stood(3599.0)
    assert retries.after(LOCKED) is not None
    clock.now += 3600.0
    assert retries.after(LOCKED) is None


def test_what_was_not_in_vain_begins_anew() -> None:
    clock = Clock()
    retries = Retries(RetryPolicy.within(10.0), clock)
    for _ in range(10):
        assert retries.after(LOCKED) is not None
        clock.now += 3600.0
        retries.progressed()
    assert retries.made.total() == 0
    assert retries.after(LOCKED) is not None
    clock.now += 3600.0
    assert retries.after(LOCKED) is None


def test_jitter_keeps_those_apart_that_failed_at_once() -> None:
    assert len({Retries(RetryPolicy()).after(LOCKED) for _ in range(20)}) > 10


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
