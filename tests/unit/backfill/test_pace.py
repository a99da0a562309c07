"""How large batches are, on databases as they may be."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.backfill import pace
from orchestrator.backfill.model import Ran, Refusal, Refused, Stop
from orchestrator.backfill.pace import Pace
from orchestrator.registry.backfills import Rules
from tests.unit.backfill import curves
from tests.unit.backfill.curves import constant, noisy, spiking, steep, swing, turns

RULES = Rules()
ROW = 1e-4
SETTLED = 60


def begun(rules: Rules = RULES, asked: int = 1000) -> Pace:
    return pace.begin(asked, rules)


def ran(state: Pace, seconds: float, rules: Rules = RULES, *, size: int | None = None, seen: int | None = None) -> Pace:
    size = state.size if size is None else size
    after = pace.after(state, Ran(size, size if seen is None else seen, 0, seconds), rules)
    assert isinstance(after, Pace)
    return after


def refused(state: Pace, reason: Refusal = "lock_timeout", rules: Rules = RULES, seconds: float = 2.0) -> Pace | Stop:
    return pace.after(state, Refused(state.size, reason, seconds), rules)


@pytest.mark.parametrize(
    ("curve", "most_turns", "most_swing", "within"),
    [
        (constant(ROW), 0, 1.1, 0.2),
        (constant(ROW / 10, overhead=0.4), 1, 1.5, 0.2),  # most of it is not for the rows
        (noisy(constant(ROW), 0.2), 6, 1.8, 0.2),
        (noisy(constant(ROW), 0.4), 16, 2.4, 0.2),
        (spiking(constant(ROW), 20.0, one_in=50), 8, 3.0, 0.2),
        (steep(ROW, 1.0), 1, 1.2, 0.2),
        (steep(ROW, 2.0), 1, 1.2, 0.2),
        (noisy(steep(ROW, 1.0), 0.2), 6, 1.8, 0.2),
        (curves.sawtooth(ROW, 3.0, period=60.0), 4, 3.0, 0.25),
        (curves.daily(ROW, 10.0, period=600.0), 1, 10.0, 0.25),
        (curves.recorded(), 16, 3.0, 0.25),
    ],
    ids=[
        "constant",
        "overhead",
        "noisy",
        "very noisy",
        "spikes",
        "grows with the size",
        "grows with its square",
        "grows, and noisy",
        "sawtooth",
        "daily",
        "recorded",
    ],
)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_settles_near_the_target_and_does_not_swing(
    curve: curves.Curve, most_turns: int, most_swing: float, within: float, seed: int
) -> None:
    """Turns are counted for each hundred batches. The first ones are left out: it has yet to find its size."""
    batches = curves.run(curve, SETTLED + 500, seed=seed)[SETTLED:]
    assert turns(batches) / 5 <= most_turns
    assert swing(batches) <= most_swing
    assert median(batch.seconds for batch in batches) == pytest.approx(RULES.target_seconds, rel=within)


def test_it_would_swing_if_it_believed_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the tests above would not let pass."""
    for name, value in {"WEIGHT": 1.0, "APPROACH": 1.0, "NEAR": 0.0}.items():
        monkeypatch.setattr(pace, name, value)
    batches = curves.run(steep(ROW, 1.0), SETTLED + 500)[SETTLED:]
    assert turns(batches) / 5 > 20


@pytest.mark.parametrize(("before", "after"), [(ROW, 10 * ROW), (10 * ROW, ROW)])
def test_it_follows_a_step_within_a_few_batches(before: float, after: float) -> None:
    batches = curves.run(curves.step(constant(before), constant(after), at=30.0), 300)
    since = [batch for batch in batches if batch.at >= 30.0]
    late = [index for index, batch in enumerate(since) if not 0.5 < batch.seconds / RULES.target_seconds < 1.5]
    assert max(late, default=0) <= 25
    assert turns(since) <= 3
    assert sum(batch.seconds > 3 * RULES.target_seconds for batch in since) <= 6, "it shrinks fast"


def test_where_statements_are_ended_sooner_it_stays_below_that() -> None:
    batches = curves.run(constant(ROW), 300, timeout=0.2)
    assert sum(batch.refused for batch in batches) == 1
    assert batches[-1].seconds == pytest.approx(0.6 * 0.2, rel=0.3)


@given(st.floats(1e-6, 10.0), st.floats(0.0, 1.0), st.integers(1, 100_000))
def test_whatever_batches_last_it_grows_by_a_fifth_at_most(row: float, overhead: float, asked: int) -> None:
    batches = curves.run(constant(row, overhead), 100, asked=asked)
    for before, after in pairwise(batches):
        assert after.size <= max(before.size * pace.GROWTH, before.size + 1)
        assert min(10, asked) <= after.size <= max(50_000, 0)


def test_rows_that_cost_nothing_end_at_the_largest_batch() -> None:
    assert curves.run(constant(1e-9), 100)[-1].size == RULES.largest
    assert begun(asked=1_000_000).size == RULES.largest


def test_a_batch_that_a_budget_made_smaller_does_not_let_the_next_jump() -> None:
    state = begun()
    for _ in range(50):
        state = ran(state, 0.001, size=100)
    assert state.size <= 100 * pace.GROWTH


def test_the_end_of_a_table_teaches_nothing_unless_it_is_slow() -> None:
    state = ran(begun(), 0.1)
    assert ran(state, 0.0001, seen=3) == replace(state, rest_seconds=0.0)
    assert ran(state, 5.0, seen=3).size <= state.size
    assert ran(ran(state, 5.0, seen=3), 5.0, seen=3).size < state.size


@pytest.mark.parametrize("reason", ["lock_timeout", "statement_timeout"])
def test_a_refused_batch_is_halved_down_to_the_smallest_which_is_tried_thrice(reason: Refusal) -> None:
    state: Pace | Stop = begun()
    sizes = []
    while isinstance(state, Pace):
        sizes.append(state.size)
        state = refused(state, reason)
    assert sizes == [1000, 500, 250, 125, 62, 31, 15, 10, 10, 10]
    assert state.kind == "too_slow"
    assert state.reason.startswith("a batch of 10 rows, the smallest there is, was refused 3 times: ")


def test_the_smallest_is_never_more_than_what_is_asked_for() -> None:
    state = begun(asked=4)
    assert state.size == 4
    for _ in range(2):
        after = refused(state)
        assert isinstance(after, Pace)
        assert after.size == 4
        state = after
    assert isinstance(refused(state), Stop)


def test_a_batch_that_goes_through_takes_back_the_count_of_refusals() -> None:
    state = begun(asked=10)
    for _ in range(10):
        after = refused(state)
        assert isinstance(after, Pace)
        state = ran(after, 0.1, size=after.size)
        state = replace(state, size=10)
    assert state.refusals == 0


def test_after_a_refusal_it_comes_back_with_care() -> None:
    state = begun()
    for _ in range(5):
        state = ran(state, 0.001)
    after = refused(state)
    assert isinstance(after, Pace)
    halved = after.size
    grown = ran(after, 0.001)
    assert grown.size <= halved * pace.CAREFUL_GROWTH + 1
    for _ in range(40):
        grown = ran(grown, 0.001)
    assert grown.refused_size is None, "such a batch has gone through"


def test_a_deadlock_is_tried_again_as_it_was_a_few_times() -> None:
    state: Pace | Stop = begun()
    rests = []
    for _ in range(pace.DEADLOCKS):
        assert isinstance(state, Pace)
        state = refused(state, "deadlock")
        assert isinstance(state, Pace)
        assert state.size == 1000
        rests.append(state.rest_seconds)
    assert rests == sorted(rests)
    assert 0 < rests[0] < rests[-1] <= pace.LONGEST_REST_SECONDS
    number = 0
    while isinstance(state, Pace):
        state, number = refused(state, "deadlock"), number + 1
    assert number < 20, "and not for ever"
    assert "a deadlock's victim" in state.reason


@pytest.mark.parametrize(("duty", "rest"), [(1.0, 0.0), (0.5, 0.4), (0.25, 1.2)])
def test_rest_is_as_long_as_the_duty_says(duty: float, rest: float) -> None:
    rules = Rules(duty=duty)
    assert ran(begun(rules), 0.4, rules).rest_seconds == pytest.approx(rest)


def test_a_size_that_a_person_has_fixed_counts_at_once_and_gives_way_to_refusals_only() -> None:
    rules = Rules(batch_size=70_000)
    state = pace.resized(begun(), rules)
    assert state.size == 70_000
    assert ran(state, 30.0, rules).size == 70_000
    after = refused(state, rules=rules)
    assert isinstance(after, Pace)
    assert after.size == 35_000
    for _ in range(60):
        after = ran(after, 30.0, rules)
    assert after.size == 70_000
    assert pace.resized(after, Rules(batch_size=3)).size == 3
    assert pace.resized(after, RULES).size == RULES.largest
