"""How fast a backfill goes, and when it will have ended. Pure."""

from __future__ import annotations

from collections import deque

from orchestrator.backfill.model import Progress

WINDOW_SECONDS = 30.0
# Nobody plans further ahead; and nothing is known of a backfill that has hardly begun to move.
LONGEST_ETA_SECONDS = 365 * 86_400.0


class Speed:
    """Rows a second of one backfill over the last half minute, pauses included. One is enough for each backfill: it
    keeps one moment a second."""

    def __init__(self) -> None:
        self._heard: deque[tuple[float, int]] = deque()

    def hear(self, seen: int, now: float) -> None:
        """The rows that its batches have passed so far. Fewer than before: it began anew."""
        if self._heard and seen < self._heard[-1][1]:
            self._heard.clear()
        if len(self._heard) > 1 and int(self._heard[-2][0]) == int(now):
            self._heard.pop()
        self._heard.append((now, seen))
        while len(self._heard) > 2 and self._heard[1][0] <= now - WINDOW_SECONDS:
            self._heard.popleft()

    def rows_per_second(self, now: float) -> float | None:
        """None before the first batch has ended."""
        if not self._heard or self._heard[-1][1] == self._heard[0][1]:
            return 0.0 if self._heard and now - self._heard[0][0] >= WINDOW_SECONDS and self._has_moved() else None
        (begin, before), (_, seen) = self._heard[0], self._heard[-1]
        return (seen - before) / max(now - begin, 1e-3)

    def _has_moved(self) -> bool:
        return self._heard[-1][1] > 0


def estimated(progress: Progress) -> int | None:
    """Rows that it will have passed in the end: never fewer than it has.

    >>> estimated(Progress(seen=120, estimated=100)), estimated(Progress(seen=120, finished=True, estimated=200))
    (120, 120)
    """
    if progress.finished:
        return progress.seen
    return None if progress.estimated is None else max(progress.estimated, progress.seen)


def done(progress: Progress) -> float | None:
    """The part that is done, from 0 to 1; None where nobody knows."""
    total = estimated(progress)
    if progress.finished:
        return 1.0
    return None if total is None else progress.seen / total if total else 0.0


def eta_seconds(progress: Progress, rows_per_second: float | None) -> float | None:
    """Seconds until its end at this speed; None where it does not move, or nobody can tell: as of one that has passed
    all the rows that were estimated.

    >>> eta_seconds(Progress(seen=400, estimated=1000), 20.0)
    30.0
    """
    if progress.finished:
        return 0.0
    total = estimated(progress)
    if total is None or progress.seen >= total or not rows_per_second or rows_per_second <= 0:
        return None
    seconds = (total - progress.seen) / rows_per_second
    return seconds if seconds <= LONGEST_ETA_SECONDS else None
