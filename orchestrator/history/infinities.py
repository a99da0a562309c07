"""Dates and moments that a driver does not tell from infinite ones: the least and the greatest that Python has. Pure.

asyncpg reads both as Python's, and writes the infinite one; psycopg2 reads both as Python's, and writes the other. Both
are in use: 9999-12-31 stands for "until further notice" in many tables.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

_INFINITE_WHEN_WRITTEN, _FINITE_WHEN_WRITTEN = "asyncpg", "psycopg2"


def mistaken(value: Any, driver: str, *, equal: bool) -> bool:
    """Whether the driver may bring a key's value to the database as another that leaves rows out: `equal`, where rows
    are found by the very value, otherwise, where they are found in a range that it ends.

    >>> mistaken(date.max, "asyncpg", equal=True), mistaken(date.max, "asyncpg", equal=False)
    (True, False)
    >>> mistaken(datetime.min, "asyncpg", equal=False), mistaken(datetime(9999, 12, 31), "asyncpg", equal=True)
    (True, False)
    """
    if driver not in (_INFINITE_WHEN_WRITTEN, _FINITE_WHEN_WRITTEN):
        return False
    if not equal and driver == _INFINITE_WHEN_WRITTEN and _is_one_of(value, date.max, datetime.max):
        return False  # the range goes on to the infinite one, and nothing is beyond it
    return _is_one_of(value, date.max, datetime.max) or _is_one_of(value, date.min, datetime.min)


def _is_one_of(value: Any, day: date, moment: datetime) -> bool:
    if isinstance(value, datetime):
        return value.replace(tzinfo=None) == moment
    return isinstance(value, date) and value == day
