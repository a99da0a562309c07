"""What a rollout does next. Pure: values in, values out; the controller asks, acts and records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from orchestrator.errors import StateError
from orchestrator.registry.model import FailureBudget
from orchestrator.rollout.ports import Reading
from orchestrator.rollout.state import (
    AT_GOAL,
    FAILURES,
    FINISHED,
    INTERRUPTED,
    UNFINISHED,
    Failure,
    Migration,
    MigrationState,
    Rollout,
    RolloutState,
)

Counts = Mapping[MigrationState, int]
Command = Literal["pause", "resume", "abort", "retry"]
RETRIABLE = FAILURES | {MigrationState.CANCELLED}


@dataclass(frozen=True, slots=True)
class Stop:
    """A reaction to too many failures, with its reason in words."""

    then: Literal["pause", "abort"]
    reason: str


def over_budget(budget: FailureBudget, total: int, counts: Counts) -> Stop | None:
    """Whether the failures so far exceed the budget, and what follows.

    >>> over_budget(FailureBudget(count=2), 100, {MigrationState.FAILED: 3}).reason
    '3 of 100 targets failed, more than the 2 that are allowed'
    """
    failed = failures(counts)
    if budget.count is not None and failed > budget.count:
        allowed = f"the {budget.count} that are allowed"
    elif budget.percent is not None and failed > total * budget.percent / 100:
        allowed = f"the {budget.percent:g} % that are allowed"
    else:
        return None
    then: Literal["pause", "abort"] = "abort" if budget.then == "abort" else "pause"
    return Stop(then, f"{failed} of {total} targets failed, more than {allowed}")


def failures(counts: Counts) -> int:
    return sum(counts.get(state, 0) for state in FAILURES)


def unfinished(counts: Counts) -> int:
    return sum(counts.get(state, 0) for state in UNFINISHED)


def final_state(rollout: Rollout, counts: Counts) -> RolloutState:
    """How a rollout of which nothing is unfinished ends: `succeeded` only if each target is at the goal or was
    skipped by a person."""
    if rollout.aborting or counts.get(MigrationState.CANCELLED, 0):
        return RolloutState.ABORTED
    good = sum(counts.get(state, 0) for state in AT_GOAL) + counts.get(MigrationState.SKIPPED, 0)
    return RolloutState.SUCCEEDED if good == rollout.total else RolloutState.FAILED


def settled(reading: Reading, now: datetime) -> Migration:
    """The migration after its target's heads were read: at its end where nothing is to be done, else still pending.

    A target that could not be read stays pending: the driver tries again, with retries.
    """
    migration, plan = reading.migration, reading.plan
    if plan is None:
        return migration
    if migration.from_heads is None and (plan.provisioned or not plan.steps):
        migration = replace(migration, from_heads=plan.heads, steps=len(plan.steps))
    if plan.unknown or plan.steps or plan.problem:
        return migration  # the driver refuses what cannot be under the target's lock, with the reason
    changed = migration.from_heads != plan.heads
    state = MigrationState.SUCCEEDED if changed else MigrationState.UP_TO_DATE
    return replace(migration, state=state, to_heads=plan.heads, finished_at=now)


def interrupted(migrations: Sequence[Migration]) -> Sequence[Migration]:
    """After a crash: what was running is pending again; the version table will tell how far it came."""
    cut = Failure(INTERRUPTED, "the process that migrated it ended in the middle")
    return [
        replace(m, state=MigrationState.PENDING, failure=cut) for m in migrations if m.state is MigrationState.RUNNING
    ]


def cancelled(migrations: Sequence[Migration], now: datetime) -> Sequence[Migration]:
    return [replace(m, state=MigrationState.CANCELLED, finished_at=now) for m in migrations]


def retried(migrations: Sequence[Migration]) -> Sequence[Migration]:
    """Failed and cancelled migrations, pending again."""
    return [
        replace(m, state=MigrationState.PENDING, failure=None, finished_at=None)
        for m in migrations
        if m.state in RETRIABLE
    ]


def check_command(rollout: Rollout, command: Command) -> None:
    """Raise StateError, saying what is possible instead, when the rollout's state does not allow the command."""
    state = rollout.state
    if state in FINISHED:
        if command == "retry":
            return
        raise StateError(
            f"rollout {rollout.id} has {state.value}; it can no longer be {_PAST[command]}",
            remedy="retry its failed targets, or start another rollout",
        )
    if rollout.aborting and command != "abort":
        raise StateError(f"rollout {rollout.id} is being aborted", remedy="wait until it has ended")


_PAST = {"pause": "paused", "resume": "resumed", "abort": "aborted"}
