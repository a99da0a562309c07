"""A table as a backfill sees it: its key, and the rows between two keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, Generic, NamedTuple, TypeVar

import sqlalchemy as sa
from alembic.util import CommandError
from sqlalchemy.dialects.postgresql import DOMAIN
from sqlalchemy.engine import Connection

from orchestrator.backfill import keys
from orchestrator.backfill.keys import Key
from orchestrator.history import infinities, servers

_GENERATED = "generated"
_SKIPPED, _COUNTED = "skipped", "counted"


_S = TypeVar("_S")


class Question(NamedTuple, Generic[_S]):
    """A statement with its parameters."""

    statement: _S
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Keyset:
    """A table, as it is in the database, and the columns by which its rows are gone through."""

    table: sa.Table
    columns: tuple[sa.Column[Any], ...]
    dialect: str
    # How parameters of ours begin, as no column does: SQLAlchemy would set a column of the same name.
    prefix: str = "orchestrator"
    driver: str = ""
    narrowed: servers.Narrowed = field(default_factory=servers.Narrowed)
    # What `step` asks, which takes longer to make than to answer: for the first batch, and for others.
    _steps: dict[bool, tuple[sa.Select[Any], sa.Select[Any]]] = field(default_factory=dict, compare=False, repr=False)

    def between(self, *, first: bool) -> sa.ColumnElement[bool]:
        """The rows after one key (`first`: from the first row on) up to another, which is one of them. Which keys these
        are is said when it is executed: `bounds`."""
        last = self._compared(self._bounds("upto"), above=False)
        return last if first else sa.and_(self._compared(self._bounds("after"), above=True), last)

    def bounds(self, after: Key | None, upto: Key) -> dict[str, Any]:
        """The parameters of a statement with `between(first=after is None)`."""
        given = {self._named("upto", number): value for number, value in enumerate(upto)}
        return given | {self._named("after", number): value for number, value in enumerate(after or ())}

    def is_bound(self) -> sa.ColumnElement[bool]:
        """The row of one key, which is said when it is executed: `bound`."""
        pairs = zip(self.columns, self._bounds("key"), strict=True)
        return sa.and_(*(column == parameter for column, parameter in pairs))

    def bound(self, key: Key) -> dict[str, Any]:
        """The parameters of a statement with `is_bound()`."""
        return {self._named("key", number): value for number, value in enumerate(key)}

    def key(self, values: Iterable[Any], *, equal: bool = False) -> Key:
        """What the database has answered for the columns. Raises CommandError where the driver could not read it: MySQL
        may keep dates like 0000-00-00, of which it makes a text or NULL; and where it would write another. `equal`: as
        `infinities.mistaken` says."""
        found = keys.plainly(values)
        for column, value in zip(self.columns, found, strict=True):
            if value is None or (isinstance(column.type, (sa.Date, sa.DateTime)) and not isinstance(value, date)):
                raise CommandError(
                    f"a row of {self.table.fullname!r} has a {column.name} that cannot be gone by: "
                    f"{'NULL, or no date, like 0000-00-00' if value is None else value}. Give it another, or name "
                    "another unique `key`"
                )
            if column.name in self.narrowed.columns and "?" in str(value):
                raise CommandError(
                    f"a row of {self.table.fullname!r} has a {column.name} that cannot be gone by: {value!r}, in which "
                    f"`?` may stand for a character that the session's character set, {self.narrowed.session}, does "
                    "not have. Let env.py's URL say charset=utf8mb4"
                )
            # Where others follow in the key, a batch would have all rows that are equal in this column.
            if infinities.mistaken(value, self.driver, equal=equal or column is not self.columns[-1]):
                raise CommandError(
                    f"a row of {self.table.fullname!r} has a {column.name} that cannot be gone by: the driver "
                    f"{self.driver} does not tell {value} from infinity. Migrate with the driver psycopg, name another "
                    f"unique `key`{', or use op.backfill' if equal and column is self.columns[-1] else ''}"
                )
        return found

    def upper(self, connection: Connection) -> Key | None:
        """The greatest key; None where there is no row."""
        return self._first(connection, [column.desc() for column in self.columns])

    def lowest(self, connection: Connection) -> Key | None:
        return self._first(connection, list(self.columns))

    def has_up_to(self, connection: Connection, values: Sequence[sa.ColumnElement[Any]]) -> bool:
        """Whether there are rows of that key, or before it."""
        rows = sa.select(sa.literal(1)).select_from(self.table).where(self._compared(values, above=False))
        return connection.execute(rows.limit(1)).first() is not None

    def first_after(self, connection: Connection, values: Sequence[sa.ColumnElement[Any]]) -> Key | None:
        """The lowest key of those that the database takes for greater than these values."""
        asked = sa.select(*self.columns).where(self._compared(values, above=True)).order_by(*self.columns).limit(1)
        row = connection.execute(asked).first()
        return None if row is None else self.key(row)

    def step(self, connection: Connection, after: Key | None, upper: Key, size: int) -> tuple[Key, int]:
        """Where a batch of so many rows ends, and how many rows it has: fewer than `size` only where it is the last."""
        ends, counted = self._made(first=after is None)
        row = connection.execute(ends, self._bounded(after, upper, size)).first()
        if row is not None:
            return self.key(row), size
        counting = self.bounds(after, upper) | {self._named(_COUNTED): size}
        return upper, int(connection.execute(counted, counting).scalar_one())

    def beside(self) -> Keyset:
        """The same with other names of parameters, for a second use in one statement."""
        return replace(self, prefix=f"{self.prefix}_next", _steps={})

    def ahead(self, after: Key, upper: Key, size: int) -> Question[sa.Select[Any]]:
        """What `step` asks first, to be asked along with something else; `key` reads the answer."""
        ends, _ = self._made(first=False)
        return Question(ends, self._bounded(after, upper, size))

    def _bounded(self, after: Key | None, upper: Key, size: int) -> dict[str, Any]:
        return self.bounds(after, upper) | {self._named(_SKIPPED): size - 1}

    def _made(self, *, first: bool) -> tuple[sa.Select[Any], sa.Select[Any]]:
        if first not in self._steps:
            self._steps[first] = self._asked(first)
        return self._steps[first]

    def _asked(self, first: bool) -> tuple[sa.Select[Any], sa.Select[Any]]:
        """For the last key of a batch, and how many rows there are up to the upper one."""
        rows = sa.select(*self.columns).where(self.between(first=first))
        ends = rows.order_by(*self.columns).limit(1).offset(sa.bindparam(self._named(_SKIPPED), type_=sa.Integer))
        some = rows.limit(sa.bindparam(self._named(_COUNTED), type_=sa.Integer)).subquery()
        return ends, sa.select(sa.func.count()).select_from(some)

    def has_null(self, connection: Connection, where: sa.ColumnElement[bool] | None = None) -> bool:
        """Among the rows that are as `where` says. One question for each column: an index answers it."""
        rows = sa.select(sa.literal(1)).select_from(self.table).limit(1)
        rows = rows if where is None else rows.where(where)
        nullable = [column for column in self.columns if column.nullable]
        return any(connection.execute(rows.where(column.is_(None))).first() is not None for column in nullable)

    def _first(self, connection: Connection, order: Sequence[sa.ColumnElement[Any]]) -> Key | None:
        row = connection.execute(sa.select(*self.columns).order_by(*order).limit(1)).first()
        return None if row is None else self.key(row)

    def _named(self, what: str, number: int = 0) -> str:
        return f"{self.prefix}_{what}_{number}"

    def _bounds(self, end: str) -> list[sa.BindParameter[Any]]:
        return [sa.bindparam(self._named(end, n), type_=column.type) for n, column in enumerate(self.columns)]

    def _compared(self, values: Sequence[sa.ColumnElement[Any]], *, above: bool) -> sa.ColumnElement[bool]:
        """`key < columns`, or `columns <= key`. MySQL finds its way in an index only where it is spelled out."""
        if len(values) == 1:
            return self.columns[0] > values[0] if above else self.columns[0] <= values[0]
        if self.dialect not in ("mysql", "mariadb"):
            row, bound = sa.tuple_(*self.columns), sa.tuple_(*values)
            return row > bound if above else row <= bound
        return _spelled(self.columns, values, above=above)


def _spelled(
    columns: Sequence[sa.Column[Any]], values: Sequence[sa.ColumnElement[Any]], *, above: bool
) -> sa.ColumnElement[bool]:
    (column, *columns), (value, *values) = columns, values
    beyond = column > value if above else column < value
    if not columns:
        return beyond if above else column <= value
    # Without the `=`, the server would go through all rows with the same first column again and again.
    return sa.or_(beyond, sa.and_(column == value, _spelled(columns, values, above=above)))


def find(connection: Connection, table: str, schema: str | None, key: Sequence[str] | None) -> Keyset:
    """The table with its primary key, or with the columns of `key`. Raises CommandError where there is no such table,
    no such column, no key, one that is not unique, or one that cannot be gone by."""
    found = _read(connection, table, schema)
    name = named(table, schema)
    if not key and not found.primary_key.columns:
        raise CommandError(f"table {name!r} has no primary key: name the columns of a unique index, `key=...`")
    unknown = [column for column in key or () if column not in found.columns]
    if unknown:
        raise CommandError(f"table {name!r} has no column {unknown[0]!r}, which `key` names")
    columns = tuple(found.columns[column] for column in key) if key else tuple(found.primary_key.columns)
    for column in columns:
        column.type = _compared_as(column.type, connection.dialect.name)
    prefix = _free([column.name for column in found.columns])
    server = servers.of(connection, found)
    dialect = connection.dialect
    keyset = Keyset(found, columns, dialect.name, prefix, dialect.driver, server.narrowed(connection))
    names = [column.name for column in columns]
    if names != [column.name for column in found.primary_key.columns] and not server.is_unique(connection, names):
        raise CommandError(
            f"`key` of the backfill of {name!r} is not unique: {', '.join(names)}. Name the primary key's columns, or "
            "those of a unique index, in its order: one for all rows, and with the columns' own collations"
        )
    if (problem := _moving(columns) or _inexact(columns) or server.unusable(connection, names)) is not None:
        raise CommandError(f"the key of {name!r} cannot be gone by: {problem}. Name another unique `key`")
    return keyset


def prove(connection: Connection, keyset: Keyset) -> None:
    """Before the first batch. Raises CommandError where there are keys that cannot be gone by."""
    refuse_null(connection, keyset)
    first = keyset.lowest(connection)
    if first is not None:
        _try(keyset.table.fullname, first, keyset.dialect)


def refuse_null(connection: Connection, keyset: Keyset, where: sa.ColumnElement[bool] | None = None) -> None:
    """Raises CommandError where rows that are as `where` says have no key."""
    if keyset.has_null(connection, where):
        raise CommandError(
            f"table {keyset.table.fullname!r} has rows where the key is NULL "
            f"({', '.join(c.name for c in keyset.columns)}): they have no place in an order, and would be left out. "
            "Give these rows a value first, or name another `key`"
        )


def _free(names: Sequence[str]) -> str:
    prefix = "orchestrator"
    while any(name.startswith(prefix) for name in names):
        prefix += "_"
    return prefix


def _moving(columns: Sequence[sa.Column[Any]]) -> str | None:
    made = next((column.name for column in columns if column.info[_GENERATED]), None)
    return None if made is None else f"{made} is generated, and may change with its row"


def _inexact(columns: Sequence[sa.Column[Any]]) -> str | None:
    """Which is not in Python what it is in the database. A float is rounded when it is read, also where the driver
    makes a decimal of it: what is asked for then is no row's key."""
    for column in columns:
        if isinstance(column.type, sa.Float):
            return f"{column.name} is a {type(column.type).__name__.replace('_', ' ')}, whose values are not exact"
        if isinstance(column.type, sa.Time) and column.type.timezone:
            return f"{column.name} is a TIME WITH TIME ZONE, of which Python takes different values for the same"
    return None


def _compared_as(kind: Any, dialect: str) -> Any:
    """Of a domain, what it is made of. SQLite compares what it stores, whatever the column says that this is."""
    if dialect == "sqlite":
        return sa.types.NullType()
    while isinstance(kind, DOMAIN):
        kind = kind.data_type
    return kind


def _read(connection: Connection, table: str, schema: str | None) -> sa.Table:
    """The table's columns and its primary key. Nothing else is needed, and SQLAlchemy 2.1 warns of a constraint that is
    NOT VALID where it is to make a table with all that there is."""
    inspector = sa.inspect(connection)
    try:
        columns = inspector.get_columns(table, schema=schema)
        key = servers.of(connection, sa.Table(table, sa.MetaData(), schema=schema)).primary_key(connection)
    except sa.exc.NoSuchTableError:
        raise CommandError(f"there is no table {named(table, schema)!r} to backfill") from None
    made = [
        sa.Column(it["name"], it["type"], nullable=it["nullable"], info={_GENERATED: "computed" in it})
        for it in columns
    ]
    return sa.Table(table, sa.MetaData(), *made, sa.PrimaryKeyConstraint(*key), schema=schema)


def named(table: str, schema: str | None) -> str:
    return f"{schema}.{table}" if schema else table


def _try(name: str, key: Key, dialect: str) -> None:
    try:
        if any(isinstance(value, float) for value in key) and dialect != "sqlite":
            raise TypeError("float is no key to go by")
        if keys.read(keys.written(key)) != key:
            raise TypeError("a value does not come back as it was written")
    except TypeError as exc:
        raise CommandError(
            f"the key of {name!r} cannot be gone by: {exc}. Whole numbers, texts, UUIDs, dates, times, decimals and "
            "bytes can; name another unique `key`"
        ) from None
