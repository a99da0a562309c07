"""What an error of SQLite's means, told by its code: its words may hold the names and the values of anybody's."""

from __future__ import annotations

import sqlite3

# A code's low byte; the bytes above it tell what exactly. https://sqlite.org/rescode.html
_PRIMARY = 0xFF
# Their messages are fixed words, or name a file.
_OF_THE_FILE = frozenset(
    {
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)


def is_busy(exc: BaseException) -> bool:
    """Whether another connection keeps locked what is wanted."""
    return _code(exc) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_interrupted(exc: BaseException) -> bool:
    """Whether a progress handler of ours, or an interrupt, ended the statement."""
    return _code(exc) == sqlite3.SQLITE_INTERRUPT


def has_no_table(exc: BaseException) -> bool:
    """Whether the table that was asked is not there, for which SQLite has no code of its own."""
    return _code(exc) == sqlite3.SQLITE_ERROR and str(exc).startswith("no such table: ")


def of_the_file(exc: BaseException) -> bool:
    """Whether it tells of the file and of our rights to it, and so quotes none of its rows."""
    return _code(exc) in _OF_THE_FILE


def _code(exc: BaseException) -> int | None:
    """None: not SQLite's own but the driver's, or not an error of either."""
    code = getattr(exc, "sqlite_errorcode", None)
    return code & _PRIMARY if isinstance(code, int) else None
