"""What a rollout does next. Pure: values in, values out; the controller asks, acts and records."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

from orchestrator.access import callers
from orchestrator.errors import StateError
from orchestrator.plan import doubt
from orchestrator.registry.model import TargetKey
from orchestrator.rollout import step, waves
from orchestrator.rollout.budgets import Stop
from orchestrator.rollout.ports import Aftermath, Reading
from orchestrator.rollout.state import (
    AT_GOAL,
    BACKFILL,
    FAILURES,
    FINISHED,
    INTERRUPTED,
    UNFINISHED,
    Direction,
    Failure,
    Migration,
    MigrationState,
    Rollout,
    RolloutState,
)
from orchestrator.rollout.tally import Tally
from orchestrator.rollout.waves import WaveRun

Command = Literal["pause", "resume", "abort", "retry", "approve", "rollback", "skip", "limit", "override"]
RETRIABLE = FAILURES | {MigrationState.CANCELLED}
SKIPPABLE = RETRIABLE | {MigrationState.PENDING}


def admits(rollout: Rollout, *, back: bool) -> bool:
    """Whether a further migration may start, on the way to the goal or `back`."""
    if rollout.state.finished or rollout.state is RolloutState.PAUSED or rollout.aborting:
        return False
    return rollout.rolling_back is back


def reaction(rollout: Rollout, stop: Stop, irreversible: str | None) -> dict[str, Any] | None:
    """What becomes of the rollout when something has gone wrong: changes of its fields, or None, since it is
    paused, ends, or goes back already. What is `irreversible` is paused instead of taken back."""
    if rollout.state.finished or rollout.aborting or rollout.rolling_back or rollout.state is RolloutState.PAUSED:
        return None
    if stop.then == "abort":
        return {"state": RolloutState.RUNNING, "reason": stop.reason, "aborting": True}
    if stop.then == "rollback" and irreversible is None:
        return {"state": RolloutState.RUNNING, "reason": stop.reason, "rolling_back": True}
    told = f"; what was changed cannot be taken back: {irreversible}" if stop.then == "rollback" else ""
    return {"state": RolloutState.PAUSED, "reason": stop.reason + told}


def lasting(rollout: Rollout, found: Mapping[str, Mapping[str, str]]) -> Rollout:
    """The rollout, with further steps that cannot be taken back and why, by wave."""
    known = dict(rollout.irreversible)
    for steps in found.values():
        known.update(steps)
    return replace(rollout, waves=waves.lasting(rollout.waves, found), irreversible=known)


def accepting(rollout: Rollout, tally: Tally, *, fewer: bool = False) -> tuple[WaveRun, ...]:
    """The rollout's waves, with the failures that whoever resumes it has seen; with `fewer`, no more than are left."""
    counted = {wave.name: tally.wave(wave.name).failures for wave in rollout.waves}
    if fewer:
        return tuple(replace(wave, accepted=min(wave.accepted, counted[wave.name])) for wave in rollout.waves)
    return tuple(replace(wave, accepted=counted[wave.name], tolerated=0, checking_since=None) for wave in rollout.waves)


def tolerating(rollout: Rollout, tally: Tally) -> tuple[WaveRun, ...]:
    """The rollout's waves, with the failures that a retry leaves: they do not stop what is retried, and count again
    when the wave has ended."""
    return tuple(
        replace(wave, tolerated=tally.wave(wave.name).failures, accepted=0, checking_since=None)
        for wave in rollout.waves
    )


def back(rollout: Rollout) -> Rollout:
    """The rollout as it is when what it changed is taken back."""
    return replace(rollout, rolling_back=True)


def nothing_to_retry(rollout: Rollout, signature: str) -> StateError:
    return StateError(
        f"no target of rollout {rollout.id} failed with {signature!r}",
        remedy="`orchestrator rollout show` names the causes",
    )


def unfinished(counts: Mapping[MigrationState, int]) -> int:
    return sum(counts.get(state, 0) for state in UNFINISHED)


def final_state(rollout: Rollout, tally: Tally) -> RolloutState:
    """How a rollout of which nothing is unfinished ends: `succeeded` only if each target is at the goal or was
    skipped by a person; `rolled_back` only if all that was changed is where it was."""
    counts = tally.counts
    if rollout.rolling_back and not rollout.aborting:
        return RolloutState.FAILED if tally.lost else RolloutState.ROLLED_BACK
    if rollout.aborting or counts[MigrationState.CANCELLED]:
        return RolloutState.ABORTED
    good = sum(counts[state] for state in AT_GOAL) + counts[MigrationState.SKIPPED]
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
    changed = migration.attempts > 0 and migration.from_heads != plan.heads
    if not changed:
        migration = replace(migration, from_heads=plan.heads)
    if plan.direction == "stamp" and not migration.reverting:
        migration = replace(migration, doubt=None)  # a person says where it stands, and there it is
    state = MigrationState.SUCCEEDED if changed else MigrationState.UP_TO_DATE
    return replace(migration, state=state, to_heads=plan.heads, finished_at=now)


def begun(migration: Migration, now: datetime) -> Migration:
    """The migration as an attempt begins: from now on it may be anywhere, whatever an attempt before has come to."""
    return replace(
        migration,
        state=MigrationState.RUNNING,
        attempts=migration.attempts + 1,
        failure=None,
        to_heads=None,
        started_at=migration.started_at or now,
    )


def interrupted(
    migrations: Sequence[Migration], why: str = "the process that migrated it ended in the middle"
) -> Sequence[Migration]:
    """What was running when it was cut short is pending again; the version table will tell how far it came."""
    return [_interrupted(m, why) for m in migrations if m.state is MigrationState.RUNNING]


def _interrupted(migration: Migration, why: str) -> Migration:
    begun = doubt.revision_of(migration.doubt or doubt.UNKNOWN)
    told = f"{why}; revision {begun} had begun what stays whatever becomes of its transaction" if begun else why
    failure = Failure(INTERRUPTED, told, revision=begun)
    return replace(migration, state=MigrationState.PENDING, failure=failure, doubt=migration.doubt or doubt.UNKNOWN)


def cancelled(migrations: Sequence[Migration], now: datetime) -> Sequence[Migration]:
    return [replace(m, state=MigrationState.CANCELLED, finished_at=now) for m in migrations]


def is_unknown(migration: Migration) -> bool:
    """Whether nobody knows what has become of it, since it was cut short and not begun again."""
    return migration.attempts > 0 and migration.was_cut_short and migration.to_heads is None


_UNKNOWN = "; what it has come to is not known: "


def known(migration: Migration, found: Aftermath) -> Migration:
    """The migration that was cut short, as its target tells; or told that nobody knows."""
    failure = migration.failure or Failure(INTERRUPTED, "it was cut short")
    said = failure.message.partition(_UNKNOWN)[0]
    if found.heads is None:
        remedy = "look at its version table: `orchestrator tenants`, as soon as it can be read"
        told = replace(failure, message=f"{said}{_UNKNOWN}{found.problem}", remedy=remedy)
        return replace(migration, failure=told)
    at = f"its version table holds {', '.join(found.heads) or 'nothing'}"
    execution = migration.execution if found.rows is None else BACKFILL
    told = replace(failure, message=f"{said}; {at}", remedy=None)
    return replace(migration, failure=told, to_heads=found.heads, execution=execution)


def skipped(
    migrations: Sequence[Migration],
    begun: Collection[TargetKey],
    reason: str,
    now: datetime,
    direction: Direction = Direction.UPGRADE,
) -> Sequence[Migration]:
    """Left out by a person, who says why: those that are pending, have failed, or were cancelled, and not `begun`.

    Raises StateError when there is none.
    """
    told = Failure("skipped", reason)
    left = [m for m in migrations if m.state in SKIPPABLE and m.key not in begun and not m.reverting]
    if not left:
        states = ", ".join(f"{m.key} is {'running' if m.key in begun else m.state}" for m in migrations)
        raise StateError(f"{states}: it can no longer be skipped", remedy="skip what is pending or has failed")
    return [
        replace(m, state=MigrationState.SKIPPED, failure=told, finished_at=now, doubt=_kept(m, direction)) for m in left
    ]


def _kept(migration: Migration, direction: Direction) -> str | None:
    """What a target that is left out goes on to be in doubt about: to skip what is half applied mends nothing."""
    if migration.doubt is not None or not migration.is_half_applied or migration.failure is None:
        return migration.doubt
    revision = migration.failure.revision
    return doubt.HALF if revision is None else doubt.about(direction.planned, revision)


def retried(rollout: Rollout, migrations: Sequence[Migration], signature: str | None = None) -> Sequence[Migration]:
    """Failed and cancelled migrations, pending again: all, or those that failed in one way. While, or after, a rollout
    takes back what it changed, only those of the way back. Whoever retries what was told to be half applied has looked
    at it: nothing is in doubt any more."""
    return [
        replace(
            m,
            state=MigrationState.PENDING,
            failure=_remembered(m),
            finished_at=None,
            doubt=None if m.is_half_applied else m.doubt,
        )
        for m in migrations
        if m.state in RETRIABLE
        and (m.reverting or not rollout.rolling_back)
        and (signature is None or (m.failure is not None and m.failure.signature == signature))
    ]


def _remembered(migration: Migration) -> Failure | None:
    """What the next attempt must know of the last: that it was cut short, unless a person has seen it as a failure."""
    return migration.failure if migration.was_cut_short and migration.state is not MigrationState.FAILED else None


def turned(migrations: Sequence[Migration], now: datetime) -> Sequence[Migration]:
    """What a rollback makes of migrations: what was touched is pending on its way back, what was never begun is
    cancelled, and the rest stays as it is."""
    changes = []
    for m in migrations:
        if m.reverting or m.is_half_applied:  # what has stayed of a revision, no downgrade takes back
            continue
        if m.touched:
            back = replace(m, state=MigrationState.PENDING, reverting=True, finished_at=None, counted=None)
            changes.append(replace(back, failure=_remembered(m)))
        elif m.state is MigrationState.PENDING:
            changes.append(replace(m, state=MigrationState.CANCELLED, finished_at=now))
    return changes


def check_command(rollout: Rollout, command: Command) -> None:
    """Raise StateError, saying what is possible instead, when the rollout's state does not allow the command."""
    state = rollout.state
    if state is RolloutState.ROLLED_BACK or (state in FINISHED and command not in ("retry", "rollback")):
        raise StateError(
            f"rollout {rollout.id} has {_ENDED[state]}; it can no longer be {_PAST[command]}",
            remedy=_INSTEAD[state],
        )
    if state in FINISHED:
        return
    if rollout.aborting and command != "abort":
        raise StateError(f"rollout {rollout.id} is being aborted", remedy="wait until it has ended")
    if command == "rollback" and rollout.rolling_back:
        raise StateError(f"rollout {rollout.id} is being rolled back", remedy="follow it with `rollout watch`")
    if command == "approve" and state is not RolloutState.AWAITING_APPROVAL:
        raise StateError(
            f"rollout {rollout.id} is {state}: it does not wait for an approval",
            remedy="look at what it waits for with `orchestrator rollout show`",
        )


def approval_told(rollout: Rollout, by: str) -> str:
    """Who has approved; and where two names were compared that nobody has proved, that it is so."""
    creator = rollout.request.created_by
    compared = rollout.four_eyes and not creator.startswith(callers.SCHEDULE)
    if compared and not callers.is_proved(creator) and not callers.is_proved(by):
        return f"approved by {by} (started by {creator}; without tokens, both names are what clients say)"
    return f"approved by {by}"


def check_approval(rollout: Rollout, by: str, wave: str | None) -> None:
    """Raise StateError when this person may not approve, or means another gate than the one that is waited for."""
    same = callers.another_pair_of_eyes(rollout.request.created_by, by) if rollout.four_eyes else None
    if same is not None:
        raise StateError(
            f"the strategy of rollout {rollout.id} wants another pair of eyes: {same}",
            remedy="have somebody else approve it; either both bring a token, or neither does",
        )
    at = gate(rollout)
    if wave is not None and wave != (at or ""):
        here = f"after wave {at!r}" if at else "before the first wave"
        raise StateError(
            f"the approval is for the gate after wave {wave!r}, and rollout {rollout.id} waits {here}",
            remedy="look at the rollout again before you approve",
        )


def irreversible(rollout: Rollout, problem: str) -> StateError:
    return StateError(
        f"rollout {rollout.id} cannot be rolled back: {problem}; nothing was changed",
        remedy="write the downgrade and start a rollout with --direction downgrade, or restore backups",
    )


def gate(rollout: Rollout) -> str | None:
    """The wave after which an approval is waited for; None: before the first."""
    if rollout.approval and rollout.approved_at is None:
        return None
    return rollout.waves[step.current(rollout)].name


_PAST = {
    "pause": "paused",
    "resume": "resumed",
    "abort": "aborted",
    "approve": "approved",
    "rollback": "rolled back",
    "retry": "retried",
    "skip": "changed",
    "limit": "changed",
    "override": "changed",
}
_INSTEAD = {
    RolloutState.SUCCEEDED: "start another rollout, or take it back with `orchestrator rollout rollback`",
    RolloutState.FAILED: "retry its failed targets, or start another rollout",
    RolloutState.ABORTED: "retry its targets, or start another rollout",
    RolloutState.ROLLED_BACK: "start another rollout",
}
_ENDED = {
    RolloutState.SUCCEEDED: "succeeded",
    RolloutState.FAILED: "failed",
    RolloutState.ABORTED: "been aborted",
    RolloutState.ROLLED_BACK: "been rolled back",
}
