"""The text of files that Python has loaded: a file may be another one by the time that somebody asks for its text."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Iterable
from pathlib import Path


def keep(files: Iterable[str], modules: Iterable[str]) -> None:
    """Keep the text of these files as it is now, for this process: they were loaded just now, and are not loaded again.
    `modules`: files of modules, wherever Python has found them."""
    wanted = {Path(file).resolve() for file in modules}
    named = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    for file in {*files, *(one for one in named if isinstance(one, str) and Path(one).resolve() in wanted)}:
        if lines := linecache.getlines(file):
            linecache.cache[file] = len("".join(lines)), None, lines, file  # without a time, it is never read again


def text(file: str) -> str:
    """The text as it was kept; else as it is. Nothing where it cannot be read."""
    linecache.checkcache(file)
    return "".join(linecache.getlines(file))
