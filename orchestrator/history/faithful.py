"""Which bound values mean the same as text: pairs of a value's type and a column's, as a driver sends them. Pure.

In the table is what tests have seen to come out alike: value by value with PostgreSQL's drivers, in random histories
with those of SQLite and MySQL. With any other driver it is text, whole numbers and truth values. A type of the
project's own may do anything.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from typing import Any

from sqlalchemy.sql import sqltypes
from sqlalchemy.types import TypeDecorator, TypeEngine

_BY_ALL: dict[type, tuple[type[TypeEngine[Any]], ...]] = {
    str: (sqltypes.String,),
    int: (sqltypes.Integer,),
    bool: (sqltypes.Boolean,),
}
# As values of an INSERT, where the column gives both their type.
_IN_COLUMNS: dict[type, tuple[type[TypeEngine[Any]], ...]] = {
    int: (sqltypes.Numeric, sqltypes.Float),
    decimal.Decimal: (sqltypes.Numeric,),
    datetime.date: (sqltypes.Date,),
    datetime.datetime: (sqltypes.DateTime,),
    datetime.time: (sqltypes.Time,),
    uuid.UUID: (sqltypes.Uuid,),
    list: (sqltypes.ARRAY,),
}
PROVEN = frozenset({"psycopg", "asyncpg"})
# On SQLite and MySQL: by random histories, sent both ways.
_BY_HISTORIES = frozenset({"pysqlite", "aiosqlite", "pymysql", "asyncmy"})
_INFINITE = (datetime.date.min, datetime.date.max, datetime.datetime.min, datetime.datetime.max)


def objection(value: Any, type_: TypeEngine[Any], driver: str, *, in_column: bool) -> str | None:
    """Why the value, bound as this type, may be another as text; None where it is the same.

    >>> objection("a", sqltypes.Text(), "psycopg2", in_column=False)
    >>> objection(datetime.date.max, sqltypes.Date(), "asyncpg", in_column=True)
    'a bound date that asyncpg takes for an infinite one has no faithful literal'
    """
    if value is None:
        return None
    kind = type(value).__name__
    if not type(type_).__module__.startswith("sqlalchemy."):
        return f"a value is bound as {type(type_).__name__}, a type of the project's own"
    if isinstance(type_, sqltypes.Enum):
        return None if type(value) is str or (in_column and isinstance(value, enum.Enum)) else _none(kind)
    if isinstance(value, decimal.Decimal) and not value.is_finite():
        return "a bound value that is not a finite number has no faithful literal"
    if getattr(value, "tzinfo", None) is not None:
        return f"a bound {kind} with a time zone has no faithful literal"
    types = _BY_ALL.get(type(value), ())
    if in_column and driver.removesuffix("_async") in PROVEN | _BY_HISTORIES:
        types += _IN_COLUMNS.get(type(value), ())
    if not isinstance(type_, types) or (isinstance(value, decimal.Decimal) and isinstance(type_, sqltypes.Float)):
        return _none(kind)
    if isinstance(type_, sqltypes.ARRAY):
        return _of_array(value, type_)
    return _of_moment(value, type_, driver, kind)


def _none(kind: str) -> str:
    return f"a bound value of type {kind} has no faithful literal here"


def _of_moment(value: Any, type_: TypeEngine[Any], driver: str, kind: str) -> str | None:
    if driver == "asyncpg" and isinstance(value, datetime.date) and value in _INFINITE:
        return f"a bound {kind} that asyncpg takes for an infinite one has no faithful literal"
    if isinstance(value, datetime.time) and getattr(type_, "timezone", False):
        return f"a bound {kind} without a time zone has no faithful literal as one with it"
    if driver == "asyncpg" and isinstance(value, datetime.datetime) and getattr(type_, "timezone", False):
        return f"a bound {kind} without a time zone is read by asyncpg in that of its own process"
    return None


def _of_array(value: list[Any], type_: sqltypes.ARRAY[Any]) -> str | None:
    if not value:
        return "a bound list without elements has no faithful literal"
    for element in value:
        if type(element) not in _BY_ALL or not isinstance(type_.item_type, _BY_ALL[type(element)]):
            return f"a bound list of type {type(element).__name__} has no faithful literal"
    return None


def unwrapped(value: Any, type_: TypeEngine[Any], dialect: Any) -> tuple[Any, TypeEngine[Any]] | None:
    """The value and the type as a decorating type hands them on; None where it writes literals in its own way."""
    while True:
        type_ = type_._variant_mapping.get(dialect.name, type_)
        if not isinstance(type_, TypeDecorator):
            return value, type_
        kind = type(type_)
        own = (kind.process_literal_param, kind.literal_processor, kind.bind_processor)
        if own != (TypeDecorator.process_literal_param, TypeDecorator.literal_processor, TypeDecorator.bind_processor):
            return None
        if kind.process_bind_param is not TypeDecorator.process_bind_param:
            value = type_.process_bind_param(value, dialect)
        type_ = type_.load_dialect_impl(dialect)
