"""What MySQL's error numbers mean for a target, and that they are told apart from SQLSTATEs."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import OperationalError

from orchestrator.errors import HALF_APPLIED, MigrationFailedError, TargetError
from orchestrator.execute.classify import ErrorClass, classify, outcome
from orchestrator.history import failures
from orchestrator.rollout.state import MigrationState


class _Driver(Exception):
    """As asyncmy and PyMySQL raise: number and text, and perhaps an SQLSTATE that tells little."""

    sqlstate = "HY000"


def _failed(*args: object, revision: str | None = "beta") -> TargetError:
    return failures.translate(OperationalError("ALTER TABLE t", {}, _Driver(*args)), revision, "/nowhere")


@pytest.mark.parametrize(
    ("number", "expected", "ends_as"),
    [
        (1205, ErrorClass.CONTENTION, MigrationState.LOCKED),
        (3572, ErrorClass.CONTENTION, MigrationState.LOCKED),
        (1213, ErrorClass.TRANSIENT, MigrationState.FAILED),
        (1040, ErrorClass.TRANSIENT, MigrationState.FAILED),
        (2006, ErrorClass.TRANSIENT, MigrationState.FAILED),
        (2013, ErrorClass.TRANSIENT, MigrationState.FAILED),
        (1317, ErrorClass.PERMANENT, MigrationState.FAILED),
        (1969, ErrorClass.PERMANENT, MigrationState.FAILED),
        (3024, ErrorClass.PERMANENT, MigrationState.FAILED),
        (1050, ErrorClass.PERMANENT, MigrationState.FAILED),
        (1064, ErrorClass.PERMANENT, MigrationState.FAILED),
    ],
)
def test_error_numbers(number: int, expected: ErrorClass, ends_as: MigrationState) -> None:
    exc = _failed(number, "said the server")
    assert exc.code == str(number)
    assert classify(exc) is expected
    assert outcome(exc) is ends_as


def test_a_password_that_env_py_has_wrong_is_not_tried_again() -> None:
    assert classify(_failed(1045, "Access denied", revision=None)) is ErrorClass.PERMANENT
    assert classify(_failed(2003, "Can't connect", revision=None)) is ErrorClass.TRANSIENT


def test_a_revision_that_is_half_applied_is_not_tried_again_whatever_stopped_it() -> None:
    exc = MigrationFailedError("Lock wait timeout exceeded", code="1205", kind=HALF_APPLIED)
    assert classify(exc) is ErrorClass.PERMANENT
    assert outcome(exc) is MigrationState.FAILED


def test_numbers_of_the_operating_system_are_none_of_the_server() -> None:
    exc = OperationalError("SELECT 1", {}, ConnectionRefusedError(111, "refused"))
    assert failures.sqlstate(exc) is None
