"""What a rollout does next, from its values alone: which wave, which gate, or the end. Pure.

The controller carries a step out, records what came of it, and asks again; so does the next start after a crash.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from orchestrator.events import timestamp
from orchestrator.rollout import budgets
from orchestrator.rollout.budgets import Stop
from orchestrator.rollout.state import MigrationState, Rollout, RolloutState
from orchestrator.rollout.tally import Tally
from orchestrator.rollout.waves import WaveRun


@dataclass(frozen=True, slots=True)
class Run:
    """Work on what is pending in the wave of this index."""

    index: int


@dataclass(frozen=True, slots=True)
class Hold:
    """Wait for a command, and at most until a moment; `waiting` says for what."""

    until: datetime | None
    waiting: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the wave's checks."""

    index: int


@dataclass(frozen=True, slots=True)
class Approve:
    """Wait for a person's approval: before the first wave (None), or after the wave of this index."""

    index: int | None
    waiting: str


@dataclass(frozen=True, slots=True)
class End:
    """Nothing is left to do, or an abort was asked for: cancel what is pending, and close."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Record that the wave has ended (`ended_at`), or that its gate holds (`passed_at`)."""

    index: int
    what: str


@dataclass(frozen=True, slots=True)
class Turn:
    """Make what was changed pending again, on its way back, and cancel what was never begun."""


Step = Run | Hold | Ask | Approve | End | Mark | Turn | Stop


def next_step(rollout: Rollout, tally: Tally, now: datetime) -> Step:
    """Only for a rollout that is past planning and not finished, and of which nothing runs."""
    if rollout.aborting:
        return End()
    if rollout.rolling_back and tally.unturned:
        return Turn()
    if rollout.state is RolloutState.PAUSED:
        return Hold(None, rollout.reason or "paused")
    if rollout.rolling_back:
        return _back(rollout, tally)
    if rollout.approval and rollout.approved_at is None and tally.counts and _left(rollout, tally, 0):
        return Approve(None, "waiting for approval of the plan")
    for index, wave in enumerate(rollout.waves):
        if (step := _in_wave(rollout, tally, index, wave, now)) is not None:
            return step
    return End()


def _back(rollout: Rollout, tally: Tally) -> Step:
    for index in reversed(range(len(rollout.waves))):
        if tally.wave(rollout.waves[index].name).unfinished:
            return Run(index)
    return End()


def _in_wave(rollout: Rollout, tally: Tally, index: int, wave: WaveRun, now: datetime) -> Step | None:
    """What is to be done in a wave, or at its gate; None when it has passed."""
    counted = tally.wave(wave.name)
    if (stop := exceeded(rollout, tally, wave)) is not None:
        return stop
    if counted.unfinished:
        return Run(index)
    if wave.passed:
        return None
    if wave.ended_at is None:
        return Mark(index, "ended_at")
    if counted.worked and now < (until := wave.ended_at + timedelta(seconds=wave.soak_seconds)):
        return Hold(until, f"waiting for wave {wave.name} to soak until {timestamp(until)}")
    if counted.worked and wave.checks and wave.checked_at is None:
        return Ask(index)
    if wave.approval and wave.approved_at is None and _left(rollout, tally, index + 1):
        return Approve(index, f"waiting for approval after wave {wave.name}")
    return Mark(index, "passed_at")


def exceeded(rollout: Rollout, tally: Tally, wave: WaveRun) -> Stop | None:
    """Whether the wave's failures are too many, and more than somebody has accepted. Gates that were passed stay so."""
    if wave.passed and not tally.wave(wave.name).unfinished:
        return None
    seen = max(wave.accepted, wave.tolerated) if tally.wave(wave.name).unfinished else wave.accepted
    if tally.wave(wave.name).failures <= seen:
        return None
    named = wave.name if len(rollout.waves) > 1 else None
    return budgets.over_budget(wave.budget, tally.wave(wave.name), named)


def _left(rollout: Rollout, tally: Tally, first: int) -> bool:
    """Whether anything is to be done from a wave on, or would be after a retry: for nothing, nobody has to approve."""
    waves = [tally.wave(wave.name) for wave in rollout.waves[first:]]
    return any(wave.unfinished or wave.counts[MigrationState.CANCELLED] for wave in waves)


def current(rollout: Rollout) -> int:
    """The index of the wave that is at work, or whose gate is being waited for; the last one when all have passed."""
    open_ones = (index for index, wave in enumerate(rollout.waves) if not wave.passed)
    return next(open_ones, len(rollout.waves) - 1)
