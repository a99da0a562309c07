"""Where in a revision file something is declared, found without executing it."""

from __future__ import annotations

import ast
from pathlib import Path

from orchestrator.history.syntax import tree_of


def line_of(file: str, name: str) -> int | None:
    """The line that assigns the module's variable, or None."""
    for node in tree_of(file).body:
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
