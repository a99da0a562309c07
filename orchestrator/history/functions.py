"""A function as it is written, with all of the project that it is made of: by this a backfill tells it from another.

Texts count, and not what was compiled of them, so that another release of Python makes no other function. Of what is
given to it when it is made (`partial`, a closure, the object of a method), and of what is imported, the values count;
of what is installed, the name.
"""

from __future__ import annotations

import ast
import enum
import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from functools import cache, partial
from pathlib import Path
from types import CellType, CodeType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa

from orchestrator.history import clauses, loaded
from orchestrator.history.modules import is_the_projects
from orchestrator.history.syntax import parsed

_PLAIN = (str, bytes, int, float, complex, Decimal, date, time, timedelta, UUID, enum.Enum, type(None))


class _Written(NamedTuple):
    text: str
    names: frozenset[str]


class _Home(NamedTuple):
    """Where something is written, and what its module knows."""

    file: str
    there: Mapping[str, Any]


def told(function: Any) -> str:
    """The same text for the same function, on every machine."""
    return "\n".join(" ".join(part.split()) for part in _Telling().of(function))


class _Telling:
    """Tells each part once, so what calls itself comes to an end."""

    def __init__(self) -> None:
        self._seen: dict[object, object] = {}
        self._definitions = cache(_definitions)

    def of(self, value: Any) -> Iterator[str]:
        if isinstance(value, _PLAIN):
            yield repr(value)
        elif isinstance(value, re.Pattern):  # whose repr is cut off
            yield repr((value.pattern, value.flags))
        elif isinstance(value, (dict, MappingProxyType)):
            for key, one in sorted(value.items(), key=lambda pair: repr(pair[0])):
                yield repr(key)
                yield from self.of(one)
        elif isinstance(value, (set, frozenset)):
            yield from sorted(map(repr, value))
        elif isinstance(value, (list, tuple)):
            for one in value:
                yield from self.of(one)
        elif isinstance(value, sa.ClauseElement):
            yield clauses.written(value)
        else:
            yield from self._code(value)

    def _code(self, value: Any) -> Iterator[str]:
        if isinstance(value, partial):
            yield from self.of([value.func, value.args, value.keywords])
        elif isinstance(value, MethodType):
            yield from self.of([value.__func__, value.__self__])
        elif isinstance(value, FunctionType):
            yield from self._function(value)
        elif isinstance(value, type):
            yield from self._elsewhere(value, _home(value))
        elif isinstance(within := getattr(value, "__wrapped__", None), FunctionType):  # as `functools.cache` makes it
            yield from self.of(within)
        elif self._is_new(id(value), value):
            yield from self.of(type(value))
            if _home(type(value)) is not None:
                yield from self.of(getattr(value, "__dict__", None))

    def _function(self, function: FunctionType) -> Iterator[str]:
        code = function.__code__
        if self._is_new(code):
            yield _source(function)
            yield from self.of([function.__defaults__, function.__kwdefaults__])
            yield from self.of([_content(cell) for cell in function.__closure__ or ()])
            if _is_ours(code.co_filename):
                yield from self._named(_Home(code.co_filename, function.__globals__), _names(code))

    def _named(self, home: _Home, names: Iterable[str]) -> Iterator[str]:
        """What code calls by these names there."""
        definitions = self._definitions(home.file)
        for name in sorted({*names} & home.there.keys()):
            value = home.there[name]
            if name in definitions:
                if self._is_new((home.file, name)):
                    for written in definitions[name]:
                        yield written.text
                        yield from self._named(home, written.names)
            elif isinstance(value, ModuleType):
                file = getattr(value, "__file__", None)
                if isinstance(file, str) and _is_ours(file):
                    yield from self._named(_Home(file, vars(value)), names)
            elif isinstance(value, FunctionType):
                yield from self._elsewhere(value, _Home(value.__code__.co_filename, value.__globals__))
            else:
                yield from self.of(value)

    def _elsewhere(self, value: FunctionType | type, home: _Home | None) -> Iterator[str]:
        """Of a function or a class that was imported, what is written where it comes from."""
        yield value.__qualname__
        if home is not None and _is_ours(home.file):
            yield from self._named(home, [value.__name__])

    def _is_new(self, what: object, kept: object = None) -> bool:
        """`kept`: what must not go while `what` stands for it."""
        if what in self._seen:
            return False
        self._seen[what] = kept
        return True


def _home(kind: type) -> _Home | None:
    """Of a class; None where it is Python's own, or installed."""
    functions = [it for it in vars(kind).values() if isinstance(it, FunctionType)]
    written = [it for it in functions if not it.__code__.co_filename.startswith("<")]
    if written:
        home = _Home(written[0].__code__.co_filename, written[0].__globals__)
    else:
        module = sys.modules.get(kind.__module__)
        home = _Home(getattr(module, "__file__", None) or "", vars(module) if module is not None else {})
    return home if _is_ours(home.file) else None


def _is_ours(file: str) -> bool:
    return bool(file) and is_the_projects(Path(file).resolve())


def _definitions(file: str) -> Mapping[str, list[_Written]]:
    """What the file makes known by name, but for what it imports."""
    text = loaded.text(file)
    found: dict[str, list[_Written]] = {}
    for node in parsed(text).body:
        names = {it.id for it in ast.walk(node) if isinstance(it, ast.Name)}
        used = names | {it.attr for it in ast.walk(node) if isinstance(it, ast.Attribute)}
        parts: list[ast.AST] = [node]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined, parts = {node.name}, [*node.decorator_list, node]
        elif isinstance(node, ast.Import | ast.ImportFrom):
            continue
        else:  # an assignment, or several within an `if` or a `try`
            stored = (it for it in ast.walk(node) if isinstance(it, ast.Name) and isinstance(it.ctx, ast.Store))
            defined = {it.id for it in stored}
        written = "\n".join(filter(None, (ast.get_source_segment(text, part) for part in parts)))
        for name in defined:
            found.setdefault(name, []).append(_Written(written, frozenset(used)))
    return found


def _names(code: CodeType) -> set[str]:
    within = (const for const in code.co_consts if isinstance(const, CodeType))
    return {*code.co_names, *(name for one in within for name in _names(one))}


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is not made yet
        return None


def _source(function: FunctionType) -> str:
    """Its own text, where that can be told; wherever it stands."""
    try:
        return _lambdas(function) or inspect.getsource(function.__code__)
    except (OSError, TypeError):
        return function.__qualname__


def _lambdas(function: FunctionType) -> str:
    """Of a lambda, it and those that begin in the same line, without what stands around them; else nothing."""
    if function.__name__ != "<lambda>":
        return ""
    lines, _ = inspect.findsource(function.__code__)
    text, first = "".join(lines), function.__code__.co_firstlineno
    found = (node for node in ast.walk(parsed(text)) if isinstance(node, ast.Lambda) and node.lineno == first)
    return "\n".join(filter(None, (ast.get_source_segment(text, node) for node in found)))
