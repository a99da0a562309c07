"""When a cron expression comes due, in a time zone. Pure.

Fields are read by `cronsim`, as Debian's cron does; what happens when clocks change is decided here:

- An expression that names every hour of the day follows the clock on the wall: it comes each time that the clock shows
  a matching minute. So an hourly one keeps coming each real hour, through both passes of an hour that comes twice.
  Where clocks move by half an hour, a minute that the gap has taken out of an hour comes right after the gap.
- Any other expression comes once for each local time that it names: right after the gap for those that do not exist
  (once for all of them), and at the first coming of those that come twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from orchestrator.registry import zoned

MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
LONGEST = 200
_ANY_TIME = datetime(2024, 1, 1)
_SECOND, _HOUR, _DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
_EVERY_HOUR = frozenset(range(24))


@dataclass(frozen=True, slots=True)
class Cron:
    """An expression that can be read, and a time zone that there is: made by `parse`."""

    text: str
    timezone: str

    def after(self, moment: datetime) -> Iterator[datetime]:
        """The moments in UTC at which it comes due, from the first one after `moment` on; never the same one twice."""
        where = zoned.zone(self.timezone)
        if _is_hourly(self.text):
            yield from _shown(" ".join(_fields(self.text)), moment.astimezone(UTC), where)
            return
        last, local = moment, moment.astimezone(where).replace(tzinfo=None)
        for named in CronSim(" ".join(_fields(self.text)), local):
            due = zoned.moment(named, where)
            if due > last:
                last = due
                yield due

    def next(self, moment: datetime) -> datetime | None:
        """The first one after `moment`; None when there is none within fifty years."""
        return next(self.after(moment), None)


def parse(text: str, timezone: str) -> Cron:
    """Raises ValueError, which says what is wrong."""
    check(text)
    zoned.zone(timezone)
    return Cron(" ".join(text.split()), timezone)


def check(text: str) -> str:
    """The expression as it is written, if it can be read and ever comes due. Raises ValueError."""
    if len(text) > LONGEST:
        raise ValueError(f"an expression must not be longer than {LONGEST} characters")
    if text.strip().startswith("@") and text.strip().lower() not in MACROS:
        raise ValueError(f"{text.strip()!r} is not known; there are {', '.join(MACROS)}")
    if len(_fields(text)) != 5:
        raise ValueError("this must have five fields: minute, hour, day of the month, month, day of the week")
    try:
        first = next(CronSim(" ".join(_fields(text)), _ANY_TIME), None)
    except (CronSimError, ValueError, AssertionError) as exc:
        field = str(exc).removeprefix("Bad ") if isinstance(exc, CronSimError) else "expression"
        raise ValueError(f"the {field} cannot be read, or never comes") from None
    if first is None:
        raise ValueError("no such day comes within fifty years")
    return text


def _shown(text: str, moment: datetime, where: ZoneInfo) -> Iterator[datetime]:
    """Each moment after `moment` at which the clock shows a minute that an hourly expression names.

    The library walks over local times that know no zone: with one, it passes over minutes that come twice within an
    hour (Lord Howe).
    """
    offset = _offset(moment, where)
    local = (moment + offset).replace(tzinfo=None)
    while True:
        for named in CronSim(text, local):
            due = (named - offset).replace(tzinfo=UTC)
            if changed := _changed(moment, due, where):
                break
            yield due
            moment = due
        else:
            return
        before, offset, moment = offset, _offset(changed, where), changed
        local = (changed + offset).replace(tzinfo=None)
        if (offset - before) % _HOUR and named < local:  # an hour has lost a minute that is meant
            yield changed
        else:
            local -= _SECOND  # and so the first moment after the change counts


def _changed(before: datetime, after: datetime, where: ZoneInfo) -> datetime | None:
    """When clocks change between two moments. Of moments further apart, the day after the first is looked at, too."""
    offset = _offset(before, where)
    for later in (min(after, before + _DAY), after):
        if _offset(later, where) != offset:
            return zoned.change(before, later, where)
    return None


def _offset(moment: datetime, where: ZoneInfo) -> timedelta:
    return moment.astimezone(where).utcoffset() or timedelta()


def _fields(text: str) -> list[str]:
    return MACROS.get(text.strip().lower(), text).split()


@cache
def _is_hourly(text: str) -> bool:
    return frozenset(CronSim(" ".join(_fields(text)), _ANY_TIME).hours) == _EVERY_HOUR
