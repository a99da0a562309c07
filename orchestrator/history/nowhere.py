"""A SQLAlchemy connection that leads nowhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy.engine import Connection, Engine


class Nowhere(Connection):
    """Takes everything and answers nothing; `executed` is told of each statement."""

    def __init__(self, engine: Engine, executed: Callable[[], None]) -> None:
        self.engine, self.dialect, self._executed = engine, engine.dialect, executed
        self._open = True

    @property
    def closed(self) -> bool:
        return not self._open

    @property
    def info(self) -> dict[Any, Any]:
        return {}

    def connect(self) -> Connection:
        return self

    def execute(self, *args: Any, **options: Any) -> Any:
        self._executed()
        return _Nothing()

    exec_driver_sql = execute

    def scalar(self, *args: Any, **options: Any) -> Any:
        return self.execute().scalar()

    def scalars(self, *args: Any, **options: Any) -> Any:
        return self.execute()

    def execution_options(self, **options: Any) -> Connection:
        return self

    def begin(self) -> Any:
        return _Transaction()

    begin_nested = begin

    def begin_twophase(self, xid: Any = None) -> Any:
        return _Transaction()

    def in_transaction(self) -> bool:
        return False

    def commit(self) -> None:
        pass

    rollback = invalidate = detach = commit  # type: ignore[assignment]

    def close(self) -> None:
        self._open = False

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run_ddl_visitor(self, *args: Any, **options: Any) -> None:
        self._executed()


class _Transaction:
    """Stands for a transaction on a connection that leads nowhere."""

    is_active = True

    def commit(self) -> None:
        pass

    rollback = close = prepare = commit

    def __enter__(self) -> _Transaction:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class _Nothing:
    """A result without rows."""

    rowcount = 0
    returns_rows = False

    def scalar(self) -> None:
        return None

    first = fetchone = one_or_none = scalar_one_or_none = close = scalar

    def all(self) -> list[Any]:
        return []

    fetchall = all

    def scalars(self, *_: Any) -> _Nothing:
        return self

    mappings = unique = scalars

    def __iter__(self) -> Any:
        return iter(())
