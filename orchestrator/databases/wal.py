"""How far behind in time somebody is who is so many bytes behind. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque

# Moments that are kept: a quarter of an hour of one each second.
KEPT = 900


class Timeline:
    """When the server's log had come how far.

    What a server itself says (`replay_lag`) stands still while a standby's replay does, and keeps the last delay for
    a while after it has caught up.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._moments: deque[tuple[float, float]] = deque(maxlen=kept)

    def note(self, now: float, position: float) -> None:
        """`position`, in bytes, is the log's end at the moment `now`, in seconds of any clock that never goes back."""
        if self._moments and position < self._moments[-1][1]:
            self._moments.clear()  # another server by now
        self._moments.append((now, position))

    def seconds_behind(self, position: float) -> float | None:
        """How long before the last moment the log's end was at `position`; None: longer ago than is known.

        >>> line = Timeline()
        >>> for second in range(11): line.note(second, second * 100.0)
        >>> line.seconds_behind(1000.0), line.seconds_behind(250.0), line.seconds_behind(-1.0)
        (0.0, 7.5, None)
        """
        if not self._moments or position < self._moments[0][1]:
            return None
        last, end = self._moments[-1]
        if position >= end:
            return 0.0
        # The first moment that is further than the position: until the one before it, nothing was missing.
        index = bisect_left(self._moments, True, key=lambda moment: moment[1] > position)
        (before, done), (after, further) = self._moments[index - 1], self._moments[index]
        return last - (before + (after - before) * (position - done) / (further - done))

    @property
    def seconds_known(self) -> float:
        return self._moments[-1][0] - self._moments[0][0] if self._moments else 0.0
