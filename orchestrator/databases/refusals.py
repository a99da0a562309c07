"""What keeps a target from being migrated, in the same words for every kind of database."""

from __future__ import annotations

from orchestrator.databases.base import REPLAY_REFUSED, Place
from orchestrator.errors import (
    HeadsChangedError,
    MigrationFailedError,
    TargetLockedError,
    TargetUnreachableError,
    WrongDatabaseError,
)

# Kind of the error, remedy, and whether time may cure it.
Cause = tuple[str, str, bool]
UNUSABLE: Cause = (
    "unusable",
    "look at the error: the version table's shape and rights, or the database's settings",
    False,
)
NO_ANSWER: Cause = (
    "unreachable",
    "check that the server is up and that host and port of the shard's URL are right",
    True,
)
PASSWORD: Cause = (
    "authentication",
    "correct user and password in the shard's URL (or the secret it refers to)",
    False,
)
FULL: Cause = (
    "too_many_connections",
    "lower `max_concurrent` of the shard, or raise the server's max_connections",
    True,
)
MISSING: Cause = ("missing_database", "create the database, or correct `database:` of the tenant", False)
STARTING: Cause = ("starting_up", "wait until the server accepts connections", True)


def pooled(place: Place) -> TargetUnreachableError:
    """A pooler answers in the server's place: its sessions are not ours alone."""
    return TargetUnreachableError(
        f"the connection to {place.name} goes through a connection pooler (PgBouncer or the like), which shares its "
        "sessions with others: neither locks nor settings would hold. Nothing was run",
        kind="pooler",
        remedy="give the shard a `direct_url` that leads to the server itself, past the pooler; or let its `url` do so",
    )


def lock_held(place: Place, holder: str | None) -> TargetLockedError:
    """Another migration of the target is at work; `holder` in words, where it is known."""
    return TargetLockedError(
        f"another migration holds the lock of {place.name}{_by(holder)}; waited {place.limits.lock_wait:g} s",
        remedy="let it finish, or end that session, then retry",
    )


# The kind of the error when the session that holds the lock has ended.
GUARD_LOST = "guard_lost"


def guard_lost() -> TargetUnreachableError:
    return TargetUnreachableError(
        "the session that held the target's lock was lost; the migration was ended",
        kind=GUARD_LOST,
        remedy="look at the server's log for why it ended the session",
        retriable=True,
    )


def left_behind(place: Place, sessions: str, seconds: float) -> TargetLockedError:
    """Sessions of an earlier run that do not end: nothing may run beside them."""
    return TargetLockedError(
        f"an earlier run left sessions on {place.name} that do not end: {sessions}; waited {seconds:g} s",
        remedy="look at what keeps them on the server and end them there, then retry",
        retriable=True,
    )


def version_table_locked(place: Place, code: str | None, holder: str | None = None) -> TargetLockedError:
    """Somebody's session keeps the version table locked."""
    return TargetLockedError(
        f"the version table of {place.name} is locked by another session{_by(holder)}",
        code=code,
        remedy="end that session or its transaction, or retry at a quieter time",
        retriable=True,
    )


def heads_changed(said: str) -> HeadsChangedError:
    """Somebody has moved, made or dropped the version table meanwhile; `said`: how it was found."""
    return HeadsChangedError(f"the version table changed since the plan was made: {said}", retriable=True)


# What is to be ended, on a server, where a statement has waited for a lock in vain.
LOCK_HOLDER = "the session that holds the lock or its transaction"


def replay_refused(
    message: str,
    *,
    code: str | None,
    holder: str | None,
    revision: str | None = None,
    statement: str | None = None,
) -> MigrationFailedError:
    """Compiled SQL was refused; `holder`: what is to be ended, where it was refused for a lock."""
    ending = f"end {holder}, or retry at a quieter time"
    return MigrationFailedError(
        message,
        kind=REPLAY_REFUSED,
        code=code,
        revision=revision,
        statement=statement,
        remedy=ending if holder is not None else "correct the revision or the tenant's data, then retry",
    )


def elsewhere(place: Place, found: str) -> WrongDatabaseError:
    """Our own session leads to another database."""
    return WrongDatabaseError(
        f"the connection to {place.name} leads to database {found!r}; nothing was run on it",
        remedy="correct the shard's URL, or what stands between it and the server",
    )


# The kind of the error when a target could not be backed up.
BACKUP = "backup"


def backup_failed(message: str, remedy: str, *, retriable: bool = False) -> MigrationFailedError:
    """A backup could not be made, so the target is left as it was."""
    return MigrationFailedError(
        f"the backup failed: {message}; the target was not touched", kind=BACKUP, remedy=remedy, retriable=retriable
    )


def _by(holder: str | None) -> str:
    return f": {holder}" if holder is not None else ""
