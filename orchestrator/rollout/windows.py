"""Whether a migration may start now, by the windows of its target and by a freeze of the fleet. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from orchestrator.errors import FrozenError
from orchestrator.events import timestamp
from orchestrator.registry import hours, selector
from orchestrator.registry.hours import HORIZON
from orchestrator.registry.model import Registry, Target
from orchestrator.registry.selector import Selector
from orchestrator.registry.times import Window

SHOWN = 3
# Nothing takes no time at all.
LEAST_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Freeze:
    """Nothing starts on the whole fleet: who said so, why, and since when."""

    by: str
    reason: str
    since: datetime

    def __str__(self) -> str:
        return f"frozen by {self.by} since {timestamp(self.since)}: {self.reason}"


def refused(freeze: Freeze) -> FrozenError:
    """What whoever wants to start something is told."""
    return FrozenError(f"nothing may start: {freeze}", remedy="lift it with `orchestrator freeze off`")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What holds at one moment, and `until` when: may it start? `waits_for` names the windows in the way.

    `until` None, of what may not start: never, as far as one can see. `fits` is false where the windows are open, and
    what is left of that is too short.
    """

    opens: bool
    until: datetime | None
    waits_for: tuple[str, ...] = ()
    fits: bool = True


@dataclass(frozen=True, slots=True)
class Held:
    """Targets of one shard that wait for the same."""

    shard: str
    count: int
    verdict: Verdict
    seconds: float


def concerning(registry: Registry, target: Target) -> tuple[str, ...]:
    """The names of the windows that take a target."""
    return tuple(name for name, window in registry.windows.items() if _selector(window.select).matches(target))


def judge(windows: Sequence[Window], now: datetime, seconds: float) -> Verdict:
    """Whether a migration that is predicted to take so many seconds may start: all windows must be open that long.

    Without windows it always may.
    """
    if not windows:
        return Verdict(True, now + HORIZON)
    lasting = timedelta(seconds=min(max(seconds, LEAST_SECONDS), HORIZON.total_seconds()))
    for span in hours.common(windows, now):
        latest = span.end - lasting
        if latest < max(span.begin, now):
            continue
        if span.begin <= now:
            return Verdict(True, latest)
        return _shut(windows, now, lasting, span.begin)
    return _shut(windows, now, lasting, None)


def _shut(windows: Sequence[Window], now: datetime, lasting: timedelta, until: datetime | None) -> Verdict:
    """Told by the windows that would not do by themselves; all of them, where only together they do not."""
    first = {window.name: next(hours.openings(window, now), None) for window in windows}
    in_the_way = [name for name, span in first.items() if span is None or span.begin > now or span.end < now + lasting]
    fits = any(span is None or span.begin > now for span in first.values())
    return Verdict(False, until, tuple(in_the_way or first), fits)


def told(held: Iterable[Held]) -> str | None:
    """What targets wait for, in one line; None when none waits.

    >>> from datetime import UTC
    >>> monday = datetime(2026, 11, 30, 21, tzinfo=UTC)
    >>> told([Held("pg", 12, Verdict(False, monday, ("nights",)), 60.0)])
    'waiting for window nights (12 targets on shard pg), which opens 2026-11-30T21:00:00.000Z'
    """
    ordered = sorted(held, key=lambda one: (one.verdict.until is None, one.verdict.until or datetime.max, one.shard))
    merged = _merged(ordered)
    if not merged:
        return None
    parts = [_said(one) for one in merged[:SHOWN]]
    left = sum(one.count for one in merged[SHOWN:])
    return f"waiting for {'; for '.join(parts)}" + (f"; and {left} more targets" if left else "")


def _merged(held: Iterable[Held]) -> list[Held]:
    """Those on one shard that wait for the same hours are told of together, by the longest that is predicted."""
    found: dict[tuple[str, Verdict], Held] = {}
    for one in held:
        key = one.shard, one.verdict
        same = found.get(key)
        together = one.count + (same.count if same else 0)
        found[key] = Held(one.shard, together, one.verdict, max(one.seconds, same.seconds if same else 0.0))
    return list(found.values())


def _said(held: Held) -> str:
    verdict, names = held.verdict, " and ".join(held.verdict.waits_for)
    noun = "window" if len(verdict.waits_for) == 1 else "windows"
    who = f"{noun} {names} ({held.count} target{'' if held.count == 1 else 's'} on shard {held.shard})"
    lasting = f"as they are predicted to take {_duration(held.seconds)}"
    if verdict.until is None:
        return f"{who}, never open for so long, {lasting}"
    opens = f"which open{'s' if noun == 'window' else ''} {timestamp(verdict.until)}"
    return f"{who}, {opens}" if verdict.fits else f"{who}, {opens}: what is left before is too short, {lasting}"


def _duration(seconds: float) -> str:
    """
    >>> _duration(0.2), _duration(90), _duration(5400)
    ('1 s', '2 min', '1.5 h')
    """
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:g} h"


def expected(registry: Registry, names: Iterable[str]) -> float:
    """How long a migration is taken to last of which nothing is known, by the most careful of these windows."""
    known: Mapping[str, Window] = registry.windows
    return max((known[name].expect_seconds for name in names if name in known), default=0.0)


@lru_cache(maxsize=1024)
def _selector(text: str) -> Selector:
    return selector.parse(text)
