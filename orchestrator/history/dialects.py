"""Dialects of SQLAlchemy that are set up without meeting a server. They are reached into for it: what a release of
SQLAlchemy calls otherwise inside is to be mended here."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

from sqlalchemy.engine import Dialect
from sqlalchemy.schema import ExecutableDDLElement

# What `initialize` asks a connection, besides the version, and what the answers are where replay takes part: it leaves
# servers whose mode reads quotes or backslashes in another way to env.py.
_ANSWERS: dict[str, Any] = {
    "_get_default_schema_name": None,
    "get_default_isolation_level": None,
    "_detect_charset": "utf8mb4",
    "_detect_casing": 0,
    "_check_max_identifier_length": None,
}


class _Connection:
    """Handed on to what is replaced."""

    connection = SimpleNamespace(dbapi_connection=None)


def like(dialect: Dialect, options: Mapping[str, Any]) -> Dialect:
    """One as env.py's engine would have: with its driver, and its way to write parameters."""
    kind: Any = type(dialect)
    dbapi = None
    with suppress(ImportError):  # without its driver, env.py will not run
        dbapi = kind.import_dbapi()
    given = {name: value for name, value in options.items() if name != "paramstyle"}
    made: Any = kind(dbapi=dbapi, **given)
    made._backslash_escapes = getattr(dialect, "_backslash_escapes", False)
    rehearsed: Dialect = made
    return rehearsed


def for_literals(dialect: Dialect) -> Dialect:
    """A copy that `Literals` may change: as the dialect knows its server, and as compiling names parameters, since
    other styles double each percent sign."""
    made: Any = copy.copy(dialect)
    made.paramstyle, made.positional = "named", False
    made.__dict__.pop("_type_memos", None)
    made.identifier_preparer = made.preparer(made)
    made.type_compiler_instance = made.type_compiler = made.type_compiler_cls(made)
    named: Dialect = made
    return named


def meet(dialect: Any, version: str) -> None:
    """Let the dialect be as after its first connection to a server that calls itself `version`.

    MySQL's writes defaults and reserved words, takes back checks and updates duplicate rows in other ways for other
    servers. Raises what SQLAlchemy raises, of a release that looks otherwise inside.
    """
    kind = type(dialect)
    answers: dict[str, Any] = {name: _answering(answer) for name, answer in _ANSWERS.items()}
    answers["_get_server_version_info"] = lambda self, connection: self._parse_server_version(version)
    answers["_detect_sql_mode"] = lambda self, connection: setattr(self, "_sql_mode", "")
    answers["_detect_ansiquotes"] = lambda self, connection: setattr(self, "_server_ansiquotes", False)
    dialect.__class__ = type(kind.__name__, (kind,), answers)
    try:
        dialect.initialize(_Connection())
    finally:
        dialect.__class__ = kind


def hangs_on_version(construct: Any, dialect: Any) -> bool:
    """Whether DDL for PostgreSQL is another for servers before 18: a generated column is not stored there where a
    revision does not say so, and older ones have no such columns. So it is since SQLAlchemy 2.1."""
    if not isinstance(construct, ExecutableDDLElement) or dialect.name != "postgresql":
        return False
    texts = set[str]()
    with warnings.catch_warnings(action="ignore"):
        for has_virtual in (False, True):
            dialect.supports_virtual_generated_columns = has_virtual
            texts.add(str(construct.compile(dialect=dialect)))
    return len(texts) > 1


def _answering(answer: Any) -> Any:
    def answering(self: Any, connection: Any) -> Any:
        return answer

    return answering
