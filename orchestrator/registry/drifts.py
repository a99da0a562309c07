"""How a track's targets are compared with each other."""

from __future__ import annotations

from dataclasses import dataclass

EVERY_SECONDS = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class Drift:
    """`ignore`: globs of the names of what does not count; `every_seconds`: how often the daemon looks, 0: never."""

    ignore: tuple[str, ...] = ()
    every_seconds: float = EVERY_SECONDS
