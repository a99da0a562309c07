"""Bound values as SQL text, where the server takes the text for what it would have taken the value for.

A literal has no type until the server gives it one: `'2026-01-01' + 1` is an error where a bound date is not, and
`5 / 2` is 2 where a bound `Decimal("5")` makes 2.5. Text and whole numbers are safe anywhere, with the cast that the
dialect gives to bound values. Others are as values of an INSERT, where the column's type is given to both, where the
driver is known to change nothing on the way (`faithful`).
"""

from __future__ import annotations

import decimal
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import text
from sqlalchemy.engine import Dialect
from sqlalchemy.schema import ExecutableDDLElement
from sqlalchemy.sql.dml import Insert
from sqlalchemy.sql.elements import BindParameter, ClauseElement, TextClause

from orchestrator.history import faithful


class UnfaithfulError(Exception):
    """A statement cannot be written as text without changing what it means."""


class Literals:
    """Renders statements of one dialect, which it changes for that."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._in_ddl = self._in_column = self._in_text = False
        _prepare(dialect, self._check, lambda: not self._in_ddl)

    def render(self, construct: Any, parameters: Mapping[str, Any]) -> str:
        """The statement as text. Raises UnfaithfulError, and what SQLAlchemy raises for what it cannot render."""
        statement = text(construct) if isinstance(construct, str) else construct
        if parameters:
            if not isinstance(statement, TextClause):
                raise UnfaithfulError("parameters are given apart from a statement that is not text")
            statement = statement.bindparams(**parameters)
        self._in_ddl = isinstance(statement, ExecutableDDLElement)
        if self._in_ddl:  # it has literals only, online too
            return str(statement.compile(dialect=self._dialect)).strip()
        self._in_column = _is_plain_insert(statement)
        self._in_text = isinstance(statement, TextClause)
        compiled = statement.compile(dialect=self._dialect, compile_kwargs={"literal_binds": True})
        if getattr(compiled, "insert_prefetch", ()) or getattr(compiled, "update_prefetch", ()):
            raise UnfaithfulError("a column's default is computed in Python for each row")
        if unbound := sorted(getattr(compiled, "binds", ())):
            raise UnfaithfulError(f"no value is given for :{unbound[0]}")
        return str(compiled).strip()

    def _check(self, value: Any, type_: Any) -> None:
        if self._in_ddl:
            return
        if self._dialect.name == "sqlite" and isinstance(value, decimal.Decimal):
            raise UnfaithfulError("a bound Decimal is a floating-point number to SQLite's driver")
        if self._dialect.name == "sqlite" and isinstance(value, int) and not -(2**63) < value < 2**63:
            raise UnfaithfulError("a bound number is too large for SQLite")
        if isinstance(value, str) and "\0" in value:
            raise UnfaithfulError("a bound text holds a zero byte")
        bound = faithful.unwrapped(value, type_, self._dialect)
        if bound is None:
            raise UnfaithfulError(f"{type(type_).__name__} writes literals in its own way")
        if problem := faithful.objection(*bound, self._dialect.driver, in_column=self._in_column):
            raise UnfaithfulError(problem)
        if self._in_text and isinstance(value, str) and "\\:" in value:
            raise UnfaithfulError("a bound text holds a backslash before a colon, which SQLAlchemy takes for its own")


def _is_plain_insert(statement: Any) -> bool:
    """Whether each value of the INSERT stands for itself, so that it gets its column's type."""
    if not isinstance(statement, Insert) or statement.select is not None:
        return False
    rows = [statement._values or {}, *(row for group in statement._multi_values for row in group)]
    return all(isinstance(row, Mapping) and all(map(_is_value, row.values())) for row in rows)


def _is_value(value: Any) -> bool:
    return isinstance(value, BindParameter) or not (
        isinstance(value, ClauseElement) or hasattr(value, "__clause_element__")
    )


def _prepare(dialect: Dialect, check: Any, typed: Callable[[], bool]) -> None:
    """Let the dialect render literals for a server that it has not seen, as every one of today is set up."""
    prepared: Any = dialect
    if dialect.name == "postgresql":
        prepared._backslash_escapes = False  # only with standard_conforming_strings off, which replay refuses
    compiler = dialect.statement_compiler

    class Literal(compiler):  # type: ignore[misc, valid-type]
        def render_literal_bindparam(self, bindparam: Any, *args: Any, **options: Any) -> str:
            if bindparam.required and bindparam.value is None and bindparam.callable is None:
                raise UnfaithfulError(f"no value is given for :{bindparam.key}")  # it would be rendered as NULL
            written: str = super().render_literal_bindparam(bindparam, *args, **options)
            if written.startswith("-"):
                written = f"({written})"  # behind a minus it would begin a comment
            kind = bindparam.type._unwrapped_dialect_impl(dialect)
            casts = getattr(kind, "render_bind_cast", False) and typed()
            if casts and not bindparam.expanding:
                written = self.render_bind_cast(bindparam.type, kind, written)  # as the bound value would have had
            return written

        def render_literal_value(self, value: Any, type_: Any, *args: Any, **options: Any) -> str:
            check(value, type_)
            rendered: str = super().render_literal_value(value, type_, *args, **options)
            return rendered

    prepared.statement_compiler = Literal
