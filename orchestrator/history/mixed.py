"""What the source of a revision says of its backfills: whether there are any, and what is mixed with them.

A revision with a backfill commits again and again, so it can hold nothing that is to be taken back with it: only
backfills and what asks. This is read from the source, so that a plan can tell before anything runs.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from orchestrator.history.syntax import parsed
from orchestrator.plan.steps import Direction

BACKFILLS = "backfill"
# Operations that change nothing, so they may stand beside backfills.
_ASKS = frozenset({"verify", "requires_backfill"})
# Those that `orchestrator.operations` has as functions.
_OURS = _ASKS | {"backfill", "backfill_rows", "backfill_sql"}
_BESIDE = _ASKS | {"get_context", "f", "inline_literal"}
# What of a migration context leads past the operations.
_PAST = frozenset({"bind", "connection", "execute", "impl", "get_bind"})
DIRECTIONS: tuple[Direction, ...] = ("upgrade", "downgrade")


@dataclass(frozen=True, slots=True, order=True)
class Mixed:
    """Something that must not stand in one revision with a backfill; `line` counts from 1."""

    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.what} (line {self.line})"


@dataclass(frozen=True, slots=True)
class _Use:
    """One use of Alembic's operations: what of them is named, and where in the tree."""

    name: str
    node: ast.expr

    @property
    def is_backfill(self) -> bool:
        return self.name.startswith(BACKFILLS)


def holds_backfill(source: str | bytes, direction: Direction | None = None) -> bool:
    """Whether the revision holds backfills, in this direction or in any. One whose source cannot be parsed holds none.

    >>> holds_backfill("from alembic import op\\ndef upgrade(): op.backfill('t', set_={'a': 1})")
    True
    """
    found = _directions(source)
    return bool(found) if direction is None else direction in found


def asks_of_backfills(source: str | bytes) -> str | None:
    """The first operation by which the file has the database asked whether it may go on, if there is one."""
    if not any(word in _as_text(source) for word in _ASKS):
        return None
    return next((use.name for use in _Names(parsed(source)).uses() if use.name in _ASKS), None)


def mixed(source: str | bytes, *, held: bool = False) -> tuple[Mixed, ...]:
    """What must not stand beside the revision's backfills, in order of lines; empty where it holds none.

    The whole file counts, both directions and what they call in it. What is called in other files is not seen; `held`
    says that there is a backfill among it.

    >>> mixed("from alembic import op\\ndef upgrade():\\n  op.backfill('t', set_={})\\n  op.drop_column('t', 'b')")
    (Mixed(line=4, what='op.drop_column'),)
    """
    if not held and not _directions(source):
        return ()
    tree = parsed(source)
    names = _Names(tree)
    found = {Mixed(use.node.lineno, f"op.{use.name}") for use in names.uses() if not _may_stand(use)}
    return tuple(sorted(found | set(names.around()) | set(names.handed_on())))


def _may_stand(use: _Use) -> bool:
    return use.is_backfill or use.name in _BESIDE


@lru_cache(maxsize=512)
def _directions(source: str | bytes) -> frozenset[Direction]:
    """In which directions the revision holds backfills. One in a place that neither direction is seen to reach counts
    for both."""
    if BACKFILLS not in _as_text(source):
        return frozenset()  # most revisions: they are not parsed
    tree = parsed(source)
    backfills = [use.node for use in _Names(tree).uses() if use.is_backfill]
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    reached = {way: _reached(way, functions) for way in DIRECTIONS}
    found: set[Direction] = set()
    for node in backfills:
        ways = [way for way in DIRECTIONS if any(_is_within(node, functions[name]) for name in reached[way])]
        found.update(ways or DIRECTIONS)
    return frozenset(found)


def _as_text(source: str | bytes) -> str:
    return source if isinstance(source, str) else source.decode("latin-1")


def _reached(name: str, functions: dict[str, ast.FunctionDef | ast.AsyncFunctionDef]) -> set[str]:
    """The file's functions that this one may call, itself among them."""
    reached: set[str] = set()
    left = [name]
    while left:
        function = left.pop()
        if function in functions and function not in reached:
            reached.add(function)
            left += [node.id for node in ast.walk(functions[function]) if isinstance(node, ast.Name)]
    return reached


def _is_within(node: ast.AST, function: ast.AST) -> bool:
    return any(inner is node for inner in ast.walk(function))


class _Names:
    """Under which names a file knows Alembic's operations and its context."""

    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree
        self._modules: dict[str, set[str]] = {"op": set(), "context": set()}
        self._direct: dict[str, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self._imported(alias)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                for alias in node.names:
                    self._taken_from(node.module or "", alias)
        self._contexts = {
            target.id for node in self._contexts_named() for target in node.targets if isinstance(target, ast.Name)
        }

    def _imported(self, alias: ast.alias) -> None:
        for module, names in self._modules.items():
            if alias.name == f"alembic.{module}" and alias.asname:
                names.add(alias.asname)
        if alias.name == "alembic" or (alias.name.startswith("alembic.") and not alias.asname):
            root = alias.asname or "alembic"
            for module, names in self._modules.items():
                names.add(f"{root}.{module}")
        if alias.name == "orchestrator.operations" and alias.asname:
            self._modules["op"].add(alias.asname)
        elif alias.name == "orchestrator" or (alias.name.startswith("orchestrator.") and not alias.asname):
            self._modules["op"].add(f"{alias.asname or 'orchestrator'}.operations")

    def _taken_from(self, module: str, alias: ast.alias) -> None:
        if module == "alembic" and alias.name in self._modules:
            self._modules[alias.name].add(alias.asname or alias.name)
        if (module, alias.name) == ("orchestrator", "operations"):
            self._modules["op"].add(alias.asname or alias.name)
        if module == "alembic.op" or (module == "orchestrator.operations" and alias.name in _OURS):
            self._direct[alias.asname or alias.name] = alias.name

    def uses(self) -> Iterator[_Use]:
        """Each place that names an operation."""
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Attribute) and self._is(node.value, "op"):
                yield _Use(node.attr, node)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in self._direct:
                yield _Use(self._direct[node.id], node)

    def around(self) -> Iterator[Mixed]:
        """Each place that takes the connection, or sends SQL, by way of the migration context."""
        for node in ast.walk(self._tree):
            if not isinstance(node, ast.Attribute) or node.attr not in _PAST:
                continue
            if self._is(node.value, "context"):
                yield Mixed(node.lineno, f"context.{node.attr}")
            elif self._is_the_context(node.value):
                yield Mixed(node.lineno, f"get_context().{node.attr}")

    def handed_on(self) -> Iterator[Mixed]:
        """Each place that gives the operations, or the migration context, to something else, which may do anything with
        them. A name for the context is followed."""
        named = {id(node.value) for node in ast.walk(self._tree) if isinstance(node, ast.Attribute)}
        called = {id(node.func) for node in ast.walk(self._tree) if isinstance(node, ast.Call)}
        given = {id(node.value) for node in self._contexts_named()}
        for node in ast.walk(self._tree):
            if not isinstance(node, ast.expr) or id(node) in named:
                continue
            if self._is(node, "op"):
                yield Mixed(node.lineno, "op is handed on")
            elif (self._is_the_context(node) and id(node) not in given) or (
                self._is_get_context(node) and id(node) not in called
            ):
                yield Mixed(node.lineno, "get_context() is handed on")

    def _contexts_named(self) -> Iterator[ast.Assign]:
        """Each `name = op.get_context()`."""
        for node in ast.walk(self._tree):
            if not isinstance(node, ast.Assign) or not all(isinstance(target, ast.Name) for target in node.targets):
                continue
            if isinstance(node.value, ast.Call) and self._is_get_context(node.value.func):
                yield node

    def _is_the_context(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Name):
            return isinstance(node.ctx, ast.Load) and node.id in self._contexts
        return isinstance(node, ast.Call) and self._is_get_context(node.func)

    def _is(self, node: ast.expr, module: str) -> bool:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            return f"{node.value.id}.{node.attr}" in self._modules[module]
        return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in self._modules[module]

    def _is_get_context(self, function: ast.expr) -> bool:
        if isinstance(function, ast.Name):
            return self._direct.get(function.id) == "get_context"
        if not isinstance(function, ast.Attribute) or function.attr != "get_context":
            return False
        return self._is(function.value, "op") or self._is(function.value, "context")
