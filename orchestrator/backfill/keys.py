"""A row's key as text that is kept, and what lies right before it. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal
from typing import Any
from uuid import UUID

Key = tuple[Any, ...]
# How values are written that JSON has no word for: by one that tells their type.
_WRITTEN: Mapping[type, tuple[str, Any]] = {
    UUID: ("uuid", str),
    datetime: ("datetime", datetime.isoformat),
    date: ("date", date.isoformat),
    time: ("time", time.isoformat),
    Decimal: ("decimal", str),
    bytes: ("bytes", bytes.hex),
}
_READ: Mapping[str, Any] = {
    "uuid": UUID,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "decimal": Decimal,
    "bytes": bytes.fromhex,
}


def written(key: Sequence[Any]) -> str:
    """The key as JSON, from which `read` makes the same values. In ASCII, since the checkpoints may be kept in another
    character set than the table. Raises TypeError for a value that it cannot write.

    >>> written((7, "a"))
    '[7, "a"]'
    """
    return json.dumps([_plain(value) for value in key])


def read(text: str) -> Key:
    """The values of a key that `written` wrote.

    >>> read('[{"uuid": "00000000-0000-0000-0000-000000000007"}]')
    (UUID('00000000-0000-0000-0000-000000000007'),)
    """
    return tuple(_value(part) for part in json.loads(text))


def plainly(values: Iterable[Any]) -> Key:
    """The values of a row as they are compared, kept and given to the database. A moment is brought to UTC: in a time
    zone with summer time, Python takes both hours of that name for the same.

    >>> plainly([datetime.fromisoformat("2026-10-25T02:30:00+01:00"), 7])
    (datetime.datetime(2026, 10, 25, 1, 30, tzinfo=datetime.timezone.utc), 7)
    """
    return tuple(
        value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo is not None else value for value in values
    )


def told(text: str | None) -> str:
    """A kept key in words, for messages.

    >>> told('[{"date": "2026-01-31"}, 7]'), told('["a"]'), told(None)
    ('(2026-01-31, 7)', "'a'", 'the beginning')
    """
    if text is None:
        return "the beginning"
    values = [next(iter(part.values())) if isinstance(part, dict) else part for part in json.loads(text)]
    if len(values) == 1:
        return repr(values[0])
    return f"({', '.join(map(str, values))})"


def before(key: Sequence[Any]) -> Key | None:
    """Values that are less than the key and than any other that is not less: the key with its last value a little
    less. None where there is no such value, as before an empty text.

    >>> before((1, 7)), before(("a",)), before(("",)), before((date(2026, 3, 1),))
    ((1, 6), ('',), None, (datetime.date(2026, 2, 28),))
    """
    *first, last = key
    less = _less(last)
    return None if less is None else (*first, less)


def _less(value: Any) -> Any:
    if isinstance(value, float):
        return math.nextafter(value, -math.inf)
    if isinstance(value, int):
        return value - 1
    if isinstance(value, Decimal):
        return _decimal_less(value)
    if isinstance(value, date):
        step = timedelta(microseconds=1) if isinstance(value, datetime) else timedelta(days=1)
        try:
            return value - step
        except OverflowError:
            return None
    if isinstance(value, time):
        return None if value == time.min else (datetime.combine(date.max, value) - timedelta(microseconds=1)).time()
    if isinstance(value, UUID):
        return UUID(int=0) if value.int else None  # whichever bytes the database looks at first
    if isinstance(value, (str, bytes)):
        return value[:0] if value else None
    return None


def _decimal_less(value: Decimal) -> Decimal | None:
    """By 1, to the last digit: Python rounds to 28 of them where it is not told otherwise."""
    _, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):  # infinite, or not a number
        return None
    return Context(prec=len(digits) + abs(exponent) + 1).subtract(value, Decimal(1))


def _plain(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        raise TypeError(f"{type(value).__name__} is no key to go by")
    if isinstance(value, (int, str)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, (bytearray, memoryview)):
        value = bytes(value)
    for kind, (name, write) in _WRITTEN.items():
        if isinstance(value, kind):
            return {name: write(value)}
    raise TypeError(f"{type(value).__name__} is no key to go by")


def _value(part: Any) -> Any:
    if isinstance(part, dict):
        ((name, text),) = part.items()
        return _READ[name](text)
    return part
