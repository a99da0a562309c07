"""Size, budget and signals together, on a server that answers to what is done to it: simulated, without a database.

What counts as swinging: batches whose size turns more than ten times in a hundred, holds that come more often than the
signal's own delay and hysteresis make them, or a signal that goes further from its threshold with each hold.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from orchestrator.backfill import pace
from orchestrator.backfill.budget import Budget
from orchestrator.backfill.model import Ran
from orchestrator.backfill.pace import Pace
from orchestrator.backfill.signals import LOST, Readings, Signals
from orchestrator.registry.backfills import Rules, Threshold
from tests.unit.backfill.curves import Batch, turns

RULES = Rules(thresholds={"replication_lag": Threshold(5.0, 4.0)})
ROW = 1e-4
TICK = 0.05


@dataclass
class Server:
    """A primary, and a standby that applies `applies` rows a second; others write `others(now)` of them.

    Its lag is read each second, and the reading is `delay` seconds old when it is heard; `deaf`: when none is.
    """

    applies: float
    delay: float = 0.0
    others: Callable[[float], float] = lambda now: 0.0
    deaf: tuple[float, float] = (math.inf, math.inf)
    behind: float = 0.0
    lags: list[tuple[float, float]] = field(default_factory=list)
    underway: deque[tuple[float, float]] = field(default_factory=deque)

    def tick(self, now: float, readings: Readings) -> None:
        self.behind = max(0.0, self.behind + (self.others(now) - self.applies) * TICK)
        lag = self.behind / self.applies
        self.lags.append((now, lag))
        if math.floor(now) == math.floor(now - TICK):
            return
        self.underway.append((now + self.delay, lag))
        while self.underway and self.underway[0][0] <= now:
            _, heard = self.underway.popleft()
            if not self.deaf[0] <= now < self.deaf[1]:
                readings.hear("replication_lag", heard, now)


@dataclass
class Flow:
    name: str
    pace: Pace
    signals: Signals
    free_at: float = 0.0
    running: Batch | None = None
    batches: list[Batch] = field(default_factory=list)
    held: list[tuple[float, str]] = field(default_factory=list)
    reasons: tuple[str, ...] = ()


@dataclass
class Course:
    server: Server
    flows: list[Flow]
    seconds: float

    @property
    def holds(self) -> list[tuple[float, str]]:
        """When the first flow was held, and why; it is held as all are."""
        return self.flows[0].held

    def rows(self, begin: float, end: float) -> float:
        return sum(b.size for flow in self.flows for b in flow.batches if begin <= b.at < end) / (end - begin)


def run(
    server: Server, seconds: float, number: int = 1, rules: Rules = RULES, row: float = ROW, seed: int = 1
) -> Course:
    chance = random.Random(seed)
    readings, budget = Readings(), Budget(rules.rows_per_second, 0.0)
    flows = [Flow(f"t{i}", pace.begin(1000, rules), Signals(readings)) for i in range(number)]
    for index in range(int(seconds / TICK)):
        now = index * TICK
        server.tick(now, readings)
        for flow in flows:
            _step(flow, server, budget, rules, row, now, chance)
    return Course(server, flows, seconds)


def _step(
    flow: Flow, server: Server, budget: Budget, rules: Rules, row: float, now: float, chance: random.Random
) -> None:
    if now < flow.free_at:
        return
    if flow.running is not None:
        batch, flow.running = flow.running, None
        flow.batches.append(batch)
        server.behind += batch.size
        budget.settle(flow.name, batch.size, batch.size, now)
        after = pace.after(flow.pace, Ran(batch.size, batch.size, 0, batch.seconds), rules)
        assert isinstance(after, Pace)
        flow.pace = after
    reasons = tuple(held.reason for held in flow.signals.holds(rules.thresholds, now))
    if reasons and not flow.reasons:
        flow.held.append((now, reasons[0]))
    flow.reasons = reasons
    if reasons:
        budget.leave(flow.name, now)
        flow.free_at = now + 0.25
        return
    size = min(flow.pace.size, budget.largest(now) or flow.pace.size)
    if wait := budget.ask(flow.name, size, now):
        flow.free_at = now + wait
        return
    seconds = row * size * math.exp(chance.gauss(0.0, 0.15))
    flow.running, flow.free_at = Batch(now, size, seconds), now + seconds


def test_a_standby_that_keeps_up_is_never_waited_for() -> None:
    course = run(Server(applies=20_000.0), 300.0)
    assert course.holds == []
    assert course.rows(60.0, 300.0) == pytest.approx(1 / ROW, rel=0.1)


@pytest.mark.parametrize("delay", [0.0, 2.0, 5.0])
@pytest.mark.parametrize("number", [1, 8])
def test_a_standby_that_cannot_keep_up_is_held_for_at_its_own_pace(delay: float, number: int) -> None:
    """It writes twice to eight times what the standby applies: nothing but holds can keep the lag down."""
    applies = number * 5_000.0
    course = run(Server(applies, delay), 600.0, number)
    # From a hold to the next the lag must fall by the hysteresis, and each reading comes late by so much.
    shortest = 1.0 + 2 * delay
    began = [at for at, _ in course.holds]
    assert {reason for _, reason in course.holds} == {"replication_lag"}
    assert len(began) <= 600.0 / shortest
    lags = [lag for at, lag in course.server.lags if at > 60.0]
    speed = 1.0  # seconds of lag a second, while it is written as fast as it can be
    assert max(lags) <= 5.0 + speed * (delay + 1.0) + 1.5
    middle = len(lags) // 2
    assert max(lags[middle:]) <= max(lags[:middle]) + 0.5, "it does not build up"
    assert course.rows(60.0, 600.0) == pytest.approx(applies, rel=0.1), "and the standby is never idle for long"
    assert all(turns(flow.batches) <= len(flow.batches) / 10 for flow in course.flows)


def daily(now: float) -> float:
    """What others write, in ten minutes for a day: nothing by night, by day more than the standby applies."""
    return 11_000.0 * (1 - math.cos(2 * math.pi * now / 600.0)) / 2


def test_with_a_daily_load_it_works_by_night_and_waits_by_day() -> None:
    course = run(Server(applies=11_500.0, delay=1.0, others=daily), 1200.0)
    by_night = course.rows(1170.0, 1200.0) + course.rows(600.0, 630.0)
    by_day = course.rows(870.0, 930.0)
    assert by_night > 6 * by_day
    assert len(course.holds) <= 1200 / 3
    assert max(lag for _, lag in course.server.lags) <= 9.0


@pytest.mark.parametrize("high", [6.0, 60.0])
def test_a_spike_of_others_makes_one_hold(high: float) -> None:
    server = Server(applies=20_000.0, others=lambda now: 20_000.0 * high if 100 <= now < 101 else 0.0)
    course = run(server, 300.0)
    assert len(course.holds) == 1
    began, _ = course.holds[0]
    assert 100.0 <= began <= 102.5
    assert course.rows(250.0, 300.0) == pytest.approx(1 / ROW, rel=0.1)


def test_a_signal_that_is_lost_holds_after_fifteen_seconds_and_lets_go_when_it_is_back() -> None:
    course = run(Server(applies=20_000.0, deaf=(100.0, 160.0)), 300.0)
    ((began, reason),) = course.holds
    assert reason == LOST
    assert 113.0 <= began <= 116.0
    assert course.rows(118.0, 159.0) == 0.0
    assert course.rows(162.0, 300.0) == pytest.approx(1 / ROW, rel=0.1)


def test_those_that_are_held_and_go_on_together_keep_to_the_budget() -> None:
    rules = Rules(rows_per_second=10_000.0, thresholds=RULES.thresholds)
    server = Server(applies=40_000.0, others=lambda now: 1.5e6 if now % 60 < TICK else 0.0)
    course = run(server, 240.0, number=20, rules=rules)
    assert course.holds == []
    server = Server(applies=40_000.0, others=lambda now: 8e6 if now % 60 < TICK else 0.0)
    course = run(server, 240.0, number=20, rules=rules)
    assert 3 <= len(course.holds) <= 4
    found = [course.rows(at / 4, at / 4 + 5.0) for at in range(4 * 235)]
    assert max(found) <= 1.1 * 10_000.0
    assert course.rows(40.0, 60.0) == pytest.approx(10_000.0, rel=0.1)
