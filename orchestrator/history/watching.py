"""Notices what a revision asks Alembic, SQLAlchemy and the process, beside its database: the answers may be another
tenant's otherwise, so what is made of them cannot be sent to all.

Whatever notices is told by a `Watcher` whose revision it is. Alembic and SQLAlchemy themselves ask the same things all
the time; they are told apart by the module that asks.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext

# What a revision may ask, and what env.py's own connection would answer otherwise, or another tenant's.
_ONLY_RENDERED = "whether SQL is only rendered"
_OPTIONS = "for the options of env.py, which may tell the tenant"
CONTEXT = {
    "as_sql": _ONLY_RENDERED,
    "opts": _OPTIONS,
    "environment_context": _OPTIONS,
    "version_table": "for the version table, whose name may tell the tenant",
    "version_table_schema": "for the version table's schema, which may be the tenant's",
}
IMPLEMENTATION = {"as_sql": _ONLY_RENDERED, "context_opts": _OPTIONS}
DIALECT = {"default_schema_name": "for the default schema", "server_version_info": "for the server's version"}
_LIBRARIES = ("alembic", "sqlalchemy")


class Watcher(Protocol):
    """Told why the revision at work has to run online."""

    @property
    def current(self) -> str | None:
        """The revision at work, if one is."""
        ...

    def note(self, reason: str) -> None: ...


def is_library(module: str) -> bool:
    """Whether a module is Alembic's or SQLAlchemy's."""
    return module.partition(".")[0] in _LIBRARIES


def watched(kind: type, watcher: Watcher, attributes: Mapping[str, str]) -> type:
    """The class, noticing when somebody other than Alembic and SQLAlchemy reads one of these attributes."""

    def watching(name: str, what: str) -> property:
        inherited = getattr(kind, name, None)

        def read(self: Any) -> Any:
            asking = sys._getframe(1).f_globals.get("__name__", "")
            if watcher.current is not None and not is_library(asking):
                watcher.note(f"it asks {what}")
            return self.__dict__.get(name, inherited)

        def write(self: Any, value: Any) -> None:
            self.__dict__[name] = value

        return property(read, write)

    body: dict[str, Any] = {name: watching(name, what) for name, what in attributes.items()}
    if "supports_statement_cache" in vars(kind):  # SQLAlchemy looks for it in a dialect's own class
        body["supports_statement_cache"] = vars(kind)["supports_statement_cache"]
    if issubclass(kind, MigrationContext):
        body["get_current_heads"] = _heads_of(kind, watcher)
    return type(kind.__name__, (kind,), body)


def _heads_of(kind: type[MigrationContext], watcher: Watcher) -> Any:
    def get_current_heads(self: Any) -> tuple[str, ...]:
        if watcher.current is not None:
            watcher.note("it asks for the current heads")
        return kind.get_current_heads(self)

    return get_current_heads


class WatchedEnvironment(EnvironmentContext):
    """Alembic's, noticing what a revision asks it."""

    def asked(self, what: str) -> None:
        """Two tenants' answers may be alike, and a third one's not: what a revision makes of it is not known."""
        raise NotImplementedError

    def is_offline_mode(self) -> bool:
        self.asked("whether it runs in offline mode")
        return super().is_offline_mode()

    def get_x_argument(self, as_dictionary: bool = False) -> Any:
        self.asked("for -x arguments, which tell the tenant")
        return super().get_x_argument(as_dictionary)

    @property
    def config(self) -> Config:
        """Where a revision may find the tenant's URL."""
        self.asked("for the configuration, which tells the tenant's database")
        return self._config

    @config.setter
    def config(self, config: Config) -> None:
        self._config = config


@contextmanager
def environ(variables: Collection[str], watcher: Watcher) -> Iterator[None]:
    """Notice a revision that reads the tenant's own environment variables: in a process that serves one job."""

    class Watched(type(os.environ)):  # type: ignore[misc]
        def __getitem__(self, key: str) -> str:
            if key in variables and watcher.current is not None:
                watcher.note(f"it reads the environment variable {key}")
            value: str = super().__getitem__(key)
            return value

    kind: Any = type(os.environ)
    os.environ.__class__ = Watched
    try:
        yield
    finally:
        os.environ.__class__ = kind
