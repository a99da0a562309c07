"""When a delivery that failed is tried again. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pauses:
    """Seconds between attempts: they grow threefold from `first` to at most `longest`."""

    first: float = 5.0
    longest: float = 3600.0

    def after(self, attempts: int, luck: float, asked: float | None = None) -> float:
        """The pause after so many attempts; `luck` from 0 to 1 takes up to half of it away, so that what failed
        together does not come back together. `asked`: what the receiver asks for, at least.

        >>> [Pauses().after(n, luck=0) for n in (1, 2, 3, 9)]
        [5.0, 15.0, 45.0, 3600.0]
        >>> Pauses().after(1, luck=1), Pauses().after(1, luck=1, asked=90)
        (2.5, 90)
        """
        pause: float = min(self.first * 3 ** min(attempts - 1, 20), self.longest) * (1 - luck / 2)
        return pause if asked is None else max(pause, min(asked, self.longest))
