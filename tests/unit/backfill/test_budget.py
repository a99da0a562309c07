"""A shard's budget: what all have together, and what each has of it."""

from __future__ import annotations

import random
from statistics import mean

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator.backfill.budget import BATCH_SECONDS, SMOOTH_SECONDS, Budget
from tests.unit.backfill.flows import Flow, run, sums

RATE = 10_000.0


def equal(number: int, **given: float) -> list[Flow]:
    return [Flow(f"t{index}", **given) for index in range(number)]  # type: ignore[arg-type]


@pytest.mark.parametrize("late", [0.0, 0.02, 0.06])
@pytest.mark.parametrize("number", [1, 3, 20, 200])
def test_the_sum_keeps_to_the_budget_over_any_five_seconds(number: int, late: float) -> None:
    flows = equal(number, late=late)
    run(Budget(RATE, 0.0), flows, 31.0)
    found = sums(flows, 1.0, 30.0)
    assert min(found) >= 0.9 * RATE
    assert max(found) <= 1.1 * RATE


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_each_of_twenty_has_its_share_in_any_five_seconds(seed: int) -> None:
    flows = equal(20)
    run(Budget(RATE, 0.0), flows, 31.0, seed=seed)
    found = [flow.between(begin, begin + 5.0) for flow in flows for begin in range(1, 25)]
    assert min(found) >= 0.8 * RATE / 20
    assert max(found) <= 1.2 * RATE / 20


def test_the_share_of_one_that_has_ended_goes_to_the_others() -> None:
    flows = [Flow(f"t{index}", rows=5_000 if index < 10 else float("inf")) for index in range(20)]
    run(Budget(RATE, 0.0), flows, 31.0)
    assert all(flow.ended for flow in flows[:10])
    assert min(sums(flows, 1.0, 30.0)) >= 0.9 * RATE
    assert all(flow.between(14.0, 30.0) == pytest.approx(RATE / 10, rel=0.1) for flow in flows[10:])


def test_what_slow_ones_cannot_use_goes_to_the_others_in_equal_parts() -> None:
    slow, fast = [Flow(f"s{i}", speed=50.0) for i in range(18)], equal(2)
    run(Budget(RATE, 0.0), [*slow, *fast], 31.0)
    alone = [Flow("s", speed=50.0)]
    run(Budget(None, 0.0), alone, 31.0)
    assert mean(flow.between(5.0, 30.0) for flow in slow) >= 0.9 * alone[0].between(5.0, 30.0)
    left = RATE - sum(flow.between(5.0, 30.0) for flow in slow)
    assert all(flow.between(5.0, 30.0) == pytest.approx(left / 2, rel=0.05) for flow in fast)


def test_small_batches_have_as_many_rows_as_large_ones() -> None:
    flows = [Flow("large"), *(Flow(f"s{i}", largest=10, overhead=0.001) for i in range(9))]
    run(Budget(RATE, 0.0), flows, 31.0)
    assert all(flow.between(5.0, 30.0) == pytest.approx(RATE / 10, rel=0.1) for flow in flows)


def test_what_is_left_over_is_shared_alike_by_small_batches_and_large_ones() -> None:
    slow, fast = [Flow(f"s{i}", speed=50.0) for i in range(18)], [Flow("small", largest=150, overhead=0.005), Flow("l")]
    run(Budget(RATE, 0.0), [*slow, *fast], 31.0)
    assert all(flow.between(5.0, 30.0) == pytest.approx(4_530.0, rel=0.05) for flow in fast)


def test_one_that_uses_less_than_its_part_hardly_waits_for_it() -> None:
    quick, fast = [Flow(f"q{i}", largest=30, overhead=0.1) for i in range(5)], equal(2)
    run(Budget(RATE, 0.0), [*quick, *fast], 31.0)
    alone = Flow("q", largest=30, overhead=0.1)
    run(Budget(None, 0.0), [alone], 31.0)
    assert all(flow.between(5.0, 30.0) >= 0.95 * alone.between(5.0, 30.0) for flow in quick)


def test_nobody_saves_up_while_it_does_not_ask() -> None:
    """Whose batch has lasted for a minute has no claim to what others had meanwhile."""
    budget, other = Budget(RATE, 0.0), Flow("other")
    budget.join("idle", 0.0)
    run(budget, [other], 60.0)
    flows = [Flow("idle"), Flow("other")]
    for flow in flows:
        flow.begins = 60.0
    run(budget, flows, 66.0)
    assert all(flow.between(61.0, 66.0) == pytest.approx(RATE / 2, rel=0.2) for flow in flows)


def test_those_that_join_later_have_their_share_within_seconds() -> None:
    flows = [Flow(f"t{index}", begins=0.0 if index < 10 else 10.0) for index in range(20)]
    run(Budget(RATE, 0.0), flows, 31.0)
    assert all(flow.between(11.0, 16.0) == pytest.approx(RATE / 20, rel=0.2) for flow in flows)
    assert max(sums(flows, 1.0, 30.0)) <= 1.1 * RATE


def test_a_budget_that_is_changed_counts_at_once() -> None:
    flows, budget = equal(20), Budget(RATE, 0.0)
    changes = [(10.0, 2_000.0), (20.0, 20_000.0)]
    run(budget, flows, 31.0, changes=[(at, lambda now, rate=rate: budget.change(rate, now)) for at, rate in changes])  # type: ignore[misc]
    assert all(one == pytest.approx(2_000.0, rel=0.1) for one in sums(flows, 11.0, 20.0))
    assert all(one == pytest.approx(20_000.0, rel=0.1) for one in sums(flows, 21.0, 30.0))
    assert all(flow.between(21.0, 30.0) == pytest.approx(1_000.0, rel=0.2) for flow in flows)


def test_what_a_batch_did_not_pass_is_given_back() -> None:
    flows = [Flow(f"t{index}", passes=0.5 if index % 2 else 1.0) for index in range(10)]
    run(Budget(RATE, 0.0), flows, 31.0)
    assert all(one == pytest.approx(RATE, rel=0.1) for one in sums(flows, 2.0, 30.0))
    assert all(flow.between(5.0, 30.0) == pytest.approx(RATE / 10, rel=0.1) for flow in flows)


def test_fewer_rows_than_flows_are_still_shared() -> None:
    flows = equal(20)
    run(Budget(10.0, 0.0), flows, 101.0)
    assert all(one == pytest.approx(10.0, rel=0.1) for one in sums(flows, 1.0, 100.0, 20.0))
    assert all(flow.between(0.0, 100.0) == pytest.approx(0.5, rel=0.2) for flow in flows)


def test_without_a_budget_nobody_waits() -> None:
    for none in (None, 0.0):
        budget = Budget(none, 0.0)
        assert budget.rows_per_second is None
        assert budget.ask("t", 1_000_000, 0.0) == 0.0
        assert budget.largest(0.0) is None
    budget.change(10.0, 1.0)
    assert budget.ask("t", 5, 1.0) == 0.0
    assert budget.ask("t", 5, 1.0) > 0.0
    budget.change(None, 2.0)
    assert budget.ask("t", 1_000_000, 2.0) == 0.0


def test_a_batch_is_smooth_for_all_and_for_its_own_part() -> None:
    budget = Budget(RATE, 0.0)
    budget.join("t0", 0.0)
    assert budget.largest(0.0) == RATE * BATCH_SECONDS
    for index in range(1, 20):
        budget.join(f"t{index}", 0.0)
    assert budget.largest(0.0) == RATE / 20 * SMOOTH_SECONDS
    for index in range(1, 20):
        budget.leave(f"t{index}", 0.0)
    assert budget.largest(0.0) == RATE * BATCH_SECONDS


def test_one_that_waits_asks_few_times() -> None:
    """Each question wakes somebody up, and there may be hundreds that wait."""
    asked = 0

    class Counted(Budget):
        def ask(self, flow: str, size: int, now: float) -> float:
            nonlocal asked
            asked += 1
            return super().ask(flow, size, now)

    flows = equal(200)
    run(Counted(RATE, 0.0), flows, 20.0)
    assert asked <= 15 * sum(len(flow.done) for flow in flows)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.integers(0, 2**32))
@example(47)
@example(402)
@example(1951)
@example(18651039)
def test_whatever_they_do_the_sum_is_kept_and_none_starves(number: int) -> None:
    chance = random.Random(number)
    rate = chance.choice([1_000.0, 3_000.0, 50_000.0])
    flows = [
        Flow(
            f"t{index}",
            speed=chance.choice([rate / 30, rate / 3, rate * 20]),
            overhead=chance.choice([0.001, 0.02, 0.1]),
            largest=chance.choice([max(1, int(rate / 100)), 50_000]),
            late=chance.choice([0.0, 0.02, 0.08]),
            begins=chance.choice([0.0, 0.0, 7.0]),
            passes=chance.choice([1.0, 1.0, 0.4]),
        )
        for index in range(chance.randint(1, 30))
    ]
    run(Budget(rate, 0.0), flows, 31.0, seed=chance.randint(0, 1000))
    alone = []
    smooth = max(1, int(rate / len(flows) * SMOOTH_SECONDS))  # as many rows as it would have in a batch of its part
    for flow in flows:
        other = Flow("x", speed=flow.speed, overhead=flow.overhead, largest=min(flow.largest, smooth), late=flow.late)
        other.passes = flow.passes
        run(Budget(rate, 0.0), [other], 31.0)
        alone.append(other.between(10.0, 30.0))
    # Rows count when their batch ends: of slow flows, each may have had one under way when the five seconds began.
    assert max(sums(flows, 0.0, 30.0)) <= (1.1 + SMOOTH_SECONDS / 5) * rate + max(1.0, rate / 100)
    for flow, possible in zip(flows, alone, strict=True):
        assert flow.between(10.0, 30.0) >= 0.85 * min(possible, rate / len(flows)), flow
    # Of 3,000 such loads, the worst that was found (1951) leaves 18 % idle.
    assert sum(flow.between(10.0, 30.0) for flow in flows) >= 0.8 * min(rate, 0.7 * sum(alone))
