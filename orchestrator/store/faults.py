"""What drivers and operating system say when the store cannot be used, in the operator's words: the one boundary."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from orchestrator.errors import StoreError
from orchestrator.store.place import Place
from orchestrator.store.rows import storable

ELSEWHERE = "point ORCHESTRATOR_STORE_URL elsewhere"
DETAIL_LIMIT = 300


class Fault(NamedTuple):
    """`what` happened, and what to do next."""

    what: str
    remedy: str


UNREACHABLE = Fault("cannot be reached", "check host and port in ORCHESTRATOR_STORE_URL and that the server is up")
LOST = Fault("lost the connection", "check the server; the daemon goes on where it stopped when it is started again")
REFUSED = Fault("refused the credentials", "check user and password in ORCHESTRATOR_STORE_URL")
DENIED = Fault("does not grant this user what it needs", "make the user of ORCHESTRATOR_STORE_URL the database's owner")
STOPPING = Fault("is starting up or shutting down", "try again in a moment")
FULL = Fault("has no space left", f"free disk space, or {ELSEWHERE}")
GONE = Fault("has lost its file", "restore it; what was recorded since it was lost is gone with it")
FOREIGN = Fault("has tables of another application", "give the store a database of its own in ORCHESTRATOR_STORE_URL")
POOLED = Fault(
    "is behind a connection pooler (PgBouncer or the like), which shares its sessions with others: neither the lead "
    "nor locks would hold there",
    "point ORCHESTRATOR_STORE_URL to the server itself, past the pooler",
)
UNKNOWN = Fault("failed", "the message above is the database's own; the rollout's state is as last saved")

# By SQLSTATE or its first two characters: https://www.postgresql.org/docs/current/errcodes-appendix.html
POSTGRESQL: Mapping[str, Fault] = {
    "08": LOST,
    "28": REFUSED,
    "3D": Fault("does not exist on this server", "create the database, or correct its name in ORCHESTRATOR_STORE_URL"),
    "42501": DENIED,
    "42P07": FOREIGN,
    "25006": Fault("is read-only", "point ORCHESTRATOR_STORE_URL to the primary, not to a standby"),
    "53100": FULL,
    "53300": Fault("has no connection to spare", "raise max_connections, or give the store a server with room"),
    "57014": Fault("did not answer in time", "look for locks and load on the server"),
    "57P": STOPPING,
}

# By the start of SQLite's result code: https://www.sqlite.org/rescode.html
SQLITE: Mapping[str, Fault] = {
    "SQLITE_NOTADB": Fault("is not an SQLite database", f"move the file away, or {ELSEWHERE}"),
    "SQLITE_CORRUPT": Fault("is damaged", "restore it from a backup, or move it away and start anew"),
    "SQLITE_FULL": FULL,
    "SQLITE_IOERR": Fault("cannot be read or written", f"check the disk, or {ELSEWHERE}"),
    "SQLITE_READONLY": Fault("cannot be written", f"let this user write the file and its folder, or {ELSEWHERE}"),
    "SQLITE_PERM": Fault("cannot be opened", f"let this user write the file and its folder, or {ELSEWHERE}"),
    "SQLITE_BUSY": Fault("is held by another process", "end the process that keeps it locked, then try again"),
}


def store_error(exc: Exception, place: Place) -> StoreError | None:
    """The error for the operator, or None when `exc` does not come from a database or the system (it is a bug)."""
    cause = _root(exc)
    fault = _postgresql(cause) or _sqlite(cause, place.path) or _system(exc, cause)
    if fault is None:
        return None
    detail = storable(next(iter(str(cause).splitlines()), ""), DETAIL_LIMIT)
    told = f": {detail}" if detail else ""
    return StoreError(f"the store ({place}) {fault.what}{told}", remedy=fault.remedy)


def _root(exc: BaseException) -> BaseException:
    """The driver's own exception: SQLAlchemy wraps it up to twice."""
    if isinstance(exc, DBAPIError) and exc.orig is not None:
        return exc.orig.__cause__ or exc.orig
    return exc


def _postgresql(cause: BaseException) -> Fault | None:
    state = getattr(cause, "sqlstate", None)
    if not isinstance(state, str):
        return None
    return next((POSTGRESQL[state[:n]] for n in (5, 3, 2) if state[:n] in POSTGRESQL), UNKNOWN)


def _sqlite(cause: BaseException, path: Path | None) -> Fault | None:
    name = getattr(cause, "sqlite_errorname", None)
    if not isinstance(name, str):
        return None
    if name.startswith("SQLITE_CANTOPEN") and path is not None:
        return cannot_open(path)
    if "already exists" in str(cause):
        return FOREIGN
    return next((fault for code, fault in SQLITE.items() if name.startswith(code)), UNKNOWN)


def _system(exc: Exception, cause: BaseException) -> Fault | None:
    if isinstance(cause, FileNotFoundError):
        return GONE
    if isinstance(cause, (OSError, TimeoutError)):
        return UNREACHABLE
    if isinstance(exc, SQLAlchemyError) or type(cause).__module__.startswith("asyncpg"):
        return LOST if getattr(exc, "connection_invalidated", False) else UNKNOWN
    return None


def cannot_open(path: Path) -> Fault:
    """Why SQLite, which does not say, could not open the file."""
    folder = path.parent
    if path.is_dir():
        return Fault("is a folder, not a file", "add a file name to ORCHESTRATOR_STORE_URL")
    if not folder.exists():
        return Fault(f"cannot be made: there is no folder {folder}", f"create the folder, or {ELSEWHERE}")
    if not folder.is_dir():
        return Fault(f"cannot be made: {folder} is not a folder", ELSEWHERE)
    return Fault("cannot be opened", f"let this user read and write {path} and its folder, or {ELSEWHERE}")


def is_busy(exc: StoreError) -> bool:
    """Whether another process held the SQLite file just now."""
    return str(getattr(_root(exc.__cause__ or exc), "sqlite_errorname", "")).startswith("SQLITE_BUSY")
