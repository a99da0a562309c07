"""Which SQLAlchemy driver env.py's URL names, where the registry does not say."""

from __future__ import annotations

import ast
from pathlib import Path

from sqlalchemy.engine import URL

from orchestrator.history.syntax import tree_of

_ASYNC_NAMES = frozenset({"create_async_engine", "async_engine_from_config", "AsyncEngine"})
_DRIVERS = {
    ("postgresql", False): "psycopg",
    ("postgresql", True): "asyncpg",
    ("mysql", False): "pymysql",
    ("mysql", True): "asyncmy",
    ("mariadb", False): "pymysql",
    ("mariadb", True): "asyncmy",
    ("sqlite", False): "pysqlite",
    ("sqlite", True): "aiosqlite",
}
AS_WRITTEN = "none"


def drivername(url: URL, asynchronous: bool, wanted: str | None) -> str:
    """`dialect+driver` for the URL that env.py is given; `asynchronous` as `is_async` tells of that env.py.

    The track's `driver` wins (`none`: the shard's URL as it is written), then a driver named in the shard's URL, then
    what suits an env.py that builds an async engine, or a synchronous one.
    """
    dialect = url.get_backend_name()
    if wanted == AS_WRITTEN or (wanted is None and "+" in url.drivername):
        return url.drivername
    driver = wanted or _DRIVERS.get((dialect, asynchronous))
    return f"{dialect}+{driver}" if driver else url.drivername


def synchronous(url: URL) -> URL:
    """The URL with a driver that blocks, whichever it names."""
    if not url.get_dialect().is_async:
        return url
    plain = url.set(drivername=url.get_backend_name())
    return plain.set(drivername=drivername(plain, False, None))


def is_async(env_py: Path) -> bool:
    """True when env.py names one of SQLAlchemy's async engines."""
    return any(
        (isinstance(node, ast.Name) and node.id in _ASYNC_NAMES)
        or (isinstance(node, ast.Attribute) and node.attr in _ASYNC_NAMES)
        or (isinstance(node, ast.alias) and node.name in _ASYNC_NAMES)
        for node in ast.walk(tree_of(env_py))
    )
