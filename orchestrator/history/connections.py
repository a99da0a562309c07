"""What a live connection of env.py's tells, as its driver has it: its session, its transaction, and its adapters."""

from __future__ import annotations

import decimal
import enum
import sys
import uuid
from contextlib import suppress
from datetime import date, datetime, time
from typing import Any

_VALUES = (str, int, bool, decimal.Decimal, date, datetime, time, uuid.UUID, enum.Enum, list)
_PSYCOPGS = frozenset({"psycopg", "psycopg_binary", "psycopg_c", "psycopg2", "sqlalchemy"})
_WRITTEN = "SELECT pg_catalog.txid_current_if_assigned() IS NOT NULL"


def backend_of(connection: Any) -> int | None:
    """The number of the server's session that a PostgreSQL connection was told when it began; None where the driver
    does not tell. SQLAlchemy's adapters for asynchronous drivers have theirs within."""
    inner = getattr(connection, "driver_connection", None) or connection
    if hasattr(inner, "get_server_pid"):  # asyncpg
        return int(inner.get_server_pid())
    if hasattr(inner, "info"):  # psycopg, psycopg2
        return int(inner.info.backend_pid)
    if key := getattr(inner, "_backend_key_data", None):  # pg8000
        return int.from_bytes(key[:4], "big", signed=True)
    return None


def commits_each(connection: Any) -> bool:
    """Whether a SQLAlchemy connection commits each statement by itself: by its isolation level, or because somebody
    has told its driver."""
    if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
        return True
    raw = connection.connection.dbapi_connection
    told = getattr(raw, "get_autocommit", None)  # MySQL's drivers
    return bool(told()) if callable(told) else getattr(raw, "autocommit", None) is True


def is_alone(connection: Any) -> bool:
    """Whether a SQLAlchemy connection has no transaction open on the server, as its driver tells: what was executed
    last stays. Where the driver does not tell, as `commits_each`."""
    if (status := _has_transaction(connection.connection.dbapi_connection)) is not None:
        return not status
    return commits_each(connection)


def adapted(connection: Any) -> str | None:
    """A type of values that a SQLAlchemy connection sends by somebody else's adapter, as psycopg and psycopg2 let
    everybody register them; None: there is none, or the driver does not tell."""
    raw = connection.connection.dbapi_connection
    inner = getattr(raw, "driver_connection", None) or raw
    find = getattr(getattr(inner, "adapters", None), "get_dumper", None)
    found: dict[type, Any] = {}
    if find is not None:  # psycopg; "s" leaves the format to the dumper
        found = {kind: find(kind, "s") for kind in _VALUES}
    elif type(inner).__module__.partition(".")[0] == "psycopg2":
        extensions = sys.modules["psycopg2.extensions"]
        found = {kind: extensions.adapters.get((kind, extensions.ISQLQuote)) for kind in _VALUES}
    foreign = (
        kind for kind, by in found.items() if by and (by.__module__ or "psycopg2").split(".")[0] not in _PSYCOPGS
    )
    return next((kind.__name__ for kind in foreign), None)


def has_written(connection: Any) -> bool:
    """Whether the transaction that a SQLAlchemy connection to PostgreSQL has open has changed anything, as the server
    tells, whoever sent it what. Asked past SQLAlchemy, whose listeners need not hear of it."""
    raw = connection.connection
    if _has_transaction(raw.dbapi_connection) is False:
        return False
    with suppress(Exception):  # its transaction has failed, and is rolled back; or it is lost
        cursor = raw.cursor()
        try:
            cursor.execute(_WRITTEN)
            return bool(cursor.fetchone()[0])
        finally:
            cursor.close()
    return False


def _has_transaction(raw: Any) -> bool | None:
    inner = getattr(raw, "driver_connection", None) or raw
    if hasattr(inner, "is_in_transaction"):  # asyncpg
        return bool(inner.is_in_transaction())
    status = getattr(getattr(inner, "info", None), "transaction_status", None)
    if status is not None:  # psycopg, psycopg2: libpq's number
        return int(status) != 0
    told = getattr(inner, "_transaction_status", None)  # pg8000: the server's letter
    return told != b"I" if isinstance(told, bytes) else None
