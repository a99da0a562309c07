"""A shard's rows a second, shared by the backfills that run on it. Pure: whoever asks says what time it is.

All draw from one account, which fills as time goes by and may be overdrawn by one batch. Each flow is entitled to an
equal part of the budget; that it may draw as long as the account is not overdrawn. What others leave of their parts
gathers in the account: above a reserve, which keeps it open for those who are entitled, flows may draw on top of their
own, those first that have drawn least so. Thus the shares are max-min fair whatever each flow can do, nothing of the
budget lies idle, and no flow's speed need be known beforehand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# What may be saved up, and what one batch may take, in seconds of the whole budget: together less than a tenth of five
# seconds. Half of what may be saved is the reserve.
SAVED_SECONDS = 0.2
RESERVE_SECONDS = 0.1
BATCH_SECONDS = 0.2
# What one batch may take, in seconds of its flow's own part; and how much of that time a flow that waits may be late
# without losing any of it.
SMOOTH_SECONDS = 0.4
LATE_SECONDS = 0.25
# Over so many seconds it is measured what a flow uses, and one that uses less of its part leaves the rest to others.
MEASURED_SECONDS = 3.0
USED_PART = 0.8
# Who has waited for so much of that time is slow for want of budget, and for no other reason.
WAITED_PART = 0.2
# What that makes of the shares is found so often.
SHARED_SECONDS = 0.25
# Nobody is told to come back sooner than after this part of the time that its batch is worth.
SHORTEST_WAIT_SECONDS, WAITING_PART = 0.005, 0.05
LONGEST_SLOT_SECONDS = 0.025


@dataclass(slots=True)
class _Flow:
    """`drawn`: rows of its own part, as `Budget._parted` counts. `extra`: rows on top of that, as `Budget._reached`
    counts. `used` and `waited`: rows, and seconds of waiting, of late; both fade, from `at` on. While it waits, it does
    so `since`, and comes back when it is `due`."""

    joined: float
    drawn: float
    extra: float
    at: float
    used: float = 0.0
    waited: float = 0.0
    since: float = 0.0
    due: float | None = None

    def is_waiting(self, now: float) -> bool:
        return self.due is not None and now <= self.due + LATE_SECONDS

    def wait(self, seconds: float, now: float) -> float:
        if self.due is None:
            self.since = now
        self.due = now + seconds
        return seconds

    def count(self, rows: float, now: float) -> None:
        fading = self._fading(now)
        self.used = max(0.0, self.used * fading + rows)
        self.waited = self.waited * fading + (0.0 if self.due is None else now - self.since)
        self.at, self.due = now, None

    def wants(self, now: float) -> float:
        """Rows a second that it can use, as far as it is known: who is kept waiting, or is new, may use any number."""
        waited = self.waited * self._fading(now) + (now - self.since if self.is_waiting(now) else 0.0)
        if now - self.joined < MEASURED_SECONDS or waited > WAITED_PART * MEASURED_SECONDS:
            return math.inf
        return self.used * self._fading(now) / MEASURED_SECONDS

    def _fading(self, now: float) -> float:
        return math.exp((self.at - now) / MEASURED_SECONDS)


class Budget:
    """Rows a second of one shard; None: as many as there are. Times are seconds of a clock that never goes back."""

    def __init__(self, rows_per_second: float | None, now: float) -> None:
        self._rate = _usable(rows_per_second)
        self._flows: dict[str, _Flow] = {}
        self._rows, self._at, self._slot = 0.0, now, now
        self._parted = self._reached = 0.0
        self._shared: tuple[float, float] | None = None

    @property
    def rows_per_second(self) -> float | None:
        return self._rate

    def change(self, rows_per_second: float | None, now: float) -> None:
        """Another budget from now on; what is saved or overdrawn stays the same in seconds."""
        rate = _usable(rows_per_second)
        if rate == self._rate:
            return
        self._fill(now)
        scale = rate / self._rate if self._rate and rate else 0.0
        self._rows, self._rate, self._slot = self._rows * scale, rate, now
        self._rescale(scale)
        for flow in self._flows.values():
            flow.extra, flow.joined, flow.due = self._reached, now, None

    def join(self, flow: str, now: float) -> None:
        """A backfill that begins, or goes on after it was held. One that is there already stays as it is."""
        if flow not in self._flows:
            self._fill(now)
            self._rescale(len(self._flows) / (len(self._flows) + 1))
            self._flows[flow] = _Flow(now, self._parted, self._reached, now)

    def leave(self, flow: str, now: float) -> None:
        """A backfill that has ended, or is held by something else: its part goes to the others at once."""
        if flow in self._flows:
            self._fill(now)
            del self._flows[flow]
            self._rescale((len(self._flows) + 1) / max(len(self._flows), 1))

    def ask(self, flow: str, size: int, now: float) -> float:
        """0.0: a batch of so many rows may begin, and is charged. Else the seconds after which to ask again.

        At most `largest` rows should be asked for, or the sum is not smooth.
        """
        if self._rate is None:
            return 0.0
        self.join(flow, now)
        self._fill(now)
        own, part = self._flows[flow], self._rate / len(self._flows)
        if not own.is_waiting(now):
            own.due = None
            own.drawn = max(own.drawn, self._parted - part * LATE_SECONDS)
            own.extra = max(own.extra, self._reached - size)
        wait = self._entitled(own, size, now) if own.drawn <= self._parted else self._on_top(own, size, now, part)
        if not wait:
            self._rows -= size
            own.count(size, now)
            return 0.0
        shortest = min(max(WAITING_PART * size / part, SHORTEST_WAIT_SECONDS), LONGEST_SLOT_SECONDS)
        return own.wait(max(wait, shortest), now)

    def settle(self, flow: str, size: int, seen: int, now: float) -> None:
        """A batch that was made for `size` rows has passed `seen` of them: the rest is given back."""
        spare = size - seen
        if self._rate is None or spare <= 0:
            return
        self._fill(now)
        self._rows = min(self._rows + spare, self._rate * SAVED_SECONDS)
        if own := self._flows.get(flow):
            own.drawn -= spare
            own.used = max(0.0, own.used - spare)

    def largest(self, now: float) -> int | None:
        """So many rows at most should a batch have, of any flow; None: there is no budget."""
        if self._rate is None:
            return None
        return max(1, int(min(self.share(now) * SMOOTH_SECONDS, self._rate * BATCH_SECONDS)))

    def share(self, now: float) -> float:
        """Rows a second of a flow that could use more, as measured: an equal part of what slower ones leave over."""
        if self._shared is None or now - self._shared[0] > SHARED_SECONDS:
            self._shared = now, self._level(now)
        return self._shared[1]

    def _level(self, now: float) -> float:
        left, flows = self._rate or 0.0, len(self._flows)
        for used in sorted(flow.wants(now) for flow in self._flows.values()):
            if flows == 1 or used >= USED_PART * left / flows:
                break
            left, flows = left - used, flows - 1
        return left / max(flows, 1)

    def _fill(self, now: float) -> None:
        passed = max(0.0, now - self._at)
        if self._rate is not None and passed:
            self._rows = min(self._rows + passed * self._rate, self._rate * SAVED_SECONDS)
            self._parted += passed * self._rate / max(len(self._flows), 1)
        self._at = max(self._at, now)

    def _rescale(self, scale: float) -> None:
        """Parts are other than before: what flows are ahead or behind stays the same in seconds."""
        self._shared = None
        for flow in self._flows.values():
            flow.drawn = self._parted + (flow.drawn - self._parted) * scale

    def _entitled(self, own: _Flow, size: int, now: float) -> float:
        """Seconds to wait for one that may draw of its own part; 0.0: it has."""
        assert self._rate is not None
        if self._rows >= 0:
            own.drawn += size
            return 0.0
        wait = -self._rows / self._rate
        if own.due is None:  # many may come at once: each gets a moment of its own
            wait = max(wait, self._slot - now)
            self._slot = now + wait + min(size / self._rate, LONGEST_SLOT_SECONDS)
        return wait

    def _on_top(self, own: _Flow, size: int, now: float, part: float) -> float:
        """Seconds to wait for one that has drawn its own part; 0.0: it may have what others leave."""
        assert self._rate is not None
        lacking = self._rate * RESERVE_SECONDS - self._rows
        if lacking <= 0 and own.extra <= min(
            one.extra for one in self._flows.values() if one.is_waiting(now) or one is own
        ):
            self._reached = max(self._reached, own.extra)
            own.extra += size
            return 0.0
        return min((own.drawn - self._parted) / part, max(lacking, 1.0) / self._rate)


def _usable(rows_per_second: float | None) -> float | None:
    """0 stands for no budget."""
    return rows_per_second if rows_per_second and rows_per_second > 0 else None
