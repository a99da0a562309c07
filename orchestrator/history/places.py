"""Where in a revision file something is declared, found without executing it."""

from __future__ import annotations

import ast
from pathlib import Path


def line_of(file: str, name: str) -> int | None:
    """The line that assigns the module's variable, or None."""
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return node.lineno
    return None


# What a revision reads or makes up outside of its database: rendered once, one tenant's answer would serve all.
_OUTSIDE = frozenset(
    {"today", "utcnow", "time", "time_ns", "uuid1", "uuid4", "token_hex", "token_urlsafe", "token_bytes", "urandom"}
    | {"open", "read_text", "read_bytes", "environ", "getenv", "gethostname", "getuser", "random", "randint", "choice"}
)


def outside(file: str) -> str | None:
    """Why the revision's SQL may depend on more than its files: it calls for the time, chance, files, the environment.

    Two renderings a moment apart may agree by accident. SQL's own functions (`sa.func.now()`) are the server's.
    """
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
    for node in ast.walk(tree):
        name = _called(node)
        if name in _OUTSIDE or name == "now":
            return f"it reads something outside of its database (`{name}`, line {getattr(node, 'lineno', '?')})"
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


def null_byte(file: str) -> int | None:
    """The line with the first NUL, which Python refuses without saying where."""
    try:
        before, found, _ = Path(file).read_bytes().partition(b"\0")
    except OSError:
        return None
    return before.count(b"\n") + 1 if found else None
