"""Why a target is not brought to its goal, before anything is run or after: as errors with what to do. Pure."""

from __future__ import annotations

from orchestrator.errors import NOT_AT_GOAL, MigrationFailedError, TargetAheadError
from orchestrator.history.revisions import History
from orchestrator.plan.steps import Plan
from orchestrator.registry.model import Heads


def not_there(heads: Heads, expected: str) -> MigrationFailedError:
    return MigrationFailedError(
        f"env.py ended without an error, but the version table holds {', '.join(heads) or 'nothing'}; {expected}",
        kind=NOT_AT_GOAL,
        remedy="look for a swallowed error or a missing commit in env.py",
    )


def unplanned(message: str) -> MigrationFailedError:
    remedy = "make a new plan, and start a rollout under its digest"
    return MigrationFailedError(message, kind="unplanned", remedy=remedy)


def refuse_impossible(plan: Plan, bound: bool) -> None:
    if plan.problem and bound:
        raise unplanned(plan.problem)
    if plan.problem:
        raise MigrationFailedError(plan.problem, kind="goal", remedy="name a revision as the goal of another rollout")
    if plan.unknown:
        raise TargetAheadError(
            f"the version table holds {', '.join(plan.unknown)}, which this build does not have; nothing was touched",
            remedy="deploy the build that has it, or bring the target back with that build",
        )


def refuse_mixed(history: History, plan: Plan) -> None:
    """Before anything is run: what stands beside a backfill could not be taken back with it."""
    mixed = history.mixed(plan.direction)
    for step in plan.steps:
        if step in mixed:
            raise MigrationFailedError(
                f"revision {step} holds a backfill and something else: {mixed[step]}. Nothing was run",
                kind="mixed_backfill",
                revision=step,
                remedy="give the backfill a revision of its own, and start a new rollout",
            )
