"""What an attempt has not done itself, somebody else has."""

from __future__ import annotations

import pytest

from orchestrator.errors import (
    HALF_APPLIED,
    HeadsChangedError,
    MigrationFailedError,
    TargetError,
    TargetUnreachableError,
)
from orchestrator.execute.classify import ErrorClass, classify, outcome
from orchestrator.execute.meanwhile import Ours
from orchestrator.plan.steps import Direction, Plan
from orchestrator.registry.model import Heads

LINE = ("alpha", "beta", "gamma")
UP = Plan((), ("gamma",), "upgrade", LINE)
DOWN = Plan(("gamma",), (), "downgrade", ("gamma", "beta", "alpha"))
EXISTS = MigrationFailedError('relation "beta" already exists', code="42P07", revision="beta")


def _after(heads: Heads, steps: tuple[str, ...], direction: Direction) -> Heads:
    """Of a linear history."""
    place = LINE.index(heads[0]) + 1 if heads else 0
    place += len(steps) if direction == "upgrade" else -len(steps)
    return LINE[place - 1 : place] if place else ()


def _ours(plan: Plan, *done: str) -> Ours:
    ours = Ours(_after)
    ours.begins(plan)
    note = ours.noting(lambda revision, seconds: None)
    for revision in done:
        note(revision, 0.1)
    return ours


@pytest.mark.parametrize(
    ("plan", "done", "found", "moved"),
    [
        (UP, [], (), False),
        (UP, [], ("alpha",), True),
        (UP, ["alpha"], ("alpha",), False),  # each revision in a transaction of its own
        (UP, ["alpha"], (), False),  # all in one, which was rolled back
        (UP, ["alpha"], ("beta",), True),
        (UP, ["alpha", "beta", "gamma"], ("gamma",), False),
        (UP, ["alpha"], ("from_the_future",), True),
        (UP, [], None, False),  # it cannot be read
        (DOWN, ["gamma"], ("beta",), False),
        (DOWN, ["gamma"], ("alpha",), True),
        (Plan((), ("beta",), "stamp", ("beta",)), ["beta"], ("beta",), False),
        (Plan((), ("beta",), "stamp", ("beta",)), [], ("gamma",), True),
        (Plan(("gamma",), ("gamma",), "upgrade"), [], ("beta",), False),  # nothing was begun
    ],
)
def test_heads_that_this_attempt_cannot_have_written(
    plan: Plan, done: list[str], found: Heads | None, moved: bool
) -> None:
    instead = _ours(plan, *done).instead_of(EXISTS, found)
    assert (instead is not None) is moved
    if instead is not None:
        assert classify(instead) is ErrorClass.CONTENTION
        assert outcome(instead) == "locked"
        assert instead.remedy
        assert "already exists" in instead.message


@pytest.mark.parametrize(
    "exc",
    [
        MigrationFailedError("x", kind=HALF_APPLIED),
        MigrationFailedError("x", kind="worker_died", retriable=True),
        TargetUnreachableError("x", kind="guard_lost", retriable=True),
        HeadsChangedError("x", retriable=True),
    ],
)
def test_what_stays_or_says_already_how_it_goes_on_is_left_as_it_is(exc: TargetError) -> None:
    assert _ours(UP).instead_of(exc, ("gamma",)) is None


def test_what_was_done_before_the_plan_was_made_does_not_count() -> None:
    ours = _ours(Plan((), ("alpha",), "stamp", ("alpha",)), "alpha")
    ours.begins(Plan(("alpha",), ("gamma",), "upgrade", ("beta", "gamma")))
    assert ours.moved(("alpha",)) is None
    assert ours.moved(()) is not None
