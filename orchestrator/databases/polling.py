"""Pauses for asking again."""

from __future__ import annotations

import random
from collections.abc import Iterator


def backoff(first_seconds: float, longest_seconds: float) -> Iterator[float]:
    """Endless pauses that double up to the longest, each shortened by up to a third so that askers spread out."""
    pause = first_seconds
    while True:
        yield pause * random.uniform(2 / 3, 1)
        pause = min(pause * 2, longest_seconds)
