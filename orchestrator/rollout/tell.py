"""Events from migrations and rollouts: one place that knows their fields."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator import events
from orchestrator.observe import trace_ids
from orchestrator.registry.model import TargetKey
from orchestrator.rollout.budgets import allowed
from orchestrator.rollout.state import (
    BACKFILL_LEFT,
    Failure,
    FailureGroup,
    Migration,
    MigrationState,
    Override,
    Rollout,
    summed,
)

NAMES_TOLD = 20
# Of a rollout that has ended; the rest is summed up as `other`.
SIGNATURES_TOLD = 20


def who(migration: Migration) -> dict[str, Any]:
    """The fields that name a migration in its events."""
    return {
        "rollout": migration.rollout,
        "track": migration.track,
        "tenant": migration.tenant,
        "shard": migration.shard,
        "wave": migration.wave,
    }


@dataclass(slots=True)
class Spent:
    """What a migration's attempts in this process took together: see `MigrationFinished`."""

    seconds: float = 0.0
    lock_wait_seconds: float = 0.0
    retries: Counter[str] = field(default_factory=Counter)
    backfill_rows: int = 0


def finished(migration: Migration, spent: Spent | None = None) -> events.MigrationFinished:
    """A migration's end; without `spent`, it ended without having been tried."""
    failure, spent = migration.failure or Failure("", ""), spent or Spent()
    return events.MigrationFinished(
        **who(migration),
        outcome=migration.state.value,
        attempts=migration.attempts,
        seconds=round(spent.seconds, 6),
        lock_wait_seconds=round(spent.lock_wait_seconds, 6),
        retries=dict(spent.retries),
        backfill_rows=spent.backfill_rows,
        reverting=migration.reverting,
        execution=migration.execution or "online",
        from_heads=migration.from_heads or (),
        to_heads=migration.to_heads or (),
        steps=migration.steps or 0,
        signature=migration.failure.signature if migration.failure else None,
        kind=failure.kind or None,
        code=failure.code,
        revision=failure.revision,
        message=failure.message or None,
        remedy=failure.remedy,
    )


def created(rollout: Rollout, migrations: Sequence[Migration]) -> events.RolloutCreated:
    return events.RolloutCreated(
        rollout=rollout.id,
        track=rollout.track,
        to=rollout.request.to,
        direction=rollout.request.direction.value,
        total=rollout.total,
        created_by=rollout.request.created_by,
        waves=dict(Counter(migration.wave for migration in migrations)),
    )


def requested(rollout: Rollout) -> events.RolloutRequested | None:
    """That somebody's own trace has led to it; None where nobody said so, or what was said is no trace."""
    asked = rollout.request.traceparent
    if asked is None or trace_ids.link(asked) is None:
        return None
    return events.RolloutRequested(rollout=rollout.id, track=rollout.track, traceparent=asked)


def appeared(
    rollout: Rollout, migrations: Sequence[Migration], *, appended: bool, reason: str | None = None
) -> events.TargetsAppeared:
    return events.TargetsAppeared(
        rollout=rollout.id,
        track=rollout.track,
        appended=appended,
        count=len(migrations),
        tenants=tuple(migration.tenant for migration in migrations[:NAMES_TOLD]),
        reason=reason,
    )


def overridden(rollout: Rollout, override: Override) -> events.WindowsOverridden:
    return events.WindowsOverridden(
        rollout=rollout.id, track=rollout.track, by=override.by, reason=override.reason, at=override.at
    )


def wave_changed(rollout: Rollout, index: int, what: str, by: str | None = None) -> events.WaveChanged:
    """`what` has happened to a wave; see the event."""
    wave, now = rollout.waves[index], events.now()
    return events.WaveChanged(
        at=now,
        rollout=rollout.id,
        track=rollout.track,
        wave=wave.name,
        position=index,
        change=what,
        by=by,
        seconds=round((now - wave.started_at).total_seconds(), 3) if wave.started_at is not None else 0.0,
    )


def state_changed(
    rollout: Rollout,
    by_wave: Mapping[str, Mapping[MigrationState, int]],
    by: str | None = None,
    failures: Sequence[FailureGroup] = (),
    again: Iterable[TargetKey] = (),
) -> events.RolloutStateChanged:
    """A rollout's new state, with its counts at that moment. `failures`: of one that has ended; `again`: failed targets
    that are pending again."""
    counts = summed(by_wave)
    return events.RolloutStateChanged(
        rollout=rollout.id,
        track=rollout.track,
        state=rollout.state.value,
        reason=rollout.reason,
        waiting=rollout.waiting,
        total=rollout.total,
        counts=_named(counts),
        waves={name: _named(found) for name, found in by_wave.items()},
        seconds=(events.now() - rollout.created_at).total_seconds(),
        by=by,
        allowed=_allowed(rollout, by_wave),
        accepted={wave.name: wave.accepted for wave in rollout.waves if wave.accepted},
        ending=_ending(rollout, failures) if rollout.state.finished else None,
        again=frozenset((key.tenant, key.track) for key in again),
    )


def _ending(rollout: Rollout, failures: Sequence[FailureGroup]) -> dict[str, Any]:
    """What tells of a whole rollout, besides its state and counts, under the log's keys: `goal` as it was written, `to`
    the heads that it meant, where all targets are of one track."""
    request = rollout.request
    told = {
        "goal": request.to,
        "to": None if rollout.several else list(rollout.goal),
        "select": request.select,
        "direction": request.direction.value,
        "strategy": request.strategy,
        "created_by": request.created_by,
        "plan_digest": request.plan_digest,
        "schedule": request.scheduled.schedule if request.scheduled else None,
        "rolled_back": rollout.rolling_back,
        "failures": by_signature(failures),
    }
    return {key: value for key, value in told.items() if value is not None}


def what_stays(reason: str | None, failures: Sequence[FailureGroup]) -> str | None:
    """Why a rollout was taken back, and that not all of it was.

    >>> what_stays("rolled back by ann", [FailureGroup("c3 backfill_left", 2, Failure(BACKFILL_LEFT, ""))])
    'rolled back by ann; on 2 targets rows stay as a backfill that was stopped has changed them'
    """
    count = sum(group.count for group in failures if group.example.kind == BACKFILL_LEFT)
    if not count:
        return reason
    targets = "1 target" if count == 1 else f"{count:,} targets"
    said = f"on {targets} rows stay as a backfill that was stopped has changed them"
    return f"{reason}; {said}" if reason else said


def by_signature(failures: Sequence[FailureGroup], most: int = SIGNATURES_TOLD) -> dict[str, int]:
    """How many targets failed in each way, the commonest first and no more than so many ways.

    >>> groups = [FailureGroup(name, n, Failure("", "")) for name, n in (("a", 5), ("b", 2), ("c", 1), ("d", 1))]
    >>> by_signature(groups, 2), by_signature(groups[:2], 2)
    ({'a': 5, 'b': 2, 'other': 2}, {'a': 5, 'b': 2})
    """
    told = {group.signature: group.count for group in failures[:most]}
    rest = sum(group.count for group in failures[most:])
    return {**told, "other": rest} if rest else told


def _allowed(rollout: Rollout, by_wave: Mapping[str, Mapping[MigrationState, int]]) -> dict[str, int]:
    """By wave; as many as somebody has seen and gone on in spite of are allowed in any case."""
    found = ((wave, allowed(wave.budget, sum(by_wave.get(wave.name, {}).values()))) for wave in rollout.waves)
    return {wave.name: max(most, wave.accepted, wave.tolerated) for wave, most in found if most is not None}


def _named(counts: Mapping[MigrationState, int]) -> dict[str, int]:
    return {state.value: n for state in MigrationState if (n := counts.get(state, 0))}
