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


def null_byte(file: str) -> int | None:
    """The line with the first NUL, which Python refuses without saying where."""
    try:
        before, found, _ = Path(file).read_bytes().partition(b"\0")
    except OSError:
        return None
    return before.count(b"\n") + 1 if found else None
