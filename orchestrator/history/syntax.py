"""Syntax trees of a project's files."""

from __future__ import annotations

import ast
import threading
from functools import lru_cache
from pathlib import Path

# CPython counts the depth of a tree for all threads together: those that parse at once fail now and then with
# "SystemError: AST constructor recursion depth mismatch" (seen with 3.11.7, sixteen migrations in one process).
_one_at_a_time = threading.Lock()


def tree_of(file: str | Path) -> ast.Module:
    """The file's tree, an empty one where it cannot be read or parsed. Any thread may ask; nobody may change it."""
    try:
        status = Path(file).stat()
        with _one_at_a_time:
            return _parsed(str(file), status.st_mtime_ns, status.st_size)
    except (OSError, SyntaxError, ValueError):
        return ast.Module([], [])


@lru_cache(maxsize=64)
def _parsed(file: str, modified_ns: int, size: int) -> ast.Module:
    return ast.parse(Path(file).read_bytes())


def parsed(source: str | bytes) -> ast.Module:
    """The tree of a file's text, as `tree_of`."""
    try:
        with _one_at_a_time:
            return _parsed_text(source)
    except (SyntaxError, ValueError):
        return ast.Module([], [])


@lru_cache(maxsize=64)
def _parsed_text(source: str | bytes) -> ast.Module:
    return ast.parse(source)
