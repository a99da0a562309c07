"""What the source of a revision or of env.py says about itself, where running it would not show it."""

from __future__ import annotations

import ast
import sys

from orchestrator.history.syntax import tree_of

# What a revision reads or makes up outside of its database: rendered once, one tenant's answer would serve all.
_CLOCK = frozenset({"now", "today", "utcnow", "time", "time_ns"})
_CHANCE = frozenset(
    {"random", "randint", "choice", "uuid1", "uuid4", "urandom", "token_bytes", "token_hex", "token_urlsafe"}
)
_MACHINE = frozenset({"open", "read_text", "read_bytes", "environ", "getenv", "gethostname", "getuser"})
_OUTSIDE = _CLOCK | _CHANCE | _MACHINE
# By what env.py gets around SQLAlchemy's statements.
_DRIVERS = frozenset(
    {"psycopg", "psycopg2", "asyncpg", "pg8000", "pymysql", "MySQLdb", "mysql", "mariadb", "asyncmy", "aiomysql"}
    | {"sqlite3", "aiosqlite"}
)
_AROUND = frozenset({"cursor", "raw_connection", "listen", "listens_for"})


def outside(file: str) -> str | None:
    """Why the revision's SQL may depend on more than its files: it calls for the time, chance, files, the environment.

    Two renderings a moment apart may agree by accident. SQL's own functions (`sa.func.now()`) are the server's.
    """
    for node in ast.walk(tree_of(file)):
        name, line = _called(node), getattr(node, "lineno", "?")
        if isinstance(node, ast.Try | ast.TryStar) or name == "suppress":
            return f"it catches errors (line {line}), which replay cannot"
        if name in _OUTSIDE:
            return f"it reads something outside of its database (`{name}`, line {line})"
    return None


def besides(env_py: str) -> str | None:
    """Why env.py may do more than send SQLAlchemy's statements: it takes cursors, drivers or listeners."""
    for node in ast.walk(tree_of(env_py)):
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


def variables(env_py: str) -> tuple[str, ...]:
    """The environment variables that env.py names: `os.environ["X"]`, `os.environ.get("X")`, `os.getenv("X")`."""
    found = set()
    for node in ast.walk(tree_of(env_py)):
        if isinstance(node, ast.Subscript) and _ends_with(node.value, "environ"):
            found.add(_text(node.slice))
        if isinstance(node, ast.Call) and node.args and _reads_environ(node.func):
            found.add(_text(node.args[0]))
    return tuple(sorted(filter(None, found)))


def attributes(env_py: str) -> tuple[str, ...]:
    """The keys of `config.attributes` that env.py looks for."""
    found = set()
    for node in ast.walk(tree_of(env_py)):
        if isinstance(node, ast.Subscript) and _ends_with(node.value, "attributes"):
            found.add(_text(node.slice))
        if isinstance(node, ast.Compare) and _ends_with(node.comparators[0], "attributes"):
            found.add(_text(node.left))
        if isinstance(node, ast.Call) and node.args and _is_method_of(node.func, "attributes"):
            found.add(_text(node.args[0]))
    return tuple(sorted(filter(None, found)))


def imports(env_py: str) -> tuple[str, ...]:
    """The packages that env.py imports, but for Python's own, Alembic and SQLAlchemy."""
    found: set[str] = set()
    for node in ast.walk(tree_of(env_py)):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        if isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").partition(".")[0])
    return tuple(sorted(found - sys.stdlib_module_names - {"alembic", "sqlalchemy"}))


def takes_current_app(env_py: str) -> bool:
    """Whether env.py takes Flask's current application."""
    return any(
        isinstance(node, ast.ImportFrom)
        and node.module == "flask"
        and any(one.name == "current_app" for one in node.names)
        for node in ast.walk(tree_of(env_py))
    )


def _ends_with(node: ast.AST, name: str) -> bool:
    return (isinstance(node, ast.Attribute) and node.attr == name) or (isinstance(node, ast.Name) and node.id == name)


def _reads_environ(function: ast.AST) -> bool:
    if _ends_with(function, "getenv"):
        return True
    return _is_method_of(function, "environ") and _ends_with(function, "get")


def _is_method_of(function: ast.AST, name: str) -> bool:
    return isinstance(function, ast.Attribute) and _ends_with(function.value, name)


def _text(node: ast.AST) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None
