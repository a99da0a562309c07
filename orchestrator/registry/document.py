"""A YAML file as plain values, with the line and column of each.

Scalars stay the text that was written, so that `007`, `no`, `12:30` and `2026-01-01` are what they look like; only
`null`, `~` and nothing at all are None. What is a number or a boolean is for the reader of a value to say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from orchestrator.errors import Mistake, RegistryError

if TYPE_CHECKING:
    from yaml import SafeLoader as _BestLoader
else:
    _BestLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Where = tuple[str | int, ...]

_NULL, _MERGE = "tag:yaml.org,2002:null", "tag:yaml.org,2002:merge"
_TAGS = frozenset(
    f"tag:yaml.org,2002:{kind}" for kind in ("str", "null", "merge", "map", "seq", "int", "float", "bool")
)
_UNREADABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_DEEPEST, _LARGEST = 40, 5_000_000


class _Loader(_BestLoader):
    """Knows nulls and merge keys, and no other magic.

    The library calls the two `…_resolver` methods around each node; its own follow paths, which we have no use for.
    Counting there is the only way to stop in time: composing recurses in C, and deep nesting ends the process.
    """

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - the library's own way to say it
    depth = 0

    def descend_resolver(self, current_node: Node | None, current_index: object) -> None:
        self.depth += 1
        if self.depth > _DEEPEST and current_node is not None:
            raise yaml.MarkedYAMLError(problem="it is nested too deeply", problem_mark=current_node.start_mark)

    def ascend_resolver(self) -> None:
        self.depth -= 1


_Loader.add_implicit_resolver(_NULL, re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(_MERGE, re.compile(r"^<<$"), ["<"])


@dataclass(frozen=True)
class Document:
    """One file: its text, its top-level mapping, and the mistakes already seen (duplicate keys, odd tags)."""

    source: str
    text: str = field(repr=False)
    value: dict[str, Any] = field(repr=False)
    mistakes: tuple[Mistake, ...]
    root: Node = field(repr=False)

    def position(self, where: Where, *, key: bool = False) -> tuple[int, int]:
        """Line and column, from 1, of the value at `where` or of its key, or else of what is around it."""
        node, name = self.root, self.root
        for part in where:
            pair = _child(node, part)
            if pair is None:
                return _place(node)
            name, node = pair
        return _place(name if key else node)


def read(path: Path) -> Document:
    """Read a YAML file whose top is a mapping.

    Raises RegistryError with one mistake when it cannot be read, is empty, is not YAML or is no mapping.
    """
    source = str(path)
    text = _decode(source, _content(path))
    root = _compose(source, text)
    reader = _Reader(source)
    value = reader.value(root)
    if not isinstance(value, dict):
        raise RegistryError(
            source, [*reader.mistakes, Mistake(*_place(root), "the file must be a mapping of sections")]
        )
    return Document(source, text, value, tuple(reader.mistakes), root)


def _content(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_dir() and not path.is_file():
            raise RegistryError(str(path), [Mistake(0, 0, "it is not a file: a pipe, say, can be read only once")])
        return path.read_bytes()
    except FileNotFoundError:
        raise RegistryError(str(path), [Mistake(0, 0, "there is no such file: set ORCHESTRATOR_CONFIG")]) from None
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or "not a file name"
        raise RegistryError(str(path), [Mistake(0, 0, f"the file cannot be read: {reason}")]) from exc


def _decode(source: str, content: bytes) -> str:
    try:
        text = content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as exc:
        before = content[: exc.start].decode("utf-8")
        raise RegistryError(source, [_mistake_after(before, "the file is not UTF-8 text")]) from None
    if odd := _UNREADABLE.search(text):
        message = f"the character U+{ord(odd[0]):04X} cannot stand in a YAML file"
        raise RegistryError(source, [_mistake_after(text[: odd.start()], message)])
    return text


def _mistake_after(before: str, message: str) -> Mistake:
    return Mistake(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1, message)


def _compose(source: str, text: str) -> Node:
    loader = _Loader(text)
    try:
        root: Node | None = loader.get_single_node()
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        problem = _problem(exc, text.splitlines()[place[0] - 1 : place[0]], place[1])
        raise RegistryError(source, [Mistake(*place, f"this cannot be read as YAML: {problem}")]) from None
    except (yaml.YAMLError, RecursionError) as exc:
        raise RegistryError(source, [Mistake(0, 0, f"this cannot be read as YAML: {type(exc).__name__}")]) from None
    finally:
        loader.dispose()
    if root is None:
        raise RegistryError(source, [Mistake(1, 1, "the file is empty: it needs `tracks`, `shards` and `tenants`")])
    return root


def _problem(exc: yaml.MarkedYAMLError, line: list[str], column: int) -> str:
    if line and line[0][column - 1 : column] == "\t":
        return "a tab stands where only spaces may: indent with spaces"
    return ": ".join(part for part in (exc.context, exc.problem) if part)


def _place(node: Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _child(node: Node, part: str | int) -> tuple[Node, Node] | None:
    """Key and value below `node`; keys merged in by `<<` come after its own."""
    if isinstance(node, SequenceNode):
        found = isinstance(part, int) and 0 <= part < len(node.value)
        return (node.value[part], node.value[part]) if found else None
    if not isinstance(node, MappingNode):
        return None
    for key, value in node.value:
        if isinstance(key, ScalarNode) and key.tag != _MERGE and key.value == part:
            return key, value
    merged = (value for key, value in node.value if key.tag == _MERGE)
    sources = (one for value in merged for one in (value.value if isinstance(value, SequenceNode) else [value]))
    return next((pair for one in sources if (pair := _child(one, part))), None)


@dataclass
class _Reader:
    """Turns nodes into values. An anchored node is built once, however often it is referred to."""

    source: str
    mistakes: list[Mistake] = field(default_factory=list)
    built: dict[int, tuple[Any, int]] = field(default_factory=dict)
    open: set[int] = field(default_factory=set)
    size: int = 0

    def value(self, node: Node) -> Any:
        if isinstance(node, ScalarNode):
            self.size += 1
            self._check_tag(node)
            return None if node.tag == _NULL else node.value
        if id(node) in self.built:
            value, size = self.built[id(node)]
            self.size += size
        else:
            value = self._collection(node)
        if self.size > _LARGEST:
            self._give_up(node, "the aliases unfold to more than can be meant")
        return value

    def _collection(self, node: Node) -> Any:
        if id(node) in self.open:
            self._give_up(node, "this refers to itself")
        self._check_tag(node)
        self.open.add(id(node))
        before = self.size
        self.size += 1
        if isinstance(node, MappingNode):
            value: Any = self._mapping(node)
        else:
            value = [self.value(child) for child in node.value]
        self.open.discard(id(node))
        self.built[id(node)] = value, self.size - before
        return value

    def _mapping(self, node: MappingNode) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, child in node.value:
            if not isinstance(key, ScalarNode):
                self._complain(key, "a key must be text")
            elif key.tag == _MERGE:
                merged = {**self._merged(child), **merged}
            elif key.value in own:
                first = next(k for k, _ in node.value if k.value == key.value)
                self._complain(key, f"`{key.value}` is given twice, first in line {_place(first)[0]}: keep one")
            else:
                own[key.value] = self.value(child)
        return {**merged, **own} if merged else own

    def _merged(self, node: Node) -> dict[str, Any]:
        value = self.value(node)
        sources = value if isinstance(value, list) else [value]
        if not all(isinstance(source, dict) for source in sources):
            self._complain(node, "`<<` needs a mapping or a list of mappings")
            return {}
        return {key: item for source in reversed(sources) for key, item in source.items()}

    def _check_tag(self, node: Node) -> None:
        if node.tag not in _TAGS:
            self._complain(node, "this YAML tag is not known here: leave it out")

    def _give_up(self, node: Node, message: str) -> NoReturn:
        raise RegistryError(self.source, [*self.mistakes, Mistake(*_place(node), message)])

    def _complain(self, node: Node, message: str) -> None:
        self.mistakes.append(Mistake(*_place(node), message))
