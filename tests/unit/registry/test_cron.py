"""Cron expressions against a second implementation, which walks over years half an hour at a time."""

from __future__ import annotations

import calendar
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.registry import cron, zoned

ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
YEARS = 10 if os.environ.get("SOAK") else 4  # with a leap year
BEGIN, END = datetime(2024, 12, 31, 7, 12, tzinfo=UTC), datetime(2025 + YEARS, 1, 2, tzinfo=UTC)
HALF_HOUR = timedelta(minutes=30)
NAMES = {"SUN": 0, "MON": 1, "TUE": 2, "WED": 3, "THU": 4, "FRI": 5, "SAT": 6} | {
    name.upper(): number for number, name in enumerate(calendar.month_abbr) if name
}
EXPRESSIONS = (
    "0 2 * * *",
    "30 2 * * *",
    "0 3 * * *",
    "45 1 * * *",
    "30 1,2,3 * * *",
    "0,20,40 2 * * *",
    "*/10 2 * * 0",
    "*/7 1-3 * * sun",
    "0 */2 * * *",
    "0 22-23 * * mon-fri",
    "30 2 29 3 *",
    "30 2 13 * 5",
    "0 4 1 */3 *",
    "17 3 29 2 *",
    "1 2 */10 * *",
    "0 2 * 3,4,10,11 sun#1",
    "0 6 L * *",
    "0 * * * *",
    "15 * * * sun",
    "45 0-23 * 4,10 *",
    "*/15 * 1-8,25-31 3,4,10,11 sun",
)


@dataclass(frozen=True)
class Read:
    """An expression, read in another way than the library does."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    both: bool
    nth: int | None = None
    last_day: bool = False

    def takes(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        in_month = day.day in self.days or (self.last_day and (day + timedelta(days=1)).day == 1)
        in_week = day.isoweekday() % 7 in self.weekdays and (self.nth is None or (day.day - 1) // 7 + 1 == self.nth)
        return in_month and in_week if self.both else in_month or in_week


def read(text: str) -> Read:
    minute, hour, day, month, weekday = text.upper().split()
    name, _, nth = weekday.partition("#")
    return Read(
        numbers(minute, 0, 59),
        numbers(hour, 0, 23),
        frozenset() if day == "L" else numbers(day, 1, 31),
        numbers(month, 1, 12),
        frozenset(n % 7 for n in numbers(name, 0, 6)),
        day.startswith("*") or weekday.startswith("*"),
        int(nth) if nth else None,
        day == "L",
    )


def numbers(field: str, low: int, high: int) -> frozenset[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        begin, end = (low, high) if span == "*" else (number(first), number(last or first))
        found.update(range(begin, end + 1, int(step or 1)))
    return frozenset(found)


def number(text: str) -> int:
    return NAMES[text] if text in NAMES else int(text)


@cache
def clock(zone: str) -> list[tuple[datetime, datetime]]:
    """What the clock shows at the beginning of each half-hour: clocks change at no other time."""
    where, now, shown = ZoneInfo(zone), BEGIN.replace(minute=0), []
    while now < END:
        shown.append((now, now.astimezone(where).replace(tzinfo=None)))
        now += HALF_HOUR
    return shown


def walked(text: str, zone: str) -> Iterator[datetime]:
    """All times from BEGIN to END, by the rules as they are documented."""
    wanted = read(text)
    hourly = wanted.hours == frozenset(range(24))
    halves = {half: [n for n in sorted(wanted.minutes) if half <= n < half + 30] for half in (0, 30)}
    takes = cache(wanted.takes)
    reached = before = clock(zone)[0][1]
    for now, local in clock(zone):
        gap = local - before
        if gap > HALF_HOUR and not (hourly and gap == timedelta(hours=1, minutes=30)):
            missing = [before + HALF_HOUR + timedelta(minutes=n) for n in range(int((gap - HALF_HOUR).seconds / 60))]
            if any(named(wanted, minute) for minute in missing) and not named(wanted, local):
                yield now
        before = local
        if (hourly or local >= reached) and local.hour in wanted.hours and takes(local.date()):
            for minute in halves[local.minute]:
                yield now + timedelta(minutes=minute - local.minute)
        reached = max(reached, local + HALF_HOUR)


def named(wanted: Read, local: datetime) -> bool:
    return local.minute in wanted.minutes and local.hour in wanted.hours and wanted.takes(local.date())


@pytest.mark.soak
@pytest.mark.parametrize("zone", ZONES)
def test_years_are_the_same_by_a_second_implementation(zone: str) -> None:
    changes = {later[1] - earlier[1] for earlier, later in pairwise(clock(zone))}
    assert len(changes) == 3  # or there is nothing to prove here
    for text in EXPRESSIONS:
        ours = list(takewhile(lambda due: due < END, cron.parse(text, zone).after(BEGIN)))
        theirs = [due for due in walked(text, zone) if due > BEGIN]
        assert ours == theirs, text
        assert ours, text


@pytest.mark.parametrize("zone", ZONES)
@settings(deadline=None)
@given(at=st.datetimes(datetime(2025, 1, 1), datetime(2034, 1, 1)), text=st.sampled_from(EXPRESSIONS))
def test_who_asks_from_any_moment_is_told_the_same(zone: str, at: datetime, text: str) -> None:
    moment = at.replace(tzinfo=UTC)
    one = cron.parse(text, zone)
    following = one.next(moment)
    assert following is not None
    assert following > moment
    long_before = takewhile(lambda due: due <= following, one.after(moment - timedelta(days=2)))
    assert following in list(long_before)
    assert one.next(following - timedelta(microseconds=1)) == following


@pytest.mark.parametrize("change", ["2026-03-29T00:00", "2026-10-25T00:00"])
@pytest.mark.parametrize("minute", [0, 15, 59])
def test_hourly_means_each_real_hour(change: str, minute: int) -> None:
    begin = datetime.fromisoformat(change).replace(tzinfo=UTC) - timedelta(hours=4, minutes=60 - minute)
    due = list(islice(cron.parse(f"{minute} * * * *", "Europe/Berlin").after(begin), 12))
    assert {later - earlier for earlier, later in pairwise(due)} == {timedelta(hours=1)}


def test_a_nightly_run_comes_once_in_each_of_the_two_odd_nights() -> None:
    nightly = cron.parse("30 2 * * *", "Europe/Berlin")
    assert nightly.next(datetime(2026, 3, 28, 12, tzinfo=UTC)) == datetime(2026, 3, 29, 1, tzinfo=UTC)  # 03:00
    assert nightly.next(datetime(2026, 3, 29, 1, tzinfo=UTC)) == datetime(2026, 3, 30, 0, 30, tzinfo=UTC)
    assert nightly.next(datetime(2026, 10, 24, 12, tzinfo=UTC)) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    # Also for who asks between its first and its second coming, and in the second.
    for minute in (31, 59, 61, 85):
        asked = datetime(2026, 10, 25, tzinfo=UTC) + timedelta(minutes=minute)
        assert nightly.next(asked) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0 0 31 2 *", "day-of-month"),
        ("60 * * * *", "minute"),
        ("0 24 * * *", "hour"),
        ("* * * *", "five fields"),
        ("0 0 * * * *", "five fields"),
        ("", "five fields"),
        ("@reboot", "@daily"),
        ("* * */20 * 1L", "fifty years"),
        (f"{'9' * 150} * * * *", "minute"),
        ("0 " * 150, "longer"),
        ("a b c d e", "minute"),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        cron.check(text)


@settings(deadline=None)
@given(st.text(max_size=40) | st.lists(st.text("0123456789*/,-#LW@ ", max_size=6), max_size=6).map(" ".join))
def test_no_text_is_answered_with_anything_else(text: str) -> None:
    try:
        cron.check(text)
    except ValueError:
        return
    assert cron.parse(text, "UTC").next(BEGIN) is not None


def test_an_unknown_zone_is_answered_with_the_likeliest() -> None:
    with pytest.raises(ValueError, match="Europe/Berlin"):
        zoned.zone("Europe/Belrin")
    with pytest.raises(ValueError, match="no time zone"):
        zoned.zone("../../etc/passwd")
