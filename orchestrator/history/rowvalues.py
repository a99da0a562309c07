"""Whether a failure came out of the rows of a tenant: what a backfill's function raises is kept out of the ledger, of
events and of logs, as are the values that a server shows (`plan.rowless`). Pure."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from pathlib import Path

_PACKAGE = str(Path(__file__).parents[1]) + os.sep
# Who reads rows, by what the revision says.
_LOOP, _VERIFY = (str(Path(__file__).with_name(name)) for name in ("batches.py", "backfilling.py"))
# What PostgreSQL says by itself of a statement; other classes are those of procedural languages and of users.
_SERVERS = {"08", "0A", "21", "22", "23", "25", "28", "2B", "2D", "3D", "3F"}
_SERVERS |= {"40", "42", "44", "53", "54", "55", "57", "58", "72", "XX"}
_SIGNALS = {"1642", "1643", "1644"}
# Where an error that knows its origin comes from: RAISE of PL/pgSQL, under whatever code, and a trigger of SQLite.
_RAISED = {"exec_stmt_raise", "SQLITE_CONSTRAINT_TRIGGER"}
RAISED = "a trigger or a function has raised an error (what it says is left out, since it may show values of rows)"


def is_raised(error: BaseException, code: str | None) -> bool:
    """Whether a trigger or a function has put the text of a driver's error together, as far as that can be told.

    >>> [is_raised(Exception(), code) for code in ("P0001", "U0001", "38000", "1644")]
    [True, True, True, True]
    >>> [is_raised(Exception(), code) for code in ("22P02", "40001", "1062", None)]
    [False, False, False, False]
    """
    if any(_origins(one) & _RAISED for one in _chain(error)) or code in _SIGNALS:
        return True
    return code is not None and len(code) == 5 and code[:2] not in _SERVERS


def _origins(error: BaseException) -> set[object]:
    """As psycopg, asyncpg and sqlite3 tell it."""
    return {
        getattr(getattr(error, "diag", None), "source_function", None),
        getattr(error, "server_source_function", None),
        getattr(error, "sqlite_errorname", None),
    }


def is_in_backfill(exc: BaseException) -> bool:
    """Whether it came out of a batch or an `op.verify`, by others' code: the function that is given the rows, a driver,
    SQLAlchemy."""
    for one in _chain(exc):
        frames = traceback.extract_tb(one.__traceback__)
        if any(frame.filename == _LOOP or (frame.filename, frame.name) == (_VERIFY, "verify") for frame in frames):
            return not frames[-1].filename.startswith(_PACKAGE)
    return False


def _chain(exc: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = exc
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
