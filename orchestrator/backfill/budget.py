"""A shard's rows a second, shared by the backfills that run on it. Pure: whoever asks says what time it is.

All draw from one account, which fills as time goes by and may be overdrawn by one batch. Who may draw next is decided
as start-time fair queueing does (Goyal, Vin, Cheng: SIGCOMM 1996): each flow's tag says how many rows it was given, and
the lowest of those that wait comes first. A flow that comes back from something else than waiting takes up at the tag
that the others have reached: what it did not use meanwhile went to them. So the shares are max-min fair, and no flow's
speed need be known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# What may be saved up, and what one batch may take, in seconds of the whole budget: together a tenth of five seconds.
SAVED_SECONDS = 0.2
BATCH_SECONDS = 0.2
# What one batch may take, in seconds of its own share.
SMOOTH_SECONDS = 0.5
# Who was told to come back and is so late is not waited for; before that, others may pass it by two batches at most.
LATE_SECONDS = 0.5
PASSES = 2.0
# Over so many seconds it is measured what a flow uses, and one that uses less of its share leaves the rest to others.
MEASURED_SECONDS = 3.0
USED_PART = 0.8
_SHORTEST_WAIT = 0.001


@dataclass(slots=True)
class _Flow:
    """`tag`: rows given to it, as the queue counts. `used`: rows of late, fading. `due`: when it comes back; None
    while it does not wait."""

    joined: float
    tag: float
    used: float = 0.0
    at: float = 0.0
    due: float | None = None
    size: int = 0

    def rate(self, now: float) -> float:
        return self.used * math.exp((self.at - now) / MEASURED_SECONDS) / MEASURED_SECONDS

    def count(self, rows: float, now: float) -> None:
        self.used = max(0.0, self.rate(now) * MEASURED_SECONDS + rows)
        self.at = now


class Budget:
    """Rows a second of one shard; None: as many as there are. Times are seconds of any clock that never goes back."""

    def __init__(self, rows_per_second: float | None, now: float) -> None:
        self._rate = _usable(rows_per_second)
        self._flows: dict[str, _Flow] = {}
        self._rows, self._at, self._reached = 0.0, now, 0.0

    @property
    def rows_per_second(self) -> float | None:
        return self._rate

    def change(self, rows_per_second: float | None, now: float) -> None:
        """Another budget from now on; what is saved or overdrawn stays the same in seconds."""
        rate = _usable(rows_per_second)
        if rate == self._rate:
            return
        self._fill(now)
        self._rows = self._rows / self._rate * rate if self._rate and rate else 0.0
        self._rate = rate

    def join(self, flow: str, now: float) -> None:
        """A backfill that begins, or goes on after it was held. One that is there already stays as it is."""
        self._flows.setdefault(flow, _Flow(now, self._reached, at=now))

    def leave(self, flow: str) -> None:
        """A backfill that has ended, or is held by something else: its share goes to the others at once."""
        self._flows.pop(flow, None)

    def ask(self, flow: str, size: int, now: float) -> float:
        """0.0: a batch of so many rows may begin, and is charged. Else the seconds after which to ask again.

        At most `largest` rows should be asked for, or the sum is not smooth.
        """
        if self._rate is None:
            return 0.0
        self.join(flow, now)
        self._fill(now)
        own = self._flows[flow]
        if own.due is None or now > own.due + LATE_SECONDS:
            own.tag = max(own.tag, self._reached)
        own.size = size
        ahead = self._ahead(own, now)
        if self._rows >= 0 and self._may_pass(own, ahead, now):
            self._grant(own, now)
            return 0.0
        rows = sum(one.size for one in ahead) - self._rows
        wait = max(rows / self._rate, _SHORTEST_WAIT)
        own.due = now + wait
        return wait

    def settle(self, flow: str, size: int, seen: int, now: float) -> None:
        """A batch that was made for `size` rows has passed `seen` of them: the rest is given back."""
        spare = size - seen
        if self._rate is None or spare <= 0:
            return
        self._fill(now)
        self._rows = min(self._rows + spare, self._rate * SAVED_SECONDS)
        if own := self._flows.get(flow):
            own.tag -= spare
            own.count(-spare, now)

    def largest(self, now: float) -> int | None:
        """So many rows at most should a batch have, of any flow; None: there is no budget."""
        if self._rate is None:
            return None
        return max(1, int(min(self.share(now) * SMOOTH_SECONDS, self._rate * BATCH_SECONDS)))

    def share(self, now: float) -> float:
        """Rows a second of a flow that could use more, as measured: an equal part of what slower ones leave over."""
        rate = self._rate or 0.0
        left, flows = rate, len(self._flows)
        for used in sorted(self._measured(flow, now) for flow in self._flows.values()):
            if flows == 1 or used >= USED_PART * left / flows:
                break
            left, flows = left - used, flows - 1
        return left / max(flows, 1)

    def _measured(self, flow: _Flow, now: float) -> float:
        """What a new one uses is not known yet: it counts in full."""
        return math.inf if now - flow.joined < MEASURED_SECONDS else flow.rate(now)

    def _fill(self, now: float) -> None:
        if self._rate is not None:
            saved = self._rate * SAVED_SECONDS
            self._rows = min(self._rows + max(0.0, now - self._at) * self._rate, saved)
        self._at = max(self._at, now)

    def _ahead(self, own: _Flow, now: float) -> list[_Flow]:
        """Those that wait with a lower tag, but for who is too late."""
        return [
            one
            for one in self._flows.values()
            if one is not own and one.due is not None and now <= one.due + LATE_SECONDS and one.tag < own.tag
        ]

    def _may_pass(self, own: _Flow, ahead: list[_Flow], now: float) -> bool:
        """Rows must not be left lying because who comes first is late by a moment; but neither may it fall behind."""
        if not ahead:
            return True
        if any(one.due is not None and one.due > now for one in ahead):
            return False
        return own.tag - min(one.tag for one in ahead) <= PASSES * max(own.size, 1)

    def _grant(self, own: _Flow, now: float) -> None:
        self._rows -= own.size
        self._reached = max(self._reached, own.tag)
        own.tag += own.size
        own.due = None
        own.count(own.size, now)


def _usable(rows_per_second: float | None) -> float | None:
    """0 stands for no budget."""
    return rows_per_second if rows_per_second and rows_per_second > 0 else None
