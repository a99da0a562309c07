"""What a driver is handed for a statement: as a digest, and held against SQL with the values in it, which must be the
same text, with a literal in the place of each value that the server takes for it."""

from __future__ import annotations

import datetime
import decimal
import hashlib
import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy.engine import Dialect

from orchestrator.history.literals import Pieces, UnfaithfulError
from orchestrator.history.rehearsal import Sent
from orchestrator.registry.model import MYSQL_DIALECTS

# Where values stand in a statement, in the ways of drivers to write it. A doubled percent sign is one.
_PLACES = {
    "pyformat": re.compile(r"%\((?P<name>[^)]*)\)s|(?P<sign>%%)"),
    "format": re.compile(r"%s|(?P<sign>%%)"),
    "numeric_dollar": re.compile(r"\$(?P<number>\d+)"),
    "qmark": re.compile(r"\?"),
}
# Drivers whose `executemany` sends a statement for each row; and those that send all rows of a plain INSERT in one, up
# to so many bytes: numbers that the server gives to rows are others then.
_ROW_BY_ROW = frozenset({"psycopg", "psycopg_async", "psycopg2", "asyncpg", "pg8000", "pysqlite", "aiosqlite"})
_IN_ONE = frozenset({"pymysql", "asyncmy"})
_MOST_BYTES = 1_000_000
# Behind these words a number is a column's place, where a bound one is a number.
_ORDERS = re.compile(r"\b(?:order|group)\s+by\b", re.IGNORECASE)
_PLACED = re.compile(rf"{_ORDERS.pattern}(?:(?!\b(?:limit|offset)\b)[^()])*$", re.IGNORECASE)
# Values that have a literal in any place, and those that have one as a column's.
_ANYWHERE: frozenset[type] = frozenset({bool, int, str, type(None)})
_IN_COLUMNS: frozenset[type] = _ANYWHERE | {decimal.Decimal, datetime.date, datetime.datetime, datetime.time, uuid.UUID}
_PLAIN = _IN_COLUMNS | {float, bytes}


def digest(sent: Sent, dialect: Dialect) -> str:
    """Stands for what a cursor was handed: equal for equal text and values, and neither can be read from it.

    Values that cannot be told apart by what they are have a digest of their own each time.
    """
    made = hashlib.blake2b(sent.statement.encode("utf-8", "surrogatepass"), digest_size=12)
    made.update(b"many" if sent.many else b"one")
    for row in sent.rows:
        made.update(repr(_told(row or (), dialect)).encode("utf-8", "surrogatepass"))
    return made.hexdigest()


def prove(texts: Sequence[Pieces], sent: Sequence[Sent], dialect: Dialect) -> None:
    """Raise UnfaithfulError unless these texts mean what was sent."""
    if any(one.many for one in sent) and dialect.driver not in _ROW_BY_ROW | _IN_ONE:
        raise UnfaithfulError(f"{dialect.driver} may send many rows in one statement")
    spread = [(one.statement, row) for one in sent for row in one.rows]
    if len(spread) != len(texts):
        raise UnfaithfulError(f"{dialect.driver} is sent {len(spread)} statements where compiled SQL has {len(texts)}")
    for pieces, (statement, row) in zip(texts, spread, strict=True):
        between, values = _apart(statement, row or (), dialect.paramstyle)
        if _stripped(between) != _stripped(pieces.parts[::2]):
            raise UnfaithfulError("online its SQL is another text")
        allowed = _IN_COLUMNS if pieces.in_columns else _ANYWHERE
        for value, literal in zip(values, pieces.parts[1::2], strict=True):
            _prove_value(value, literal, dialect, allowed)
        if not pieces.in_columns and _orders_by_value(between, values):
            raise UnfaithfulError("a bound number that rows are ordered by has no faithful literal")


def written(texts: Sequence[Pieces], sent: Sequence[Sent], dialect: Dialect) -> tuple[str, ...]:
    """Texts that were proved, as so many statements as the driver sends. Raises UnfaithfulError where that is not
    known."""
    found = tuple(pieces.text for pieces in texts)
    if dialect.driver not in _IN_ONE or not any(one.many for one in sent) or not all(map(_is_plain_row, texts)):
        return found
    head = texts[0].parts[0].removesuffix("(")
    together = head + ", ".join(text.removeprefix(head) for text in found)
    if len(together.encode()) > _MOST_BYTES:
        raise UnfaithfulError(f"{dialect.driver} may send its rows in several statements")
    return (together,)


def _orders_by_value(between: Sequence[str], values: Sequence[Any]) -> bool:
    if not _ORDERS.search("".join(between)):
        return False
    before = ("".join(between[:place]) for place in range(1, len(between)))
    return any(type(value) is int and _PLACED.search(text) for text, value in zip(before, values, strict=True))


def _is_plain_row(pieces: Pieces) -> bool:
    first, *between, last = pieces.parts[::2] if len(pieces.parts) > 1 else ("", "")
    return first.endswith(" VALUES (") and last == ")" and {", "}.issuperset(between)


def _apart(statement: str, row: Any, style: str) -> tuple[list[str], list[Any]]:
    """The text between values, and the values in the order of the text."""
    if style not in _PLACES:
        raise UnfaithfulError(f"parameters are written in the style {style!r}")
    between, values, start = [""], [], 0
    positions = iter(row)
    for found in _PLACES[style].finditer(statement) if row or style.endswith("format") else ():
        between[-1] += statement[start : found.start()]
        start = found.end()
        if found.groupdict().get("sign"):
            between[-1] += "%"
            continue
        values.append(_value(found, row, positions))
        between.append("")
    between[-1] += statement[start:]
    return between, values


def _value(found: re.Match[str], row: Any, positions: Iterator[Any]) -> Any:
    groups = found.groupdict()
    try:
        if "name" in groups:
            return row[groups["name"]]
        if "number" in groups:
            return row[int(groups["number"]) - 1]
        return next(positions)
    except (LookupError, StopIteration) as exc:
        raise UnfaithfulError("its text holds what looks like a parameter") from exc


def _stripped(pieces: Sequence[str]) -> list[str]:
    """Space at both ends of a statement does not count."""
    found = list(pieces)
    found[0] = found[0].lstrip()
    found[-1] = found[-1].rstrip()
    return found


def _prove_value(value: Any, literal: str, dialect: Dialect, allowed: frozenset[type]) -> None:
    is_json, value = _unwrapped(value, dialect)
    for one in value if isinstance(value, list) else (value,):
        if not is_json and type(one) not in allowed:
            raise UnfaithfulError(f"the driver is handed a {type(one).__name__}, which has no faithful literal here")
        if getattr(one, "tzinfo", None) is not None:
            raise UnfaithfulError(f"the driver is handed a {type(one).__name__} with a time zone")
    if not _means(value, literal, dialect.name):
        raise UnfaithfulError(f"the driver is handed a {type(value).__name__} that its literal does not mean")


def _means(value: Any, literal: str, dialect: str) -> bool:
    if literal.startswith("(-") and literal.endswith(")"):
        literal = literal[1:-1]
    if dialect != "postgresql" and isinstance(value, bool):
        value = int(value)
    if dialect in MYSQL_DIALECTS:
        if isinstance(value, decimal.Decimal) and "E" in literal:
            return False  # such a number is a floating-point one there
        literal = _TRUTH.get(literal, literal)
        value = value.replace("\\", "\\\\") if isinstance(value, str) else value
    if literal == _literal(value):
        return True
    read: Callable[[str], Any] | None = _READERS.get(type(value))
    if read is None or not (literal.startswith("'") and literal.endswith("'")):
        return False
    try:
        return bool(read(literal[1:-1]) == value)
    except ValueError:
        return False


# MySQL has no truth values of its own.
_TRUTH = {"true": "1", "false": "0"}
_READERS: Mapping[type, Callable[[str], Any]] = {
    datetime.date: datetime.date.fromisoformat,
    datetime.datetime: datetime.datetime.fromisoformat,
    datetime.time: datetime.time.fromisoformat,
    uuid.UUID: uuid.UUID,
}


def _literal(value: Any) -> str | None:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, decimal.Decimal)):
        return str(value)
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, list):
        return f"ARRAY[{', '.join(_literal(one) or '?' for one in value)}]"
    if isinstance(value, (datetime.date, datetime.time, uuid.UUID)):
        return f"'{value}'"
    return None


def _unwrapped(value: Any, dialect: Dialect) -> tuple[bool, Any]:
    """Psycopg is handed JSON in an object of its own, and writes it down itself."""
    if type(value).__module__ != "psycopg.types.json":
        return False, value
    written = (value.dumps or getattr(dialect, "_json_serializer", None) or json.dumps)(value.obj)
    return True, written if isinstance(written, str) else written.decode()


def _told(value: Any, dialect: Dialect) -> Any:
    """What can be compared by its `repr`."""
    _, value = _unwrapped(value, dialect)
    if isinstance(value, Mapping):
        return sorted((str(name), _told(one, dialect)) for name, one in value.items())
    if isinstance(value, (list, tuple)):
        return [_told(one, dialect) for one in value]
    kind = type(value)
    return value if kind in _PLAIN else (kind.__module__, kind.__qualname__, repr(value))
