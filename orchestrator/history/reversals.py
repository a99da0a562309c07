"""Whether a revision can be taken back, as its file says. Where that cannot be told, it is taken to be."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from orchestrator.history.syntax import tree_of

MISSING = "it has no function `downgrade`"
EMPTY = "its downgrade is empty"


def irreversible(file: str, module: Any) -> str | None:
    """Why the revision cannot be taken back; None when it can, or when it cannot be told: of a downgrade that comes
    from another file, or is decorated, say.

    An empty downgrade takes back an empty upgrade: revisions that only join branches have both.
    """
    function = getattr(module, "downgrade", None)
    if not callable(function):
        return MISSING
    downgrade = _defined(file, function)
    if downgrade is None:
        return None
    first = _first(downgrade)
    if first is None:
        upgrade = _defined(file, module.upgrade)
        return None if upgrade is not None and _first(upgrade) is None else EMPTY
    return f"its downgrade only raises {_raised(first)}" if isinstance(first, ast.Raise) else None


def _defined(file: str, function: Any) -> ast.FunctionDef | None:
    """The function in the file's syntax tree, found by the line that Python says it begins in."""
    code = getattr(function, "__code__", None)
    if code is None or Path(code.co_filename).resolve() != Path(file).resolve():
        return None
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.FunctionDef) and node.lineno == code.co_firstlineno and node.name == code.co_name:
            return node
    return None


def _first(function: ast.FunctionDef) -> ast.stmt | None:
    """The first statement that does something; None where the function ends before any does."""
    for node in function.body:
        if isinstance(node, ast.Return) and (node.value is None or isinstance(node.value, ast.Constant)):
            return None
        if not isinstance(node, ast.Pass) and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            return node
    return None


def _raised(node: ast.Raise) -> str:
    raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
    return ast.unparse(raised) if raised is not None else "an error"
