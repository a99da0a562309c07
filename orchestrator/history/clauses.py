"""SQL that a revision gives to its backfill: made to keep to itself, whatever stands in it and around it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from alembic.util import CommandError
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import Grouping


def condition(where: Any) -> sa.ColumnElement[bool] | None:
    """SQL in words, or a SQLAlchemy expression, as a condition that keeps to itself. Raises CommandError for what is
    neither."""
    if where is None:
        return None
    if not isinstance(where := _element(where), (str, sa.ClauseElement)):
        raise CommandError(
            f"`where` is {where!r}: it must be SQL in words, or a SQLAlchemy expression. Leave it out where all rows "
            "are meant"
        )
    made: sa.ColumnElement[bool] = _enclosed(where)
    return made


def expression(value: Any) -> Any:
    """What a column becomes: SQL in words, or a SQLAlchemy expression, that keeps to itself; or a value."""
    value = _element(value)
    if isinstance(value, str):
        return sa.text(value) if value.strip().upper() == "DEFAULT" else _enclosed(value)
    return _enclosed(value) if isinstance(value, (sa.TextClause, sa.ColumnClause)) else value


def alone(clause: Any, table: sa.Table, what: str) -> Any:
    """The same clause with parameters of its own: those of another clause may have the same names and other values.
    Where it means the table that is changed, it has that: of another object of the same name SQLAlchemy makes a second
    table, whose rows have nothing to do with the row that is changed. Raises CommandError, in which `what` tells where
    it stands, for a parameter without a value, and for a column that the table does not have."""
    _refuse_unbound(clause, what)

    def own(element: Any, **_: Any) -> Any:
        if isinstance(element, sa.TableClause) and _means(element, table, what):
            return table
        if isinstance(element, sa.ColumnClause) and isinstance(element.table, sa.TableClause):
            return _column(element, table, what) if _means(element.table, table, what) else None
        if isinstance(element, sa.BindParameter) and not element.unique:
            # Of a name that no column has, nor a parameter of ours.
            return sa.bindparam(
                "given",
                element.value,
                type_=element.type,
                unique=True,
                callable_=element.callable,
                expanding=element.expanding,
                literal_execute=element.literal_execute,
            )
        return None

    return visitors.replacement_traverse(clause, {}, own)


def _means(named: sa.TableClause, table: sa.Table, what: str) -> bool:
    schema = getattr(named, "schema", None)
    if named.name == table.name and (schema is None) != (table.schema is None):
        raise CommandError(
            f"{what} names {named.fullname!r}, and the backfill {table.fullname!r}: whether that is the same table "
            "cannot be told. Give both the schema (`schema=...` of the backfill), or neither"
        )
    return named.name == table.name and schema == table.schema


def _column(named: sa.ColumnClause[Any], table: sa.Table, what: str) -> sa.Column[Any]:
    if named.name not in table.columns:
        raise CommandError(f"{what} names the column {named.name!r}, which {table.fullname!r} does not have")
    return table.columns[named.name]


def statement(sql: str, bounds: Collection[sa.BindParameter[Any]], what: str) -> sa.TextClause:
    """Raises CommandError for a parameter that is none of the bounds."""
    made = sa.text(sql).bindparams(*bounds)
    _refuse_unbound(made, what, {parameter.key for parameter in bounds})
    return made


def written(clause: Any) -> str:
    """A clause with its values: another value is another change. What has no order is put into one."""
    if not isinstance(clause, sa.ClauseElement):
        return repr(clause)
    compiled = clause.compile()
    values = sorted((name, _ordered(value)) for name, value in compiled.params.items())
    return f"{compiled} {values}" if values else str(compiled)


def text(clause: Any) -> str:
    """A clause without its values; nothing for what is none."""
    return str(clause.compile()) if isinstance(clause, sa.ClauseElement) else ""


def _element(value: Any) -> Any:
    """An attribute of a mapped class stands for its column."""
    return value.__clause_element__() if hasattr(value, "__clause_element__") else value


def _enclosed(clause: Any) -> Any:
    """In parentheses, so that no `OR` and no comment in it reaches what comes after: SQLAlchemy adds none to text."""
    return sa.text(f"(\n{clause}\n)") if isinstance(clause, str) else Grouping(clause)


def _refuse_unbound(clause: sa.ClauseElement, what: str, bounds: Collection[str] = ()) -> None:
    for found in visitors.iterate(clause):
        if isinstance(found, sa.BindParameter) and found.required and found.key not in bounds:
            name = f":{found.key}"
            raise CommandError(
                f"{what}: `{name}` stands for a value, and none is given. If it is just a colon and a word, as in a "
                f"text or in JSON, write `\\{name}` (in Python, r'...' keeps the backslash). If it is a value, "
                "give it: sa.text(...).bindparams(...)"
            )


def _ordered(value: Any) -> str:
    return str(sorted(map(repr, value))) if isinstance(value, (set, frozenset, list, tuple)) else repr(value)
