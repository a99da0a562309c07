"""What an error means for the target: try again, on which schedule, and which outcome in the end. Pure."""

from __future__ import annotations

from enum import StrEnum

from orchestrator.errors import (
    BACKFILL_ABORTED,
    BACKFILL_TOO_SLOW,
    HALF_APPLIED,
    HeadsChangedError,
    TargetAheadError,
    TargetError,
    TargetLockedError,
    TargetSkippedError,
    TargetUnreachableError,
)
from orchestrator.rollout.state import Failure, MigrationState


class ErrorClass(StrEnum):
    """`contention` may pass when others let go, `transient` when time passes; `permanent` needs a person."""

    TRANSIENT = "transient"
    CONTENTION = "contention"
    PERMANENT = "permanent"


# SQLSTATEs and classes of them: https://www.postgresql.org/docs/current/errcodes-appendix.html
_TRANSIENT = ("08", "40001", "40P01", "53300", "57P01", "57P02", "57P03", "57P05")
_CONTENTION = ("55P03",)
_REFUSED = ("28", "3D000")
# MySQL's error numbers: deadlock; no connection, or too many; a session that was lost or ended. Not among them are
# statements that took too long (1969, 3024) or were ended (1317): these would do so again.
_TRANSIENT_MYSQL = frozenset(
    {"1213", "1040", "1203", "2002", "2003", "2006", "2013", "2055", "1053", "1927", "4031", "1226"}
)
_CONTENTION_MYSQL = frozenset({"1205", "3572"})
_REFUSED_MYSQL = frozenset({"1044", "1045", "1049", "1698"})


def classify(exc: TargetError) -> ErrorClass:
    """
    >>> classify(TargetError("canceling statement due to lock timeout", code="55P03")).value
    'contention'
    >>> classify(TargetError("relation exists", code="42P07")).value
    'permanent'
    """
    if exc.kind in (HALF_APPLIED, BACKFILL_ABORTED, BACKFILL_TOO_SLOW):
        return ErrorClass.PERMANENT
    if isinstance(exc, HeadsChangedError) or is_lock_timeout(exc):
        return ErrorClass.CONTENTION
    if isinstance(exc, TargetLockedError) and exc.retriable:
        return ErrorClass.CONTENTION
    if isinstance(exc, TargetUnreachableError):
        return ErrorClass.TRANSIENT if exc.retriable else ErrorClass.PERMANENT
    if exc.retriable or _is_transient(exc.code or "") or _is_busy_sqlite(exc) or _could_not_connect(exc):
        return ErrorClass.TRANSIENT
    return ErrorClass.PERMANENT


def is_lock_timeout(exc: TargetError) -> bool:
    """Whether a statement waited in vain for a lock.

    >>> is_lock_timeout(TargetError("Lock wait timeout exceeded", code="1205"))
    True
    """
    return (exc.code or "").startswith(_CONTENTION) or exc.code in _CONTENTION_MYSQL


def _is_transient(code: str) -> bool:
    return code.startswith(_TRANSIENT) or code in _TRANSIENT_MYSQL


def outcome(exc: TargetError) -> MigrationState:
    """How a target ends when no further attempt is made."""
    if exc.kind in (HALF_APPLIED, BACKFILL_TOO_SLOW):
        return MigrationState.FAILED
    if exc.kind == BACKFILL_ABORTED:
        return MigrationState.CANCELLED
    if isinstance(exc, TargetAheadError):
        return MigrationState.AHEAD
    if isinstance(exc, TargetSkippedError):
        return MigrationState.SKIPPED
    if isinstance(exc, TargetLockedError) or classify(exc) is ErrorClass.CONTENTION:
        return MigrationState.LOCKED
    if isinstance(exc, TargetUnreachableError):
        return MigrationState.UNREACHABLE
    return MigrationState.FAILED


def failure(exc: TargetError) -> Failure:
    return Failure(exc.kind, exc.message, exc.remedy, exc.code, exc.revision, exc.statement)


def is_server_down(exc: TargetError) -> bool:
    """True when no connection could be had for a reason that the shard's other targets share."""
    return isinstance(exc, TargetUnreachableError) and exc.kind == "unreachable"


def _could_not_connect(exc: TargetError) -> bool:
    """True when env.py got no connection. An OSError in a revision has the same kind, and is its own."""
    refused = (exc.code or "").startswith(_REFUSED) or exc.code in _REFUSED_MYSQL
    return exc.kind == "connection" and exc.revision is None and not refused


def _is_busy_sqlite(exc: TargetError) -> bool:
    return "database is locked" in exc.message
