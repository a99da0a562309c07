"""How the work of a function grows with a text that somebody writes so that it takes long."""

from __future__ import annotations

import time
from collections.abc import Callable

SHORT, LONG = 2_500, 20_000
# Eight times as much text may take so many times as long: in proportion it is 8, with its square 64.
MOST = 28
# What takes less than this, in seconds of processor time, is not measured well, and harms nobody.
_FLOOR_SECONDS = 0.0005


def grows_in_proportion(work: Callable[[str], object], begin: str, part: str, end: str) -> bool:
    """Whether work over `begin`, `part` again and again, and `end` grows as the text does, and not with its square."""
    texts = [begin + part * (length // len(part)) + end for length in (SHORT, LONG)]
    for _ in range(3):  # a machine that has other things to do may be slow once
        short, long = (_seconds(work, text) for text in texts)
        if long < MOST * max(short, _FLOOR_SECONDS):
            return True
    return False


def _seconds(work: Callable[[str], object], text: str) -> float:
    """Of the processor, in this thread."""
    began = time.thread_time()
    work(text)
    return time.thread_time() - began
