"""What a backfill does to the rows of one batch."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import copy
from functools import cache
from typing import Any, Protocol

import sqlalchemy as sa
from alembic.util import CommandError
from sqlalchemy.dialects.postgresql import BIT
from sqlalchemy.engine import Connection

from orchestrator.backfill import keys
from orchestrator.backfill.keys import Key
from orchestrator.history import clauses, functions, infinities, matches, scanner
from orchestrator.history.direct import Direct
from orchestrator.history.keyset import Keyset, Question
from orchestrator.registry.model import MYSQL_DIALECTS

# Given the rows of a batch, what is to be changed of each, in the same order; nothing (None, or an empty mapping) where
# a row stays as it is.
Transform = Callable[[Sequence[sa.RowMapping]], Iterable[Mapping[str, Any] | None]]


class Change(Protocol):
    """What is done to the rows after one key (None: from the first) up to another. `where`: those that are still to be
    changed, where that can be told; `definition`: tells this change from another; `sql`: what of it names tables."""

    where: sa.ColumnElement[bool] | None
    definition: str
    sql: str

    @property
    def columns(self) -> Collection[str] | None:
        """What it has changed of the table, or will; None where nobody knows."""
        ...

    @property
    def reads(self) -> Collection[str] | None:
        """Of which columns it makes what it writes; None where nobody knows."""
        ...

    def apply(self, connection: Connection, after: Key | None, upto: Key) -> int:
        """Returns how many rows were changed."""
        ...

    def whole(self, after: Key, upto: Key) -> Question[sa.Update] | None:
        """All that `apply` does, where that is one UPDATE."""
        ...


class SetColumns:
    """`UPDATE … SET`, by expressions."""

    def __init__(self, keyset: Keyset, values: Mapping[str, Any], where: Any) -> None:
        self._keyset = keyset
        unknown = [name for name in values if name not in keyset.table.columns]
        if unknown:
            raise CommandError(f"table {keyset.table.fullname!r} has no column {unknown[0]!r}, which `set_` names")
        if moved := [column.name for column in keyset.columns if column.name in values]:
            raise CommandError(f"`set_` changes {moved[0]!r}, by which the rows are gone through: name another `key`")
        self.columns = frozenset(values)
        for name, value in values.items():
            _refuse_unbalanced(keyset, value, f"{name!r} in `set_`")
        made = {name: clauses.expression(value) for name, value in values.items()}
        self.where, told = _filter(keyset, where)
        listed = ", ".join(f"{name} = {clauses.written(value)}" for name, value in sorted(made.items()))
        values_told = " ".join(clauses.written(value) for value in made.values())
        self.reads = frozenset(it.name for it in keyset.table.columns if _names(values_told, it.name))
        self.definition = f"set {listed} where {told}"
        self.sql = "\n".join(clauses.text(it) for it in (self.where, *made.values()))
        names = _in_order(keyset, {name: clauses.text(it) for name, it in made.items()})
        self._values = [(name, _value(keyset, keyset.table.columns[name], made[name])) for name in names]
        self._update = cache(self._updated)
        self._made = cache(lambda first: Direct(self._update(first)))

    def apply(self, connection: Connection, after: Key | None, upto: Key) -> int:
        return self._made(after is None).changed(connection, self._keyset.bounds(after, upto))

    def whole(self, after: Key, upto: Key) -> Question[sa.Update] | None:
        return Question(self._update(False), self._keyset.bounds(after, upto))

    def _updated(self, first: bool) -> sa.Update:
        change = self._keyset.table.update().where(self._keyset.between(first=first)).ordered_values(*self._values)
        return change if self.where is None else change.where(self.where)


def _in_order(keyset: Keyset, written: Mapping[str, str]) -> list[str]:
    """Each column before those that it is made of: MySQL sets one after the other, and reads what it has just set where
    the others read the row as it was. Raises CommandError where there is no such order, and it matters."""
    left = {name: {other for other in written if other != name and _names(sql, other)} for name, sql in written.items()}
    order: list[str] = []
    while left:
        free = [name for name in left if not any(name in reads for other, reads in left.items() if other != name)]
        if not free and keyset.dialect in MYSQL_DIALECTS:
            raise CommandError(
                f"`set_` of the backfill of {keyset.table.fullname!r} makes {' and '.join(sorted(left))} of each "
                "other, and MySQL sets one after the other: what the first one was is gone by then. Use "
                "op.backfill_rows, or set them one after the other by way of a further column"
            )
        order += free or left
        left = {name: reads for name, reads in left.items() if name not in order}
    return order


def _names(sql: str, column: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(column)}(?!\w)", sql, re.IGNORECASE) is not None


class TransformRows:
    """Rows are read and kept from others, a Python function says what becomes of them, and they are written."""

    def __init__(self, keyset: Keyset, columns: Sequence[str], transform: Transform, where: Any) -> None:
        self._keyset, self._transform = keyset, transform
        unknown = [name for name in columns if name not in keyset.table.columns]
        if unknown:
            raise CommandError(f"table {keyset.table.fullname!r} has no column {unknown[0]!r}, which `columns` names")
        if lost := keyset.narrowed.columns.intersection(columns):
            raise CommandError(
                f"the function of the backfill of {keyset.table.fullname!r} would be given `?` for each character of "
                f"{sorted(lost)[0]} that the session's character set, {keyset.narrowed.session}, does not have: let "
                "env.py's URL say charset=utf8mb4"
            )
        names = dict.fromkeys([*(column.name for column in keyset.columns), *columns])
        self._columns = [keyset.table.columns[name] for name in names]
        self.columns: set[str] = set()
        self.reads = frozenset(names)
        self.where, told = _filter(keyset, where)
        listed = ", ".join(column.name for column in self._columns)
        self.sql = clauses.text(self.where)
        self.definition = f"rows {functions.told(transform)} of {listed} where {told}"
        self._made = cache(self._wanted)

    def apply(self, connection: Connection, after: Key | None, upto: Key) -> int:
        rows = connection.execute(self._made(after is None), self._keyset.bounds(after, upto)).mappings().all()
        changes = list(self._transform(rows)) if rows else []
        if len(changes) != len(rows):
            raise CommandError(
                f"the function of the backfill of {self._keyset.table.fullname!r} was given {len(rows)} rows and gave "
                f"{len(changes)} answers: it must give one for each, None where a row stays as it is"
            )
        by_columns: dict[tuple[str, ...], list[tuple[dict[str, Any], Key]]] = {}
        for row, change in zip(rows, changes, strict=True):
            if change:
                self._refuse_mistaken(change)
                key = self._keyset.key((row[column.name] for column in self._keyset.columns), equal=True)
                by_columns.setdefault(tuple(sorted(change)), []).append((dict(change), key))
        writing = matches.Writing(connection, self._keyset)
        for names, pairs in by_columns.items():
            keys = [self._keyset.bound(key) for _, key in pairs]
            values = [change | bound for (change, _), bound in zip(pairs, keys, strict=True)]
            writing.prove(keys, connection.execute(self._update(names), values).rowcount)
            self.columns.update(names)
        return sum(map(len, by_columns.values()))

    def whole(self, after: Key, upto: Key) -> Question[sa.Update] | None:
        return None

    def _refuse_mistaken(self, change: Mapping[str, Any]) -> None:
        for name, value in change.items():
            if infinities.mistaken(value, self._keyset.driver, equal=True):
                raise CommandError(
                    f"the function of the backfill of {self._keyset.table.fullname!r} sets {name} to {value}, which "
                    f"{self._keyset.driver} would write as an infinite one: set it by op.backfill, whose SQL has no "
                    "such trouble, or let env.py use psycopg"
                )

    def _wanted(self, first: bool) -> sa.Select[Any]:
        rows = sa.select(*self._columns).where(self._keyset.between(first=first)).order_by(*self._keyset.columns)
        return (rows if self.where is None else rows.where(self.where)).with_for_update()

    def _update(self, names: Sequence[str]) -> sa.Update:
        table = self._keyset.table
        for name in names:
            if name not in table.columns or name in {column.name for column in self._keyset.columns}:
                # A name that the function's own text has not may be a value of a row.
                told = repr(name) if name in table.columns or name in self.definition else "something"
                raise CommandError(
                    f"the function of the backfill of {table.fullname!r} changes {told}, which is "
                    f"{'part of the key' if name in table.columns else 'no column'}"
                )
        values = {name: sa.bindparam(name, type_=_assigned(table.columns[name])) for name in names}
        return table.update().where(self._keyset.is_bound()).values(values)


class Statement:
    """Any statement with bounds: `:after` and `:upto`, or `:after_<column>` and `:upto_<column>` of each column."""

    where: sa.ColumnElement[bool] | None = None
    columns: Collection[str] | None = None
    reads: Collection[str] | None = None

    def __init__(self, keyset: Keyset, statement: str) -> None:
        self._keyset = keyset
        self._names = [""] if len(keyset.columns) == 1 else [f"_{column.name}" for column in keyset.columns]
        code = scanner.code(statement, keyset.dialect)  # bounds in comments and in quotes bind nothing
        missing = [
            f":{end}{name}"
            for end in ("after", "upto")
            for name in self._names
            if not re.search(rf"(?<![:\w\\]):{re.escape(end + name)}\b(?!:)", code)
        ]
        if missing:
            raise CommandError(
                f"the statement of the backfill of {keyset.table.fullname!r} lacks {', '.join(missing)}: each batch "
                "must keep to the rows after the one key, up to and with the other. Right before `::` they do not "
                "count: write CAST(:after AS ...)"
            )
        if (unknown := _without_before(keyset)) is not None:
            raise CommandError(
                f"the statement of the backfill of {keyset.table.fullname!r} cannot have `:after` for the first row: "
                f"{keyset.columns[-1].name} is {unknown}. Use op.backfill or op.backfill_rows, or name another unique "
                "`key`"
            )
        self._types = dict(zip(self._names, map(_wide, keyset.columns), strict=True))
        bounds = [
            sa.bindparam(f"{end}{name}", type_=kind) for end in ("after", "upto") for name, kind in self._types.items()
        ]
        what = f"the statement of the backfill of {keyset.table.fullname!r}"
        self._made = Direct(clauses.statement(statement, bounds, what))
        self.sql, self.definition = statement, f"sql {statement}"

    def apply(self, connection: Connection, after: Key | None, upto: Key) -> int:
        after = self._before_all(connection) if after is None else after
        bounds = {
            f"{end}{name}": value
            for end, key in (("after", after), ("upto", upto))
            for name, value in zip(self._names, key, strict=True)
        }
        return max(0, self._made.changed(connection, bounds))

    def whole(self, after: Key, upto: Key) -> Question[sa.Update] | None:
        return None

    def _can_be(self, value: Any) -> bool:
        """Whether the last column of the key could have that value."""
        smallest = _smallest(self._keyset.columns[-1])
        return smallest is None or self._keyset.dialect == "sqlite" or not isinstance(value, int) or value >= smallest

    def _before_all(self, connection: Connection) -> Key:
        lowest = self._keyset.lowest(connection)
        assert lowest is not None, "there is a row up to which the batch goes"
        before = keys.before(lowest)
        if before is None or not self._can_be(before[-1]) or not self._is_before(connection, before, lowest):
            raise CommandError(
                f"nothing comes before {keys.told(keys.written(lowest))}, the first key of "
                f"{self._keyset.table.fullname!r}, so `:after` has no value for it: change that row by hand first"
            )
        return before

    def _is_before(self, connection: Connection, key: Key, lowest: Key) -> bool:
        """The database may order values in another way than Python makes them less."""
        kinds = self._types.values()
        bounds = [sa.literal(value, kind) for value, kind in zip(key, kinds, strict=True)]
        return not self._keyset.has_up_to(connection, bounds) and self._keyset.first_after(connection, bounds) == lowest


def _without_before(keyset: Keyset) -> str | None:
    """Why nothing can be said to come before the key's first value, in words."""
    kind = keyset.columns[-1].type
    if isinstance(kind, sa.Enum):
        return f"an enum ({kind.name}), and no value of it comes before its first"
    if isinstance(kind, sa.types.NullType) and keyset.dialect in ("mysql", "mariadb"):
        return "of a kind (as INET6) of which it is not known what comes before its first value"
    return None


def _wide(column: sa.Column[Any]) -> sa.types.TypeEngine[Any]:
    """A type that also takes what comes before the column's values: SQLAlchemy may write a cast to it, which rounds."""
    kind = column.type
    if isinstance(kind, sa.Numeric):
        return sa.Numeric()
    if isinstance(kind, (sa.DateTime, sa.Time)):
        return sa.DateTime(kind.timezone) if isinstance(kind, sa.DateTime) else sa.Time()
    return kind


def _smallest(column: sa.Column[Any]) -> int | None:
    """The smallest value of a column of whole numbers."""
    if isinstance(column.type, sa.BigInteger):
        return -(2**63)
    if isinstance(column.type, sa.SmallInteger):
        return -(2**15)
    return -(2**31) if isinstance(column.type, sa.Integer) else None


def _filter(keyset: Keyset, where: Any) -> tuple[sa.ColumnElement[bool] | None, str]:
    """Which rows are to be changed, and the same in words."""
    _refuse_unbalanced(keyset, where, "`where`")
    made = clauses.condition(where)
    if made is None:
        return None, clauses.written(None)
    what = f"`where` of the backfill of {keyset.table.fullname!r}"
    return clauses.alone(made, keyset.table, what), clauses.written(made)


def _refuse_unbalanced(keyset: Keyset, given: Any, what: str) -> None:
    """It is put into parentheses of its own, which it must not end."""
    depth = 0
    for mark in re.findall("[()]", scanner.code(given, keyset.dialect)) if isinstance(given, str) else ():
        depth += 1 if mark == "(" else -1
        if depth < 0:
            break
    if depth:
        raise CommandError(f"{what} of the backfill of {keyset.table.fullname!r}: a parenthesis has no other half")


def _value(keyset: Keyset, column: sa.Column[Any], value: Any) -> Any:
    """A value goes by a name of ours: SQLAlchemy would take the column's, which a parameter of `where` may have."""
    if isinstance(value, sa.ClauseElement):
        what = f"{column.name!r} in `set_` of the backfill of {keyset.table.fullname!r}"
        return clauses.alone(value, keyset.table, what)
    return sa.bindparam(None, value, type_=_assigned(column), unique=True)


def _assigned(column: sa.Column[Any]) -> sa.types.TypeEngine[Any]:
    """The column's type, to which None is NULL: by itself, JSON takes it for its own `null`, and reads both as None."""
    if not isinstance(column.type, sa.JSON):
        return _uncut(column.type)
    kind = copy(column.type)
    kind.none_as_null = True
    return kind


def _uncut(kind: sa.types.TypeEngine[Any]) -> sa.types.TypeEngine[Any]:
    """SQLAlchemy writes casts to lists and to bits, and PostgreSQL cuts off what is too long for what it is cast to;
    what is assigned it refuses."""
    if isinstance(kind, sa.ARRAY):
        array, item = copy(kind), kind.item_type
        is_text = isinstance(item, sa.String) and not isinstance(item, sa.Enum) and item.length
        array.item_type = sa.Text() if is_text else _uncut(item)
        return array
    return BIT(varying=True) if isinstance(kind, BIT) else kind


def digest(keyset: Keyset, change: Change) -> str:
    """The same for the same change by the same key, on every machine."""
    columns = ", ".join(column.name for column in keyset.columns)
    return hashlib.sha256(f"{keyset.table.fullname} by {columns}: {change.definition}".encode()).hexdigest()
