"""What revisions are handed for a connection while they are compiled: it takes statements and answers nothing.

Alembic's own mock returns `None` from every `execute`, so a revision that asks `if conn.execute(...)` takes one of its
branches for ever. Here every question is noted as the reason why the revision has to run online, and raises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import inspection, text
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.elements import TextClause

from orchestrator.plan.quoting import UnterminatedError
from orchestrator.plan.statements import commands

# Statements whose outcome somebody who calls `connection.execute` is there for.
_ANSWERED = frozenset({"select", "with", "values", "table", "show", "explain", "fetch", "call", "describe", "desc"})


class ReadsDatabaseError(Exception):
    """A revision asked the database something while it was compiled."""


class SilentBind:
    """Stands for a `sqlalchemy.engine.Connection`. `take` gets what can be replayed, and `note` everything that it was
    asked."""

    def __init__(
        self, dialect: Dialect, take: Callable[[Any, Mapping[str, Any]], None], note: Callable[[str], None]
    ) -> None:
        self._dialect, self._take, self._note = dialect, take, note
        self.version_table: object = None

    @property
    def dialect(self) -> Dialect:
        return self._dialect

    @property
    def engine(self) -> SilentEngine:
        return SilentEngine(self._dialect, self._refuse)

    def execute(self, statement: Any, parameters: Any = None, *, execution_options: Any = None) -> SilentResult:
        """Take a statement that returns no rows; its result refuses every question."""
        if execution_options:
            raise self._refuse("execute(..., execution_options=...)")
        if returns_rows(statement):
            raise self._refuse("execute() of a statement that returns rows")
        if parameters and not isinstance(parameters, Mapping):
            raise self._refuse("execute() of many sets of parameters")
        self._take(statement, parameters or {})
        return SilentResult(self._refuse)

    def exec_driver_sql(self, statement: str, parameters: Any = None, execution_options: Any = None) -> SilentResult:
        """As `execute`, for text without parameters."""
        if parameters or "%" in statement:  # a percent sign means one thing to one driver, and another to the next
            raise self._refuse("exec_driver_sql() with parameters or a percent sign")
        return self.execute(text(statement.replace(":", r"\:")), execution_options=execution_options)

    def _run_ddl_visitor(self, visitor: Any, element: Any, **options: Any) -> None:
        """SQLAlchemy's way to `Table.create(bind)` and its like; `checkfirst` would look into the database."""
        if options.get("checkfirst") and element is not self.version_table:
            raise self._refuse("create() or drop() with `checkfirst`")
        options["checkfirst"] = False
        visitor(dialect=self._dialect, connection=self, **options).traverse_single(element)

    def schema_for_object(self, obj: Any) -> str | None:
        schema: str | None = obj.schema
        return schema

    def __getattr__(self, name: str) -> Any:
        # Alembic itself asks for `in_transaction`, and takes an AttributeError for a no.
        if name == "in_transaction" or name.startswith("__"):
            raise AttributeError(name)
        raise self._refuse(name)

    def _refuse(self, what: str) -> ReadsDatabaseError:
        reason = f"it asks the connection for an answer: {what}"
        self._note(reason)
        return ReadsDatabaseError(reason)


class SilentEngine:
    """`connection.engine`, as far as it says which kind of database it is."""

    def __init__(self, dialect: Dialect, refuse: Callable[[str], ReadsDatabaseError]) -> None:
        self.dialect, self.name, self.driver = dialect, dialect.name, dialect.driver
        self._refuse = refuse

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise self._refuse(f"engine.{name}")


class SilentResult:
    """A result that refuses every question."""

    def __init__(self, refuse: Callable[[str], ReadsDatabaseError]) -> None:
        self._refuse = refuse

    def __getattr__(self, name: str) -> Any:
        raise self._refuse(f"the result's {name}")

    def __iter__(self) -> Any:
        raise self._refuse("the result's rows")

    def __bool__(self) -> bool:
        raise self._refuse("whether there is a result")


def returns_rows(statement: Any) -> bool:
    """Whether somebody who executes it is there for its rows."""
    if isinstance(statement, TextClause):
        try:
            found = list(commands(statement.text))
        except UnterminatedError:
            return True
        return any(words[0] in _ANSWERED or "returning" in words for words in found)
    return bool(getattr(statement, "is_select", False) or getattr(statement, "_returning", ()))


def _inspected(bind: Any) -> Any:
    if isinstance(bind, SilentBind):
        raise bind._refuse("inspect()")
    raise bind._refuse("inspect() of the engine")


for _kind in (SilentBind, SilentEngine):
    inspection._inspects(_kind)(_inspected)
