"""Bound values as SQL text, where the server takes the text for what it would have taken the value for.

A literal has no type until the server gives it one: `'2026-01-01' + 1` is an error where a bound date is not, and
`5 / 2` is 2 where a bound `Decimal("5")` makes 2.5. Text and whole numbers are safe anywhere, with the cast that the
dialect gives to bound values. Others are as values of an INSERT, where the column's type is given to both, where the
driver is known to change nothing on the way (`faithful`).
"""

from __future__ import annotations

import decimal
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.engine import Dialect
from sqlalchemy.schema import ExecutableDDLElement
from sqlalchemy.sql.dml import Insert
from sqlalchemy.sql.elements import BindParameter, ClauseElement, TextClause

from orchestrator.history import faithful

# Stands at both ends of each literal until the statement is cut there: no text that a server takes holds it.
_EDGE = "\x00"


class UnfaithfulError(Exception):
    """A statement cannot be written as text without changing what it means."""


class Pieces(NamedTuple):
    """A statement as text, cut before and after each bound value: every second of `parts` is one. `in_columns`: the
    values are those of columns, which give them their types."""

    parts: tuple[str, ...]
    in_columns: bool = False

    @property
    def text(self) -> str:
        return "".join(self.parts)


class Literals:
    """Renders statements of one dialect, which it changes for that."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._in_ddl = self._in_column = self._in_text = False
        self._untyped: frozenset[str] = frozenset()
        _prepare(dialect, self._check, lambda: not self._in_ddl, lambda name: name not in self._untyped)

    def render(self, construct: Any, parameters: Mapping[str, Any]) -> str:
        """The statement as text. Raises UnfaithfulError, and what SQLAlchemy raises for what it cannot render."""
        return self.pieces(construct, parameters).text

    def pieces(self, construct: Any, parameters: Mapping[str, Any]) -> Pieces:
        """As `render`, in pieces."""
        statement = text(construct) if isinstance(construct, str) else construct
        self._untyped = frozenset()
        if parameters:
            if not isinstance(statement, TextClause):
                raise UnfaithfulError("parameters are given apart from a statement that is not text")
            known = statement._bindparams
            self._untyped = frozenset(name for name in parameters if name in known and known[name].type._isnull)
            statement = statement.bindparams(**parameters)
        self._in_ddl = isinstance(statement, ExecutableDDLElement)
        if self._in_ddl:  # it has literals only, online too
            return Pieces((str(statement.compile(dialect=self._dialect)).strip(),))
        self._in_column = _is_plain_insert(statement)
        self._in_text = isinstance(statement, TextClause)
        compiled = statement.compile(dialect=self._dialect, compile_kwargs={"literal_binds": True})
        if getattr(compiled, "insert_prefetch", ()) or getattr(compiled, "update_prefetch", ()):
            raise UnfaithfulError("a column's default is computed in Python for each row")
        if unbound := sorted(getattr(compiled, "binds", ())):
            raise UnfaithfulError(f"no value is given for :{unbound[0]}")
        return Pieces(tuple(str(compiled).strip().split(_EDGE)), self._in_column)

    def _check(self, value: Any, type_: Any) -> None:
        if self._in_ddl:
            return
        if isinstance(value, str) and _EDGE in value:
            raise UnfaithfulError("a bound text holds a zero byte")
        if self._dialect.name == "sqlite" and isinstance(value, decimal.Decimal):
            raise UnfaithfulError("a bound Decimal is a floating-point number to SQLite's driver")
        if self._dialect.name == "sqlite" and isinstance(value, int) and not -(2**63) < value < 2**63:
            raise UnfaithfulError("a bound number is too large for SQLite")
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


def _prepare(dialect: Dialect, check: Any, bound: Callable[[], bool], typed: Callable[[str], bool]) -> None:
    """Let the dialect render literals for a server that it has not seen, as every one of today is set up.

    `bound`: whether values are bound at all; `typed`: whether the one of this name is, with its type.
    """
    prepared: Any = dialect
    if dialect.name == "postgresql":
        prepared._backslash_escapes = False  # only with standard_conforming_strings off, which replay refuses
    compiler = dialect.statement_compiler

    class Literal(compiler):  # type: ignore[misc, valid-type]
        cast: Callable[[str], str] | None = None

        def render_literal_bindparam(self, bindparam: Any, *args: Any, **options: Any) -> str:
            if bindparam.required and bindparam.value is None and bindparam.callable is None:
                raise UnfaithfulError(f"no value is given for :{bindparam.key}")  # it would be rendered as NULL
            kind = bindparam.type._unwrapped_dialect_impl(dialect)
            casts = getattr(kind, "render_bind_cast", False) and typed(bindparam.key)
            outer, self.cast = self.cast, (lambda written: self.render_bind_cast(bindparam.type, kind, written))
            if not casts:
                self.cast = _as_it_is
            try:
                written: str = super().render_literal_bindparam(bindparam, *args, **options)
                return self.edged("NULL") if written == "NULL" else written
            finally:
                self.cast = outer

        def render_literal_value(self, value: Any, type_: Any, *args: Any, **options: Any) -> str:
            check(value, type_)
            rendered: str = super().render_literal_value(value, type_, *args, **options)
            return self.edged(rendered)

        def edged(self, written: str) -> str:
            """As the bound value would have been, with its cast."""
            if self.cast is None or not bound():
                return written
            if written.startswith("-"):
                written = f"({written})"  # behind a minus it would begin a comment
            return self.cast(f"{_EDGE}{written}{_EDGE}")

    prepared.statement_compiler = Literal


def _as_it_is(written: str) -> str:
    return written
