"""How many refused requests are recorded: enough to see who tries, not so many that trying fills the store. Pure."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

# In each window, from one place and for one reason; and from all together.
WINDOW_SECONDS = 600.0
PER_PLACE = 5
IN_ALL = 60
PLACES = 1_000


@dataclass
class Bound:
    """`admit` says for each refusal whether it is recorded, and how many were left out since the last that was."""

    _since: float = float("-inf")
    _counts: OrderedDict[tuple[str, str], int] = field(default_factory=OrderedDict)
    _recorded: int = 0
    _left_out: int = 0

    def admit(self, place: str, reason: str, now: float) -> int | None:
        """None: it is not recorded. `now` is in seconds, of a clock that is never set."""
        if now - self._since >= WINDOW_SECONDS:
            self._since, self._recorded = now, 0
            self._counts.clear()
        key = (place, reason)
        if len(self._counts) < PLACES or key in self._counts:
            self._counts[key] = self._counts.get(key, 0) + 1
        if self._counts.get(key, PER_PLACE + 1) > PER_PLACE or self._recorded >= IN_ALL:
            self._left_out += 1
            return None
        self._recorded += 1
        left_out, self._left_out = self._left_out, 0
        return left_out
