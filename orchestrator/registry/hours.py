"""When windows are open, as moments. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple

from orchestrator.registry import zoned
from orchestrator.registry.times import Hours, Window

# Whoever looks for an opening looks no further ahead; and days that begin before "now" may still be open.
HORIZON = timedelta(days=400)
_BEFORE = timedelta(days=2)
_DAY = timedelta(days=1)


class Span(NamedTuple):
    """From one moment up to, and without, another; both in UTC."""

    begin: datetime
    end: datetime


def openings(window: Window, now: datetime) -> Iterator[Span]:
    """When it is open, now or later, in order; two never touch. Ends at the horizon."""
    now = now.astimezone(UTC)
    for span in _without(_opened(window, now), _closed(window)):
        if span.end > now:
            yield span


def common(windows: Sequence[Window], now: datetime) -> Iterator[Span]:
    """When all of them are open; always, as far as the horizon, when there are none."""
    found: Iterator[Span] = iter([Span(now.astimezone(UTC), now.astimezone(UTC) + HORIZON)])
    for window in windows:
        found = _both(found, openings(window, now))
    return found


def _opened(window: Window, now: datetime) -> Iterator[Span]:
    if not window.open:
        yield Span(now - _BEFORE, now + HORIZON)
        return
    held: Span | None = None
    for span in _written(window, now):
        if held is None or span.begin > held.end:
            if held is not None:
                yield held
            held = span
        else:
            held = Span(held.begin, max(held.end, span.end))
    if held is not None:
        yield held


def _written(window: Window, now: datetime) -> Iterator[Span]:
    """Day by day, in order of their beginning."""
    where = zoned.zone(window.timezone)
    day = (now - _BEFORE).astimezone(where).date()
    last = (now + HORIZON).astimezone(where).date()
    while day <= last:
        spans = [_span(day, hours, window.timezone) for hours in window.open if day.weekday() in hours.days]
        yield from sorted(span for span in spans if span.end > span.begin)
        day += _DAY


def _span(day: date, hours: Hours, timezone: str) -> Span:
    where, midnight = zoned.zone(timezone), datetime.combine(day, time())
    ends = (midnight + timedelta(minutes=minutes) for minutes in (hours.begin, hours.end))
    return Span(*(zoned.moment(end, where) for end in ends))


def _closed(window: Window) -> Sequence[Span]:
    where = zoned.zone(window.timezone)
    return sorted(Span(zoned.moment(one.begin, where), zoned.moment(one.end, where)) for one in window.blackouts)


def _without(spans: Iterator[Span], closed: Sequence[Span]) -> Iterator[Span]:
    for span in spans:
        begin = span.begin
        for gap in closed:
            if gap.end <= begin or gap.begin >= span.end:
                continue
            if gap.begin > begin:
                yield Span(begin, gap.begin)
            begin = max(begin, gap.end)
        if begin < span.end:
            yield Span(begin, span.end)


def _both(some: Iterator[Span], others: Iterator[Span]) -> Iterator[Span]:
    one, other = next(some, None), next(others, None)
    while one is not None and other is not None:
        begin, end = max(one.begin, other.begin), min(one.end, other.end)
        if begin < end:
            yield Span(begin, end)
        if one.end <= other.end:
            one = next(some, None)
        else:
            other = next(others, None)
