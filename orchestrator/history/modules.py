"""Modules of the project that its revisions and env.py import: a change of them may change what a revision does.

They are found by reading the history: what Python has imported when all revision files and env.py have been executed.
What is imported only while a revision runs is not known by then, and what is installed (site-packages) is not the
project's. Only ever asked in a worker process, which has imported nothing of the project before.
"""

from __future__ import annotations

import collections
import functools
import hashlib
import os
import sys
import sysconfig
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

_INSTALLED = frozenset({"site-packages", "dist-packages"})
_OURS = Path(__file__).resolve().parents[1]
# Python's own, which may lie below a project's folder that is `/`.
_PYTHONS = frozenset(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib"))


def imported(folder: str, known: Iterable[str], path: Collection[str]) -> tuple[str, ...]:
    """Files of the modules that have been imported so far and are the project's: they lie below the folder above that
    of the scripts, or where Python looks for modules by now and did not by `path`. But for the `known` ones."""
    roots = [_above(folder), *(Path(entry).resolve() for entry in sys.path if entry and entry not in path)]
    besides = {Path(file).resolve() for file in known}
    found = {file for file in _files() if any(file.is_relative_to(root) for root in roots)}
    return tuple(sorted(str(file) for file in found - besides))


def contents_of(modules: Sequence[str], folder: str, scripts: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Their names, as they lie from the folder above that of the `scripts`, and digests of what is in them."""
    taken = {name for name, _ in scripts}
    for module in modules:
        name = Path(os.path.relpath(module, _above(folder))).as_posix()
        file = Path(module)
        digest = hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else ""
        yield f"./{name}" if name in taken else name, digest


def _above(folder: str) -> Path:
    return Path(folder).resolve().parent


def look_up() -> None:
    """Know beforehand what is no project's of all that has been imported: for a warm parent, whose workers have all of
    it, and else spend most of a reading on that."""
    collections.deque(_files(), maxlen=0)


def _files() -> Iterator[Path]:
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and (projects := _projects(file)) is not None:
            yield projects


@functools.cache
def _projects(file: str) -> Path | None:
    found = Path(file).resolve()
    return found if is_the_projects(found) else None


def is_the_projects(file: Path) -> bool:
    if not _INSTALLED.isdisjoint(file.parts) or file.is_relative_to(_OURS):
        return False
    return not any(file.is_relative_to(python) for python in _PYTHONS)
