"""What the source of a revision or of env.py says about itself, where running it would not show it."""

from __future__ import annotations

import ast
from pathlib import Path

# What a revision reads or makes up outside of its database: rendered once, one tenant's answer would serve all.
_CLOCK = frozenset({"now", "today", "utcnow", "time", "time_ns"})
_CHANCE = frozenset(
    {"random", "randint", "choice", "uuid1", "uuid4", "urandom", "token_bytes", "token_hex", "token_urlsafe"}
)
_MACHINE = frozenset({"open", "read_text", "read_bytes", "environ", "getenv", "gethostname", "getuser"})
_OUTSIDE = _CLOCK | _CHANCE | _MACHINE
# By what env.py gets around SQLAlchemy's statements.
_DRIVERS = frozenset({"psycopg", "psycopg2", "asyncpg", "pg8000"})
_AROUND = frozenset({"cursor", "raw_connection", "listen", "listens_for"})


def outside(file: str) -> str | None:
    """Why the revision's SQL may depend on more than its files: it calls for the time, chance, files, the environment.

    Two renderings a moment apart may agree by accident. SQL's own functions (`sa.func.now()`) are the server's.
    """
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
    for node in ast.walk(tree):
        name, line = _called(node), getattr(node, "lineno", "?")
        if isinstance(node, ast.Try | ast.TryStar) or name == "suppress":
            return f"it catches errors (line {line}), which replay cannot"
        if name in _OUTSIDE:
            return f"it reads something outside of its database (`{name}`, line {line})"
    return None


def besides(env_py: str) -> str | None:
    """Why env.py may do more than send SQLAlchemy's statements: it takes cursors, drivers or listeners."""
    try:
        tree = ast.parse(Path(env_py).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
    for node in ast.walk(tree):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if any(module.split(".")[0] in _DRIVERS for module in modules) or _called(node) in _AROUND:
            return f"env.py takes a driver, a cursor or a listener (line {getattr(node, 'lineno', '?')})"
    return None


def _called(node: ast.AST) -> str | None:
    """The name that is called, or looked up as `environ` is; None for SQL's functions."""
    if isinstance(node, ast.Attribute) and node.attr == "environ":
        return node.attr
    if not isinstance(node, ast.Call):
        return None
    if isinstance(node.func, ast.Name):
        return node.func.id
    if not isinstance(node.func, ast.Attribute) or "func" in ast.unparse(node.func.value).split("."):
        return None
    return node.func.attr
