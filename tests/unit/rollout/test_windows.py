"""May a migration start now? By windows, the time, and what is predicted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.registry import hours
from orchestrator.registry.times import Blackout, Hours, Window
from orchestrator.rollout import windows
from orchestrator.rollout.windows import Freeze, Held, Verdict
from tests.unit.registry.test_times import MOMENTS, WINDOWS

DAILY = (0, 1, 2, 3, 4, 5, 6)
NIGHTS = Window("nights", "UTC", open=(Hours(DAILY, 22 * 60, 30 * 60),))
LATE = Window("late", "UTC", open=(Hours(DAILY, 23 * 60, 24 * 60),))
HOUR = 3600.0


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "seconds", "verdict"),
    [
        ("2026-07-01T22:00", HOUR, Verdict(True, at("2026-07-02T05:00"))),
        ("2026-07-02T05:00", HOUR, Verdict(True, at("2026-07-02T05:00"))),
        ("2026-07-02T05:00:01", HOUR, Verdict(False, at("2026-07-02T22:00"), ("nights",), fits=False)),
        ("2026-07-02T06:00", HOUR, Verdict(False, at("2026-07-02T22:00"), ("nights",))),
        ("2026-07-01T21:59:59", 0.0, Verdict(False, at("2026-07-01T22:00"), ("nights",))),
        ("2026-07-01T12:00", 8 * HOUR, Verdict(False, at("2026-07-01T22:00"), ("nights",))),
        ("2026-07-01T12:00", 8 * HOUR + 1, Verdict(False, None, ("nights",))),
    ],
)
def test_one_window(now: str, seconds: float, verdict: Verdict) -> None:
    assert windows.judge([NIGHTS], at(now), seconds) == verdict


def test_the_window_in_the_way_is_named_and_all_where_only_together_they_are() -> None:
    assert windows.judge([NIGHTS, LATE], at("2026-07-01T22:30"), 60.0).waits_for == ("late",)
    assert windows.judge([NIGHTS, LATE], at("2026-07-01T12:00"), 60.0).waits_for == ("nights", "late")
    morning = Window("morning", "UTC", open=(Hours(DAILY, 5 * 60, 12 * 60),))
    both = windows.judge([NIGHTS, morning], at("2026-07-01T05:30"), HOUR)
    assert (both.waits_for, both.fits, both.until) == (("nights",), False, at("2026-07-02T05:00"))
    assert windows.judge([LATE, morning], at("2026-07-01T12:00"), 60.0).until is None


def test_without_windows_there_is_nothing_to_wait_for() -> None:
    assert windows.judge([], at("2026-07-01T12:00"), 1e12).opens


@settings(deadline=None)
@given(
    st.lists(WINDOWS, max_size=3),
    MOMENTS.map(lambda it: it.replace(tzinfo=UTC)),
    st.floats(0, 3 * 86_400),
    st.floats(0, 1),
)
def test_what_may_start_has_its_time_and_a_verdict_holds_until_it_ends(
    chosen: list[Window], now: datetime, seconds: float, part: float
) -> None:
    verdict = windows.judge(chosen, now, seconds)
    lasting = timedelta(seconds=max(seconds, windows.LEAST_SECONDS))
    until = verdict.until or now + timedelta(days=3)
    between = now + (until - now) * part
    if verdict.opens:
        # Each window has one span that holds all of it, at whatever moment until then it starts.
        assert verdict.until is not None
        for moment in (now, between, verdict.until):
            for window in chosen:
                span = next(hours.openings(window, moment))
                assert span.begin <= moment
                assert moment + lasting <= span.end
    else:
        assert chosen
        assert verdict.waits_for
        if between < until:
            assert not windows.judge(chosen, between, seconds).opens
        if verdict.until is not None:
            assert windows.judge(chosen, verdict.until, seconds).opens


def test_what_is_waited_for_is_told_in_one_line() -> None:
    soon, later = at("2026-11-30T21:00"), at("2026-12-01T21:00")
    held = [
        Held("b", 3, Verdict(False, later, ("nights",), fits=False), 720.0),
        Held("a", 12, Verdict(False, soon, ("nights",)), 60.0),
        Held("a", 1, Verdict(False, soon, ("nights",)), 90.0),
        Held("c", 2, Verdict(False, None, ("nights", "weekend")), 5400.0),
    ]
    assert windows.told(held) == (
        "waiting for window nights (13 targets on shard a), which opens 2026-11-30T21:00:00.000Z; "
        "for window nights (3 targets on shard b), which opens 2026-12-01T21:00:00.000Z: what is left before is too "
        "short, as they are predicted to take 12 min; "
        "for windows nights and weekend (2 targets on shard c), never open for so long, as they are predicted to take "
        "1.5 h"
    )
    assert windows.told([]) is None


def test_many_shards_are_not_all_named() -> None:
    held = [Held(f"s{n}", 2, Verdict(False, at("2026-11-30T21:00"), ("nights",)), 60.0) for n in range(6)]
    said = windows.told(held)
    assert said is not None
    assert said.endswith("; and 6 more targets")


def test_a_freeze_tells_who_since_when_and_why() -> None:
    assert str(Freeze("anna", "incident", at("2026-11-30T21:00"))) == (
        "frozen by anna since 2026-11-30T21:00:00.000Z: incident"
    )


def test_black_outs_of_a_year_are_looked_over_in_no_time() -> None:
    days = tuple(Blackout(datetime(2026, 1, 1, n), datetime(2026, 1, 1, n, 30)) for n in range(24))
    window = Window("w", "Europe/Berlin", open=(Hours(DAILY, 0, 24 * 60),), blackouts=days)
    assert len(list(islice(hours.openings(window, at("2025-12-31T00:00")), 40))) == 25
