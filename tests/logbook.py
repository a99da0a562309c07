"""The calls of loggers in the package, as its source has them; and the tables of docs/logs.md."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from orchestrator.observe import log_calls, log_events, log_keys
from orchestrator.observe.log_entries import RENAMED, Entry, Told, words

PACKAGE = Path(__file__).parents[1] / "orchestrator"
# Who hands the lines of the table to the logger, and who sets loggers up; and what speaks under plain Alembic, by the
# standard library's logging and in sentences, as Alembic does.
OTHERS = {"observe/lines.py", "observe/logs.py", "cli/remarks.py", "history/batches.py", "history/unpaced.py"}
MAKERS = {"get_logger", "getLogger"}
LEVELS = {"debug": "debug", "info": "info", "warning": "warning", "error": "error", "exception": "error"}
# What a call unpacks.
UNPACKED = {"tell.who(self.migration)": ("rollout", "tenant", "track", "shard", "wave")}
ENTRIES: Sequence[Entry] = (*log_events.ENTRIES, log_events.ROLLOUT_FINISHED, *log_calls.ENTRIES)


class Call(NamedTuple):
    """`name` is None where it is no literal."""

    where: str
    name: str | None
    level: str
    keys: frozenset[str]


def loggers(tree: ast.Module) -> set[str]:
    """The names of a module's loggers."""
    return {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and _called(node.value) in MAKERS
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def calls(path: Path) -> Iterator[Call]:
    """Each use of a module's loggers. One that is no call of a level has no name, and is found, too."""
    source, where = path.read_text(), str(path.relative_to(PACKAGE))
    if not any(maker in source for maker in MAKERS):
        return
    tree = ast.parse(source)
    known = loggers(tree)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _called(node) in MAKERS and not isinstance(parents[node], ast.Assign):
            yield Call(f"{where}:{node.lineno}", None, "", frozenset())
        if isinstance(node, ast.Name) and node.id in known and isinstance(node.ctx, ast.Load):
            method = parents[node]
            call = parents.get(method)
            place = f"{where}:{node.lineno}"
            if isinstance(method, ast.Attribute) and isinstance(call, ast.Call) and method.attr in LEVELS:
                yield _read(place, call, method.attr)
            else:
                yield Call(place, None, "", frozenset())


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _read(where: str, call: ast.Call, method: str) -> Call:
    first = call.args[0] if len(call.args) == 1 else None
    name = first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None
    keys = {"exception"} if method == "exception" else set()
    for keyword in call.keywords:
        if keyword.arg == "exc_info":  # which is told as `exception`
            continue
        keys |= {keyword.arg} if keyword.arg else set(UNPACKED[ast.unparse(keyword.value)])
    return Call(where, name, LEVELS[method], frozenset(keys))


def tables() -> dict[str, str]:
    """The parts of docs/logs.md that are made, by the names of their marks."""
    found: dict[str, Sequence[Entry]] = {
        "lines of rollouts": [*log_events.ROLLOUTS, log_events.ROLLOUT_FINISHED, *log_events.MIGRATIONS],
        "lines of backfills": [*log_events.BACKFILLS],
        "lines of the fleet": [*log_events.FLEET],
        "lines of the daemon": [*log_events.DAEMON],
        "further lines": [*log_calls.ENTRIES],
    }
    keys = {"keys of every line": log_keys.COMMON, "keys that join": log_keys.WHICH, "further keys": log_keys.VALUES}
    return {
        **{mark: "\n".join(_lines(entries)) for mark, entries in found.items()},
        **{
            mark: "\n".join(
                ["| key | means |", "| --- | --- |", *(f"| `{key}` | {text} |" for key, text in known.items())]
            )
            for mark, known in keys.items()
        },
        "what to do": "\n".join(_remedies()),
    }


def _lines(entries: Sequence[Entry]) -> Iterator[str]:
    yield "| event | level | tells | keys |\n| --- | --- | --- | --- |"
    for entry in entries:
        keys = " ".join(f"`{key}`" for key in entry.keys)
        yield f"| `{entry.name}` | {words(entry.level, _renamed(entry))} | {entry.told} | {keys} |"


def _remedies() -> Iterator[str]:
    yield "| event | what to do |\n| --- | --- |"
    for entry in sorted(ENTRIES, key=lambda it: it.name):
        if entry.remedy:
            yield f"| `{entry.name}` | {entry.remedy} |"


def _renamed(entry: Entry) -> dict[str, str]:
    return dict(RENAMED.get(entry.event, {})) if isinstance(entry, Told) else {}
