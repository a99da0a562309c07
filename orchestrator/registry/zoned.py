"""Local time and the moments it means. Pure.

One rule wherever the file names a local time: one that does not exist, since the clock is put forward over it, means
the moment right after the gap; one that comes twice, since the clock is put back, means its first coming.
"""

from __future__ import annotations

import difflib
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

_SECOND = timedelta(seconds=1)


@cache
def zone(name: str) -> ZoneInfo:
    """The time zone of that name. Raises ValueError, which names one that may be meant."""
    if name in _names():
        return ZoneInfo(name)
    close = difflib.get_close_matches(name, _names(), n=1)
    meant = f"did you mean {close[0]!r}?" if close else "write it as `Europe/Berlin` or `UTC`"
    raise ValueError(f"there is no time zone {name!r}; {meant}")


def moment(local: datetime, where: ZoneInfo) -> datetime:
    """When, in UTC, the clocks show this local time (without a zone) first, or are put forward over it.

    >>> moment(datetime(2026, 3, 29, 2, 30), zone("Europe/Berlin")).isoformat()
    '2026-03-29T01:00:00+00:00'
    >>> moment(datetime(2026, 10, 25, 2, 30), zone("Europe/Berlin")).isoformat()
    '2026-10-25T00:30:00+00:00'
    """
    first = local.replace(tzinfo=where, fold=0).astimezone(UTC)
    if first.astimezone(where).replace(tzinfo=None, fold=0) == local:
        return first
    return change(local.replace(tzinfo=where, fold=1).astimezone(UTC), first, where)


def change(before: datetime, after: datetime, where: ZoneInfo) -> datetime:
    """The first second, after `before` and up to `after`, at which clocks are other than at `before`; both in UTC, and
    clocks at `after` are other than then."""
    old = before.astimezone(where).utcoffset()
    while after - before > _SECOND:
        middle = before + timedelta(seconds=(after - before) // _SECOND // 2)
        if middle.astimezone(where).utcoffset() == old:
            before = middle
        else:
            after = middle
    return after


@cache
def _names() -> frozenset[str]:
    """Without what a machine has in the folder beside them."""
    return frozenset(name for name in available_timezones() if name not in ("localtime", "Factory"))
