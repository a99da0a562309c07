"""The decisions of a rollout under whatever may happen, in whatever order.

The machine below is a controller without a clock, a store or databases: it does what the decisions say, chooses at
random what happens next, and holds what must be true all the time.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from orchestrator.errors import StateError
from orchestrator.execute.slots import Claim, Limits, Only, Part, Use, next_claim
from orchestrator.plan.steps import Plan
from orchestrator.registry.model import FailureBudget, TargetKey
from orchestrator.rollout import decide, step
from orchestrator.rollout.budgets import Stop
from orchestrator.rollout.ports import Reading
from orchestrator.rollout.state import FAILURES, Failure, Migration, MigrationState, Request, Rollout, RolloutState
from orchestrator.rollout.tally import Tally
from orchestrator.rollout.waves import WaveRun
from orchestrator.store import rows

S = MigrationState
START = datetime(2026, 11, 25, tzinfo=UTC)
GOAL, OLD, HALF = ("c",), ("a",), ("b",)

budgets = st.builds(
    FailureBudget,
    count=st.none() | st.integers(0, 3),
    percent=st.none() | st.integers(0, 60).map(float),
    then=st.sampled_from(["pause", "abort", "rollback"]),
    consecutive=st.none() | st.integers(1, 3),
    same_signature=st.none() | st.integers(1, 3),
)
waves_of = st.lists(
    st.builds(
        WaveRun,
        name=st.just(""),
        budget=budgets,
        soak_seconds=st.sampled_from([0.0, 60.0]),
        approval=st.booleans(),
        checks=st.sampled_from([(), ("errors",)]),
    ),
    min_size=1,
    max_size=4,
)


class Conduct(RuleBasedStateMachine):
    @initialize(waves=waves_of, sizes=st.lists(st.integers(0, 4), min_size=4, max_size=4), approval=st.booleans())
    def begin(self, waves: list[WaveRun], sizes: list[int], approval: bool) -> None:
        named = tuple(replace(wave, name=f"w{n}") for n, wave in enumerate(waves))
        self.ledger: dict[TargetKey, Migration] = {}
        for wave, size in zip(named, sizes, strict=False):
            for _ in range(size):
                number = len(self.ledger)
                one = Migration("r", f"t{number}", "app", f"pg{number % 2}", wave.name, number, from_heads=OLD)
                self.ledger[one.key] = one
        self.rollout = Rollout(
            "r", Request("app", "head"), GOAL, len(self.ledger), START, waves=named, approval=approval
        )
        self.rollout = replace(self.rollout, state=RolloutState.RUNNING)
        self.heads: dict[TargetKey, tuple[str, ...]] = dict.fromkeys(self.ledger, OLD)  # the databases
        self.now, self.running, self.tally = START, set[TargetKey](), Tally(self.ledger.values())
        self.limits, self.total = {"pg0": Limits(2), "pg1": Limits(1)}, 2
        self.closed: Rollout | None = None

    # What the engine does

    @precondition(lambda self: self._admits())
    @rule()
    def start(self) -> None:
        self._start()

    @precondition(lambda self: self.running or self._admits())
    @rule()
    def go_well(self) -> None:
        """All that runs, and what the wave has left after it: else few would come as far as a gate."""
        while self.running or self._admits():
            for key in sorted(self.running):
                self._finish(key, S.SUCCEEDED)
            if self._admits():
                self._start()
            if not self.running:
                return

    def _start(self) -> None:
        """As the drivers do: while the wave that is at work has something pending, as slots come free."""
        following = step.next_step(self.rollout, self.tally, self.now)
        if not isinstance(following, step.Run):
            return
        name = self.rollout.waves[following.index].name
        pending = [m for m in self.ledger.values() if m.state is S.PENDING and m.wave == name]
        part, use = Part(3), Use()
        for key in self.running:
            use.add(part, self.ledger[key].shard, key.tenant)
        claims = [Claim(part, m.shard, Only(m.tenant), m.position) for m in pending]
        granted = next_claim(claims, use, self.total, self.limits)
        if granted is None:
            return
        chosen = self.ledger[TargetKey(granted[1], "app")]
        self._hold_before_start(chosen, following.index)
        self._open(following.index)
        self.running.add(chosen.key)
        self._record(decide.begun(chosen, self.now))

    @precondition(lambda self: self.running)
    @rule(
        data=st.data(),
        outcome=st.sampled_from([S.SUCCEEDED, S.SUCCEEDED, S.FAILED, S.FAILED, S.LOCKED, S.UNREACHABLE]),
        signature=st.sampled_from(["x", "y"]),
        half=st.booleans(),
    )
    def finish(self, data: st.DataObject, outcome: MigrationState, signature: str, half: bool) -> None:
        self._finish(data.draw(st.sampled_from(sorted(self.running))), outcome, signature, half=half)

    def _finish(self, key: TargetKey, outcome: MigrationState, signature: str = "", *, half: bool = False) -> None:
        one = self.ledger[key]
        if outcome is S.SUCCEEDED:
            self._change(key, OLD if one.reverting else GOAL)
            after = replace(one, state=S.ROLLED_BACK if one.reverting else S.SUCCEEDED, failure=None)
        else:
            if half and outcome is S.FAILED and self.heads[key] == (GOAL if one.reverting else OLD):
                self._change(key, HALF)
            after = replace(one, state=outcome, failure=Failure("failed", "boom", code=signature))
        self.running.discard(key)
        self._record(replace(after, to_heads=self.heads[key], finished_at=self.now))
        self._mind_budget(one.wave)

    @precondition(lambda self: not self.running and not self.rollout.state.finished)
    @rule(passed=st.booleans())
    def advance(self, passed: bool) -> None:
        following = step.next_step(self.rollout, self.tally, self.now)
        match following:
            case step.Mark(index, what):
                self._hold_gate(index) if what == "passed_at" else None
                self._mark(index, **{what: self.now})
            case step.Approve(_, _):
                self._move(state=RolloutState.AWAITING_APPROVAL)
            case step.Ask(index):
                self._mark(index, checked_at=self.now) if passed else self._move(state=RolloutState.PAUSED)
            case step.Turn():
                for one in decide.turned(list(self.ledger.values()), self.now):
                    self._record(one)
            case step.End():
                for one in decide.cancelled(self._in(S.PENDING), self.now):
                    self._record(one)
                self._move(state=decide.final_state(self.rollout, self.tally))
                self.closed = self.rollout
                self._hold_end()
            case Stop():
                self._react(following)
            case step.Hold(until, _) if self.rollout.state is not RolloutState.PAUSED:
                assert until is not None, "nothing would ever wake it"
                assert until > self.now

    # What people and time do

    @rule(seconds=st.sampled_from([1, 30, 61]))
    def tick(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(command=st.sampled_from(["pause", "resume", "approve", "abort", "rollback"]))
    def steer(self, command: decide.Command) -> None:
        if not self._may(command):
            return
        match command:
            case "pause":
                self._move(state=RolloutState.PAUSED)
            case "resume" if self.rollout.state is RolloutState.PAUSED:
                self.tally.forget_streaks()
                self._move(state=RolloutState.RUNNING, waves=decide.accepting(self.rollout, self.tally))
            case "approve":
                self._approve()
            case "abort":
                self._move(state=RolloutState.RUNNING, aborting=True)
            case "rollback" if not self.rollout.state.finished:
                self._move(state=RolloutState.RUNNING, rolling_back=True)

    @rule(signature=st.none() | st.just("x"))
    def retry(self, signature: str | None) -> None:
        if not self._may("retry"):
            return
        again = decide.retried(self.rollout, list(self.ledger.values()), signature)
        if self.rollout.state.finished:
            if not again:
                return
            self.closed = None
            self._move(state=RolloutState.RUNNING, aborting=False)
        for one in again:
            self._record(one)
        self.tally.forget_streaks()
        waiting = self.rollout.state in (RolloutState.PAUSED, RolloutState.AWAITING_APPROVAL)
        state = RolloutState.RUNNING if waiting and again else self.rollout.state
        self._move(state=state, waves=decide.tolerating(self.rollout, self.tally))

    @rule(number=st.integers(0, 15))
    def skip(self, number: int) -> None:
        key = TargetKey(f"t{number}", "app")
        if key not in self.ledger or not self._may("skip") or self.rollout.state.finished:
            return
        try:
            (gone,) = decide.skipped([self.ledger[key]], self.running, "not now", self.now)
        except StateError:
            done = self.ledger[key].state in (S.SUCCEEDED, S.SKIPPED, S.ROLLED_BACK)
            assert done or key in self.running or self.ledger[key].reverting
        else:
            self._record(gone)
            self._move(waves=decide.accepting(self.rollout, self.tally, fewer=True))

    @rule(reached=st.booleans())
    def crash(self, reached: bool) -> None:
        """Kill -9: what is in memory is gone; what ran may or may not have come to its end in the database."""
        for key in self.running:
            if reached:
                self._change(key, OLD if self.ledger[key].reverting else GOAL)
        self.running.clear()
        self.rollout = rows.rollout_from(rows.rollout_row(self.rollout))  # type: ignore[arg-type]
        self.ledger = {m.key: rows.migration_from(rows.migration_row(m)) for m in self.ledger.values()}  # type: ignore[arg-type]
        self.tally = Tally(self.ledger.values())
        for one in decide.interrupted(list(self.ledger.values())):
            self._record(one)

    # What must hold

    @invariant()
    def every_target_is_accounted_for(self) -> None:
        counted = Counter(one.state for one in self.ledger.values())
        assert +self.tally.counts == counted
        assert counted.total() == self.rollout.total
        fresh = Tally(self.ledger.values())
        for wave in self.rollout.waves:
            assert +self.tally.wave(wave.name).counts == +fresh.wave(wave.name).counts
            assert +self.tally.wave(wave.name).signatures == +fresh.wave(wave.name).signatures
        assert self.tally.unturned == fresh.unturned

    @invariant()
    def limits_are_never_exceeded(self) -> None:
        used = Counter(self.ledger[key].shard for key in self.running)
        assert len(self.running) <= self.total
        assert all(used[shard] <= limit.shard for shard, limit in self.limits.items())
        assert {m.key for m in self._in(S.RUNNING)} == self.running

    @invariant()
    def a_finished_rollout_never_changes(self) -> None:
        if self.closed is not None:
            assert self.rollout == self.closed
            assert not self.running
            assert not self._in(S.PENDING)

    @invariant()
    def only_what_was_begun_is_changed(self) -> None:
        for key, one in self.ledger.items():
            assert one.attempts or self.heads[key] == OLD

    def _hold_before_start(self, one: Migration, index: int) -> None:
        assert one.key not in self.running, "it runs already"
        if self.rollout.rolling_back:
            assert one.reverting
            assert one.attempts, "what was never begun is not taken back"
            later = [wave.name for wave in self.rollout.waves[index + 1 :]]
            assert not [m for m in self.ledger.values() if m.wave in later and m.state in (S.PENDING, S.RUNNING)]
            return
        assert not one.reverting
        assert all(wave.passed for wave in self.rollout.waves[:index]), "a wave began before the gate of another"
        assert not self.rollout.approval or self.rollout.approved_at
        assert step.exceeded(self.rollout, self.tally, self.rollout.waves[index]) is None

    def _hold_gate(self, index: int) -> None:
        wave, counted = self.rollout.waves[index], self.tally.wave(self.rollout.waves[index].name)
        assert not counted.unfinished
        assert wave.ended_at is not None
        if counted.worked:
            assert self.now >= wave.ended_at + timedelta(seconds=wave.soak_seconds)
            assert not wave.checks or wave.checked_at
        left = sum(self.tally.wave(later.name).unfinished for later in self.rollout.waves[index + 1 :])
        assert not (wave.approval and left) or wave.approved_at

    def _hold_end(self) -> None:
        match self.rollout.state:
            case RolloutState.SUCCEEDED:
                assert all(self.heads[k] == GOAL or m.state is S.SKIPPED for k, m in self.ledger.items())
                assert all(wave.passed for wave in self.rollout.waves)
            case RolloutState.ROLLED_BACK:
                assert set(self.heads.values()) <= {OLD}
            case RolloutState.FAILED:
                assert any(m.state in FAILURES for m in self.ledger.values())
            case state:
                assert state is RolloutState.ABORTED

    # How the decisions are carried out

    def _admits(self) -> bool:
        return decide.admits(self.rollout, back=self.rollout.rolling_back) and not self._turning()

    def _turning(self) -> bool:
        return self.rollout.rolling_back and bool(self.tally.unturned)

    def _in(self, state: MigrationState) -> list[Migration]:
        return [one for one in self.ledger.values() if one.state is state]

    def _may(self, command: decide.Command) -> bool:
        try:
            decide.check_command(self.rollout, command)
        except StateError:
            return False
        return True

    def _open(self, index: int) -> None:
        wave = self.rollout.waves[index]
        if self.rollout.state is RolloutState.AWAITING_APPROVAL:
            self._move(state=RolloutState.RUNNING)
        if self.rollout.rolling_back:
            return
        if wave.started_at is None:
            self._mark(index, started_at=self.now)
        elif wave.ended and not wave.passed:
            gone = dict.fromkeys(("ended_at", "checking_since", "checked_at", "approved_at", "approved_by"))
            self._mark(index, **gone)

    def _approve(self) -> None:
        name = decide.gate(self.rollout)
        if name is None:
            self._move(state=RolloutState.RUNNING, approved_at=self.now)
        else:
            self._mark(step.current(self.rollout), approved_at=self.now)
            self._move(state=RolloutState.RUNNING)

    def _mind_budget(self, name: str) -> None:
        wave = next(wave for wave in self.rollout.waves if wave.name == name)
        if not self.rollout.rolling_back and (stop := step.exceeded(self.rollout, self.tally, wave)) is not None:
            self._react(stop)

    def _react(self, stop: Stop) -> None:
        if (changes := decide.reaction(self.rollout, stop, None)) is not None:
            self._move(**changes)

    def _change(self, key: TargetKey, heads: tuple[str, ...]) -> None:
        self.heads[key] = heads

    def _record(self, one: Migration) -> None:
        self.ledger[one.key] = one
        self.tally.note(one)

    def _move(self, **changes: Any) -> None:
        self.rollout = replace(self.rollout, **changes)

    def _mark(self, index: int, **changes: Any) -> None:
        waves = list(self.rollout.waves)
        waves[index] = replace(waves[index], **changes)
        self._move(waves=tuple(waves))


EXAMPLES = 4_000 if os.environ.get("SOAK") else 200
TestConduct = pytest.mark.soak(Conduct.TestCase) if os.environ.get("SOAK") else Conduct.TestCase
TestConduct.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def test_what_a_restart_finds_done_counts_as_done() -> None:
    begun = Migration("r", "t", "app", "pg", from_heads=OLD, attempts=1)
    found = decide.settled(Reading(begun, Plan(GOAL, GOAL, "upgrade")), START)
    assert (found.state, found.changed) == (S.SUCCEEDED, True)
