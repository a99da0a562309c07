"""Which run of a schedule is due, whatever the clock does."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.registry import cron
from orchestrator.registry.times import Schedule
from orchestrator.rollout import schedules
from orchestrator.rollout.schedules import ON_TIME_SECONDS, Due, Standing

START = datetime(2026, 11, 20, 12, tzinfo=UTC)
TWO = datetime(2026, 11, 21, 2, tzinfo=UTC)


def nightly(text: str = "0 2 * * *", **fields: object) -> Schedule:
    return Schedule("nightly", cron.parse(text, "UTC"), "app", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("late", "schedule", "planned"),
    [
        (-1, nightly(), None),
        (0, nightly(), TWO),
        (ON_TIME_SECONDS, nightly(), TWO),
        (3600, nightly(missed="run_once"), TWO),
        (86_400, nightly(missed="run_once"), TWO + timedelta(days=1)),
    ],
)
def test_what_is_due(late: float, schedule: Schedule, planned: datetime | None) -> None:
    found = schedules.due(schedule, Standing(START), TWO + timedelta(seconds=late))
    assert found == (None if planned is None else Due(planned))


@pytest.mark.parametrize(
    ("late", "schedule"),
    [(ON_TIME_SECONDS + 1, nightly()), (3601, nightly(missed="run_once")), (7200, nightly(missed="skip"))],
)
def test_what_is_missed(late: float, schedule: Schedule) -> None:
    found = schedules.due(schedule, Standing(START), TWO + timedelta(seconds=late))
    assert found is not None
    assert found.planned_at == TWO
    assert found.missed == f"no daemon was there at 2026-11-21T02:00:00.000Z, which is {late:.0f} s ago"


def test_what_does_not_count() -> None:
    assert schedules.due(nightly(), Standing(TWO), TWO) is None
    assert schedules.due(nightly(), Standing(START, handled=TWO), TWO) is None
    assert schedules.due(nightly(), Standing(START, enabled=False), TWO) is None
    assert schedules.due(nightly(enabled=False), Standing(START), TWO) is None
    assert schedules.due(nightly(enabled=False), Standing(START, enabled=True), TWO) == Due(TWO)
    # What a clock that was wrong by a year has left does not hold it up for a year.
    assert schedules.due(nightly(), Standing(START, handled=TWO + timedelta(days=365)), TWO) == Due(TWO)


@settings(deadline=None)
@given(
    st.sampled_from(["0 2 * * *", "*/10 * * * *", "0 * * * *", "30 1,2 * * *"]),
    st.sampled_from(["skip", "run_once"]),
    st.sampled_from([0.0, 300.0]),
    st.lists(st.integers(-7200, 14_400) | st.integers(1, 90), max_size=60),
)
def test_no_run_is_due_twice_however_the_clock_moves(text: str, missed: str, jitter: float, steps: list[int]) -> None:
    schedule, standing, now = nightly(text, missed=missed, jitter_seconds=jitter), Standing(START), START
    recorded: set[datetime] = set()
    for step in steps:
        now += timedelta(seconds=step)
        found = schedules.due(schedule, standing, now)
        if found is not None:
            assert found.planned_at not in recorded
            assert found.planned_at + schedules.jitter(schedule, found.planned_at) <= now
            recorded.add(found.planned_at)
        known = [planned for planned in recorded if planned <= now + schedules.AHEAD]
        standing = replace(standing, handled=max(known, default=None))
    assert all(planned + schedules.jitter(schedule, planned) > START for planned in recorded)


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(["0 2 * * *", "*/10 * * * *", "7 * * * *"]), st.floats(0, 480), st.integers(20, 80))
def test_who_looks_often_enough_sees_each_run_once(text: str, jitter: float, pause: int) -> None:
    schedule, standing, now = nightly(text, jitter_seconds=jitter), Standing(START), START
    seen = []
    end = START + timedelta(hours=15)
    while now < end:
        if (found := schedules.due(schedule, standing, now)) is not None:
            assert found.missed is None
            seen.append(found.planned_at)
            standing = replace(standing, handled=found.planned_at)
        now += timedelta(seconds=pause * 1.37)
    planned = schedule.cron.after(START - timedelta(seconds=jitter))
    counting = (one for one in planned if one + schedules.jitter(schedule, one) > START)
    assert seen == list(islice(counting, len(seen)))
    assert len(seen) >= 1


def test_a_run_that_is_still_within_its_jitter_counts() -> None:
    schedule = nightly(jitter_seconds=600.0)
    start = TWO + schedules.jitter(schedule, TWO)
    assert start > TWO
    for since, counts in ((TWO, True), (start - timedelta(seconds=1), True), (start, False)):
        standing = Standing(since)
        assert (schedules.due(schedule, standing, start) == Due(TWO)) is counts
        assert (schedules.upcoming(schedule, standing, TWO, 1) == [start]) is counts


def test_jitter_is_the_same_everywhere_and_spread() -> None:
    schedule = nightly(jitter_seconds=600.0)
    days = [TWO + timedelta(days=n) for n in range(200)]
    found = [schedules.jitter(schedule, day).total_seconds() for day in days]
    assert found == [schedules.jitter(replace(schedule), day).total_seconds() for day in days]
    assert min(found) >= 0
    assert max(found) < 600
    assert 200 < sum(found) / len(found) < 400
    assert schedules.jitter(schedule, TWO).total_seconds() == pytest.approx(found[0])
    assert schedules.jitter(replace(schedule, name="other"), TWO).total_seconds() != found[0]


def test_the_next_runs_are_told_with_their_jitter() -> None:
    schedule = nightly(jitter_seconds=600.0)
    found = schedules.upcoming(schedule, Standing(START), TWO, 2)
    assert found == [day + schedules.jitter(schedule, day) for day in (TWO, TWO + timedelta(days=1))]
    assert schedules.upcoming(schedule, Standing(START, handled=TWO), TWO, 1) == found[1:]
    assert schedules.upcoming(schedule, Standing(START, enabled=False), TWO, 2) == []
