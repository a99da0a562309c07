"""Decisions of a rollout, by tables."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from orchestrator.errors import HALF_APPLIED, StateError
from orchestrator.plan.steps import Plan
from orchestrator.registry.model import FailureBudget
from orchestrator.rollout import decide
from orchestrator.rollout.budgets import over_budget
from orchestrator.rollout.ports import Aftermath, Reading
from orchestrator.rollout.state import (
    BACKFILL,
    INTERRUPTED,
    OUTCOMES,
    Failure,
    Migration,
    MigrationState,
    Request,
    Rollout,
    RolloutState,
)
from orchestrator.rollout.tally import Tally, WaveTally

NOW = datetime(2026, 11, 21, tzinfo=UTC)
PENDING = Migration("r", "acme", "app", "pg")
ROLLOUT = Rollout("r", Request("app", "head"), ("a2",), 10, NOW, state=RolloutState.RUNNING)
S = MigrationState


@pytest.mark.parametrize(
    ("budget", "counts", "then"),
    [
        (FailureBudget(), {S.FAILED: 10}, None),
        (FailureBudget(count=0), {S.SUCCEEDED: 10}, None),
        (FailureBudget(count=0), {S.FAILED: 1}, "pause"),
        (FailureBudget(count=2), {S.FAILED: 1, S.LOCKED: 1}, None),
        (FailureBudget(count=2), {S.FAILED: 1, S.LOCKED: 1, S.UNREACHABLE: 1}, "pause"),
        (FailureBudget(count=0, then="abort"), {S.AHEAD: 1}, "abort"),
        (FailureBudget(percent=20), {S.FAILED: 2}, None),
        (FailureBudget(percent=20), {S.FAILED: 3}, "pause"),
        (FailureBudget(count=0), {S.SKIPPED: 5, S.CANCELLED: 5}, None),
    ],
)
def test_a_budget_is_exceeded_by_more_failures_than_it_allows(
    budget: FailureBudget, counts: dict[MigrationState, int], then: str | None
) -> None:
    tally = WaveTally(Counter({S.SUCCEEDED: 10 - sum(counts.values()), **counts}))
    stop = over_budget(budget, tally)
    assert (stop.then if stop else None) == then


@pytest.mark.parametrize(
    ("counts", "aborting", "state"),
    [
        ({S.SUCCEEDED: 6, S.UP_TO_DATE: 4}, False, RolloutState.SUCCEEDED),
        ({S.SUCCEEDED: 9, S.SKIPPED: 1}, False, RolloutState.SUCCEEDED),
        ({S.SUCCEEDED: 9, S.FAILED: 1}, False, RolloutState.FAILED),
        ({S.SUCCEEDED: 9, S.AHEAD: 1}, False, RolloutState.FAILED),
        ({S.SUCCEEDED: 9}, False, RolloutState.FAILED),
        ({S.SUCCEEDED: 9, S.CANCELLED: 1}, True, RolloutState.ABORTED),
        ({S.SUCCEEDED: 10}, True, RolloutState.ABORTED),
    ],
)
def test_only_a_rollout_with_every_target_at_the_goal_succeeds(
    counts: dict[MigrationState, int], aborting: bool, state: RolloutState
) -> None:
    tally = Tally()
    tally.counts.update(counts)
    assert decide.final_state(replace(ROLLOUT, aborting=aborting), tally) is state


def _read(heads: tuple[str, ...], steps: tuple[str, ...] = (), unknown: tuple[str, ...] = ()) -> Plan:
    return Plan(heads, ("a2",), "upgrade", steps, unknown)


def test_a_target_found_at_the_goal_is_done() -> None:
    after = decide.settled(Reading(PENDING, _read(("a2",))), NOW)
    assert (after.state, after.from_heads, after.to_heads) == (S.UP_TO_DATE, ("a2",), ("a2",))


def test_a_target_that_this_rollout_brought_there_before_a_crash_has_succeeded() -> None:
    begun = replace(PENDING, from_heads=("a1",), attempts=1)
    assert decide.settled(Reading(begun, _read(("a2",))), NOW).state is S.SUCCEEDED


def test_a_target_behind_stays_pending_with_its_plan() -> None:
    after = decide.settled(Reading(PENDING, _read(("a1",), ("a2",))), NOW)
    assert (after.state, after.from_heads, after.steps) == (S.PENDING, ("a1",), 1)


def test_a_target_ahead_or_unread_is_left_to_the_driver() -> None:
    assert decide.settled(Reading(PENDING, _read(("zz",), (), ("zz",))), NOW).state is S.PENDING
    assert decide.settled(Reading(PENDING, failure=Failure("unreachable", "no")), NOW) == PENDING


def test_what_ran_at_a_crash_is_pending_again_and_nothing_else_changes() -> None:
    all_states = [replace(PENDING, state=state) for state in MigrationState]
    assert [m.state for m in decide.interrupted(all_states)] == [S.PENDING]


def test_a_retry_takes_up_what_failed_or_was_cancelled_and_forgets_why() -> None:
    failed = Failure("failed", "boom")
    again = decide.retried(ROLLOUT, [replace(PENDING, state=state, failure=failed, attempts=3) for state in OUTCOMES])
    assert len(again) == len(decide.RETRIABLE) == 5
    assert {(m.state, m.failure, m.attempts) for m in again} == {(S.PENDING, None, 3)}


def test_a_retry_ends_the_doubt_about_what_was_told_to_be_half_applied_and_about_nothing_else() -> None:
    told = replace(PENDING, state=S.FAILED, failure=Failure(HALF_APPLIED, "boom"), attempts=1, doubt="upgrade a1")
    untold = replace(PENDING, state=S.CANCELLED, failure=Failure(INTERRUPTED, "cut"), attempts=1, doubt="upgrade a1")
    assert [m.doubt for m in decide.retried(ROLLOUT, [told, untold])] == [None, "upgrade a1"]


@pytest.mark.parametrize("command", ["pause", "resume", "abort"])
def test_a_finished_rollout_takes_no_command_but_retry(command: decide.Command) -> None:
    finished = replace(ROLLOUT, state=RolloutState.FAILED)
    with pytest.raises(StateError, match="has failed") as refused:
        decide.check_command(finished, command)
    assert "retry" in str(refused.value.remedy)
    decide.check_command(finished, "retry")


@pytest.mark.parametrize("command", ["pause", "resume", "retry"])
def test_an_aborting_rollout_takes_no_command_but_abort(command: decide.Command) -> None:
    with pytest.raises(StateError, match="being aborted"):
        decide.check_command(replace(ROLLOUT, aborting=True), command)
    decide.check_command(replace(ROLLOUT, aborting=True), "abort")


@pytest.mark.parametrize(
    ("creator", "by", "four_eyes", "warns"),
    [
        ("ann", "bob", True, True),
        ("terminal:root", "bob", True, True),
        ("ann", "bob", False, False),
        ("user:ann", "user:bob", True, False),
        ("schedule:nightly", "bob", True, False),
    ],
)
def test_an_approval_says_where_the_names_that_were_compared_prove_nothing(
    creator: str, by: str, four_eyes: bool, warns: bool
) -> None:
    rollout = replace(ROLLOUT, request=replace(ROLLOUT.request, created_by=creator), four_eyes=four_eyes)
    told = decide.approval_told(rollout, by)
    assert told.startswith(f"approved by {by}")
    assert ("without tokens, both names are what clients say" in told) is warns


def test_what_was_cut_short_and_is_not_tried_again_is_as_its_target_tells() -> None:
    [cut] = decide.interrupted([replace(PENDING, state=S.RUNNING, attempts=1, from_heads=("a",))])
    assert decide.is_unknown(cut)
    lost = decide.known(decide.known(cut, Aftermath(problem="no answer")), Aftermath(problem="no answer"))
    assert lost.failure is not None
    assert lost.failure.message.count("not known: no answer") == 1
    assert (lost.to_heads, decide.is_unknown(lost), lost.was_cut_short) == (None, True, True)
    found = decide.known(lost, Aftermath(("b",), rows=0))
    assert found.failure is not None
    assert found.failure.message.endswith("ended in the middle; its version table holds b")
    assert (found.to_heads, found.execution, found.touched) == (("b",), BACKFILL, True)
    assert not decide.is_unknown(found)
    assert decide.known(cut, Aftermath(())).execution is None
    assert not decide.is_unknown(replace(PENDING, attempts=1, from_heads=("a",)))
