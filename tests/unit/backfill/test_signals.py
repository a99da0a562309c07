"""What signals hold, and when they let go."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.backfill.signals import LOST, LOST_SECONDS, Readings, Signals
from orchestrator.registry.backfills import DEFAULT_THRESHOLDS, Threshold

LAG = {"replication_lag": Threshold(5.0, 4.0)}


def reasons(signals: Signals, now: float, thresholds: dict[str, Threshold] = LAG) -> list[str]:
    return [held.reason for held in signals.holds(thresholds, now)]


def test_it_holds_above_and_lets_go_at_the_lower_limit() -> None:
    readings = Readings()
    signals = Signals(readings)
    course = [(4.9, False), (5.0, False), (5.1, True), (4.5, True), (4.01, True), (4.0, False), (4.9, False), (6, True)]
    for now, (value, held) in enumerate(course):
        readings.hear("replication_lag", value, now)
        assert bool(reasons(signals, now)) is held, (now, value)


def test_a_reading_around_the_threshold_does_not_let_it_flap() -> None:
    readings = Readings()
    signals, flips, held = Signals(readings), 0, False
    for now in range(1000):
        readings.hear("replication_lag", 4.6 + 0.5 * math.sin(now), now)
        flips += bool(reasons(signals, now)) is not held
        held = bool(reasons(signals, now))
    assert flips == 1


def test_it_says_what_is_the_matter_and_since_when() -> None:
    readings = Readings()
    signals = Signals(readings)
    readings.hear("replication_lag", 7.0, 3.0)
    (first,) = signals.holds(LAG, 3.0)
    readings.hear("replication_lag", 4.5, 8.0)
    (second,) = signals.holds(LAG, 8.5)
    assert (first.since, second.since) == (3.0, 3.0)
    assert first.text == "the replication lag is 7 s, above 5 s: held until it is at most 4 s"
    assert second.text == "the replication lag is 4.5 s, was above 5 s: held until it is at most 4 s"


def test_several_hold_at_once_and_all_are_told() -> None:
    readings = Readings()
    thresholds = dict(DEFAULT_THRESHOLDS)
    for name in thresholds:
        readings.hear(name, 0.0, 0.0)
    for name in ("replication_lag", "wal_waiting", "blocked_sessions"):
        readings.hear(name, 1e6, 1.0)
    assert reasons(Signals(readings), 1.0, thresholds) == ["replication_lag", "blocked_sessions", "wal_waiting"]


def test_a_signal_that_is_not_heard_for_so_long_holds() -> None:
    readings = Readings()
    signals = Signals(readings)
    readings.hear("replication_lag", 0.0, 100.0)
    assert not signals.holds(LAG, 100.0 + LOST_SECONDS)
    readings.fail("replication_lag", "permission denied for view pg_stat_replication", 110.0)
    (held,) = signals.holds(LAG, 101.0 + LOST_SECONDS)
    assert (held.reason, held.since) == (LOST, 100.0 + LOST_SECONDS)
    assert held.text.startswith("nothing was heard of replication_lag for 15 s (permission denied for view pg_stat_")
    assert "off" in held.text
    readings.hear("replication_lag", 0.0, 120.0)
    assert not signals.holds(LAG, 120.0)


def test_a_signal_that_never_came_holds_after_as_long() -> None:
    signals = Signals(Readings())
    assert not signals.holds(LAG, 50.0)
    assert reasons(signals, 50.1 + LOST_SECONDS) == [LOST]


def test_one_that_joins_while_a_signal_is_lost_is_held_at_once() -> None:
    readings = Readings()
    Signals(readings).holds(LAG, 0.0)
    assert reasons(Signals(readings), 20.0) == [LOST]
    readings.restart()
    assert reasons(Signals(readings), 20.0) == []


def test_what_was_held_before_it_was_lost_is_held_after() -> None:
    readings = Readings()
    signals = Signals(readings)
    readings.hear("replication_lag", 9.0, 0.0)
    assert reasons(signals, 0.0) == ["replication_lag"]
    assert reasons(signals, 20.0) == [LOST]
    readings.hear("replication_lag", 4.5, 21.0)
    (held,) = signals.holds(LAG, 21.0)
    assert (held.reason, held.since) == ("replication_lag", 0.0)


def test_several_that_are_lost_are_one_reason() -> None:
    signals = Signals(Readings())
    thresholds = {**LAG, "probe:queue": Threshold(1.0, 1.0)}
    signals.holds(thresholds, 0.0)
    (held,) = signals.holds(thresholds, 16.0)
    assert "replication_lag, probe:queue" in held.text


def test_what_no_threshold_names_holds_nothing_and_is_forgotten() -> None:
    readings = Readings()
    signals = Signals(readings)
    readings.hear("replication_lag", 9.0, 0.0)
    assert reasons(signals, 0.0) == ["replication_lag"]
    assert reasons(signals, 1.0, {}) == []
    readings.hear("replication_lag", 4.5, 2.0)
    assert reasons(signals, 2.0) == []


def test_a_threshold_that_is_raised_lets_go_at_once() -> None:
    readings = Readings()
    signals = Signals(readings)
    readings.hear("replication_lag", 9.0, 0.0)
    assert reasons(signals, 0.0)
    assert not reasons(signals, 0.0, {"replication_lag": Threshold.over(20.0)})


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_holds(value: float) -> None:
    readings = Readings()
    readings.hear("replication_lag", value, 0.0)
    assert reasons(Signals(readings), 0.0) == ["replication_lag"]


def test_a_server_that_has_nothing_to_tell_of_holds_nothing() -> None:
    """A primary without a standby has no lag."""
    readings = Readings()
    readings.hear("replication_lag", None, 0.0)
    signals = Signals(readings)
    assert reasons(signals, 1.0) == []
    assert readings.values() == {}


# Gaps that add up without rounding: 17.19 s and 15 s later is not always 15 s later.
GAPS = st.integers(0, 30 * 64).map(lambda parts: parts / 64)


@given(st.lists(st.tuples(GAPS, st.floats(0.0, 10.0)), max_size=40))
def test_whatever_comes_it_is_never_open_above_nor_held_below(course: list[tuple[float, float]]) -> None:
    readings = Readings()
    signals, now = Signals(readings), 0.0
    readings.hear("replication_lag", 0.0, now)
    for gap, value in course:
        now += gap
        found = reasons(signals, now)
        assert (LOST in found) is (gap > LOST_SECONDS)
        readings.hear("replication_lag", value, now)
        found = reasons(signals, now)
        assert value <= 5.0 or found == ["replication_lag"]
        assert value > 4.0 or found == []
