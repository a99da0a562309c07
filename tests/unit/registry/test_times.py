"""Schedules and windows as the file has them, and when windows are open."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.registry import hours
from orchestrator.registry.hours import Span
from orchestrator.registry.times import Blackout, Hours, Window
from tests.unit.registry.files import SHARDS, TENANTS, TRACKS, loaded, refused

TIMES = """
schedules:
  nightly: {cron: "0 2 * * *", timezone: Europe/Berlin, select: "tenant=a*"}
  odd: {cron: "@hourly", track: "*", enabled: false, missed: run_once, missed_within: 2h, jitter: 5m}
windows:
  nights:
    select: shard=pg
    timezone: Europe/Berlin
    open:
      - {days: mon-fri, from: 22:00, to: "06:00"}
      - {days: "sat,sun", from: "00:00", to: "24:00"}
    blackouts:
      - {from: 2026-12-24, to: 2026-12-26, reason: Christmas}
    expect: 30m
"""


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def spans(window: Window, now: str, count: int = 3) -> list[tuple[str, str]]:
    found = islice(hours.openings(window, at(now)), count)
    return [(f"{span.begin:%d %H:%M}", f"{span.end:%d %H:%M}") for span in found]


def test_a_file_with_all_of_it(tmp_path: Path) -> None:
    registry = loaded(tmp_path, f"{TRACKS}{SHARDS}{TENANTS}{TIMES}")
    nightly, odd = registry.schedules["nightly"], registry.schedules["odd"]
    assert (nightly.track, nightly.to, nightly.strategy, nightly.enabled, nightly.missed) == (
        "app",
        "",
        "default",
        True,
        "skip",
    )
    assert (odd.track, odd.enabled, odd.missed, odd.missed_seconds, odd.jitter_seconds) == (
        "*",
        False,
        "run_once",
        7200.0,
        300.0,
    )
    nights = registry.windows["nights"]
    assert nights.open == (Hours((0, 1, 2, 3, 4), 22 * 60, 30 * 60), Hours((5, 6), 0, 24 * 60))
    assert nights.blackouts == (Blackout(datetime(2026, 12, 24), datetime(2026, 12, 27), "Christmas"),)


def test_a_change_of_them_is_a_change_of_the_registry(tmp_path: Path) -> None:
    before = loaded(tmp_path, f"{TRACKS}{SHARDS}{TENANTS}{TIMES}").digest
    for old, new in (("0 2 *", "0 3 *"), ("24:00", "23:00"), ("2026-12-26", "2026-12-27")):
        assert loaded(tmp_path, f"{TRACKS}{SHARDS}{TENANTS}{TIMES.replace(old, new)}").digest != before
    assert loaded(tmp_path, f"{TRACKS}{SHARDS}{TENANTS}{TIMES}").digest == before


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    wrong = TIMES.replace("@hourly", "@often").replace("Europe/Berlin", "Europe/Bonn").replace("mon-fri", "mo-fr")
    assert len(refused(tmp_path, f"{TRACKS}{SHARDS}{TENANTS}{wrong}").mistakes) == 4


NIGHTS = Window("nights", "Europe/Berlin", open=(Hours((0, 1, 2, 3, 4, 5, 6), 22 * 60, 30 * 60),))


def test_a_night_ends_on_the_next_day() -> None:
    assert spans(NIGHTS, "2026-07-01T23:00", 2) == [("01 20:00", "02 04:00"), ("02 20:00", "03 04:00")]
    assert spans(NIGHTS, "2026-07-02T03:59", 1) == [("01 20:00", "02 04:00")]
    assert spans(NIGHTS, "2026-07-02T04:00", 1) == [("02 20:00", "03 04:00")]


def test_a_night_is_an_hour_shorter_or_longer_when_clocks_change() -> None:
    assert spans(NIGHTS, "2026-03-28T22:00", 1) == [("28 21:00", "29 04:00")]
    assert spans(NIGHTS, "2026-10-24T22:00", 1) == [("24 20:00", "25 05:00")]


def test_hours_that_touch_are_one() -> None:
    weekend = Window("w", "UTC", open=(Hours((4,), 20 * 60, 24 * 60), Hours((5, 6), 0, 24 * 60)))
    assert spans(weekend, "2026-07-01T00:00", 1) == [("03 20:00", "06 00:00")]


def test_hours_that_a_gap_swallows_are_none() -> None:
    swallowed = Window("w", "Europe/Berlin", open=(Hours((6,), 2 * 60 + 10, 2 * 60 + 50),))
    assert spans(swallowed, "2026-03-28T00:00", 1) == [("05 00:10", "05 00:50")]


def test_a_blackout_cuts() -> None:
    cut = Window("w", "UTC", NIGHTS.select, NIGHTS.open, (Blackout(datetime(2026, 7, 1, 23), datetime(2026, 7, 2, 1)),))
    assert spans(cut, "2026-07-01T12:00", 3) == [
        ("01 22:00", "01 23:00"),
        ("02 01:00", "02 06:00"),
        ("02 22:00", "03 06:00"),
    ]
    always = Window("w", "UTC", blackouts=cut.blackouts)
    assert spans(always, "2026-07-01T23:30", 1)[0][0] == "02 01:00"


HOURS = st.builds(
    lambda days, begin, length: Hours(tuple(sorted(days)), begin, begin + length),
    st.sets(st.integers(0, 6), min_size=1),
    st.integers(0, 24 * 60 - 1),
    st.integers(1, 24 * 60),
)
MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2028, 1, 1)).map(lambda it: it.replace(microsecond=0))
BLACKOUTS = st.builds(
    lambda begin, length: Blackout(begin, begin + timedelta(minutes=length)), MOMENTS, st.integers(1, 60 * 24 * 40)
)
WINDOWS = st.builds(
    Window,
    st.just("w"),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"]),
    open=st.lists(HOURS, max_size=3).map(tuple),
    blackouts=st.lists(BLACKOUTS, max_size=3).map(tuple),
)


@settings(deadline=None)
@given(st.lists(WINDOWS, max_size=3), MOMENTS.map(lambda it: it.replace(tzinfo=UTC)))
def test_spans_are_in_order_apart_and_within_each_window(windows: list[Window], now: datetime) -> None:
    found = list(islice(hours.common(windows, now), 12))
    assert all(span.begin < span.end and span.end > now for span in found)
    assert all(one.end < other.begin for one, other in pairwise(found)) or len(windows) != 1
    assert all(one.end <= other.begin for one, other in pairwise(found))
    for span in found:
        for moment in (span.begin, span.end - timedelta(seconds=1)):
            assert all(is_open(window, moment) for window in windows), moment


@settings(deadline=None)
@given(WINDOWS, MOMENTS.map(lambda it: it.replace(tzinfo=UTC)))
def test_what_is_in_no_span_is_shut(window: Window, now: datetime) -> None:
    first = next(hours.openings(window, now), Span(now, now))
    if first.begin > now:
        assert not is_open(window, now)
        assert not is_open(window, first.begin - timedelta(seconds=1))


def is_open(window: Window, moment: datetime) -> bool:
    """Told by the clock on the wall alone; not asked where that shows a time twice, or has just left one out."""
    local = moment.astimezone(ZoneInfo(window.timezone)).replace(tzinfo=None)
    if is_odd(window, moment):
        return next(hours.openings(window, moment)).begin <= moment
    if any(one.begin <= local < one.end for one in window.blackouts):
        return False
    minutes = local.hour * 60 + local.minute + local.second / 60
    return not window.open or any(
        (local.weekday() in one.days and one.begin <= minutes < one.end)
        or ((local.weekday() - 1) % 7 in one.days and one.begin <= minutes + 24 * 60 < one.end)
        for one in window.open
    )


def is_odd(window: Window, moment: datetime) -> bool:
    """Whether clocks change within two hours."""
    where = ZoneInfo(window.timezone)
    nearby = {(moment + timedelta(hours=n)).astimezone(where).utcoffset() for n in (-2, 0, 2)}
    return len(nearby) > 1


@pytest.mark.parametrize("text", ["mon-", "-", "monday", "mon--fri", "", "fri-mon-tue"])
def test_days_that_cannot_be_read_are_refused(text: str) -> None:
    from orchestrator.registry import time_forms

    with pytest.raises(ValueError, match="days such as"):
        time_forms.days(text)


def test_days_may_go_over_the_end_of_the_week() -> None:
    from orchestrator.registry import time_forms

    assert time_forms.days("sat-mon") == (0, 5, 6)
