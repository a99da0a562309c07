"""A rollout's waves as values: their rules as they were when it was made, and how far each is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from orchestrator.registry.model import EVERYONE, FailureBudget, Strategy


@dataclass(frozen=True, slots=True)
class WaveRun:
    """A wave of one rollout. Which targets are in it, its migrations say.

    `checks` names its checks; they are asked every `check_every` seconds, for at most `check_deadline` seconds.
    `accepted`: so many of its failures somebody has seen and gone on in spite of; they do not count against its budget;
    `tolerated`: so many that a retry has left, until the wave has ended. `ended_at`: its last target had ended, and it
    soaks from then on. `checking_since`: its checks are being asked. `passed_at`: what must hold before the next wave
    does. `irreversible`: steps of its targets that cannot be taken back. `backup`: they are backed up before a change.
    """

    name: str
    budget: FailureBudget = field(default_factory=FailureBudget)
    max_concurrent: int | None = None
    soak_seconds: float = 0.0
    approval: bool = False
    checks: tuple[str, ...] = ()
    check_every: float = 15.0
    check_deadline: float = 300.0
    accepted: int = 0
    tolerated: int = 0
    started_at: datetime | None = None
    ended_at: datetime | None = None
    checking_since: datetime | None = None
    checked_at: datetime | None = None
    approved_at: datetime | None = None
    approved_by: str | None = None
    passed_at: datetime | None = None
    irreversible: tuple[str, ...] = ()
    backup: bool = False

    @property
    def ended(self) -> bool:
        return self.ended_at is not None

    @property
    def passed(self) -> bool:
        return self.passed_at is not None


ALL_AT_ONCE = (WaveRun(EVERYONE.name),)


def lasting(waves: Sequence[WaveRun], found: Mapping[str, Iterable[str]]) -> tuple[WaveRun, ...]:
    """The waves, with further steps that cannot be taken back, by wave."""
    return tuple(
        replace(wave, irreversible=tuple(dict.fromkeys([*wave.irreversible, *found.get(wave.name, ())])))
        for wave in waves
    )


def planned(strategy: Strategy) -> tuple[WaveRun, ...]:
    """The waves of a new rollout, of which none has begun."""
    return tuple(
        WaveRun(
            wave.name,
            wave.on_failure,
            min((most for most in (strategy.max_concurrent, wave.max_concurrent) if most is not None), default=None),
            wave.soak_seconds,
            wave.approval,
            tuple(check.name for check in wave.checks),
            min((check.every_seconds for check in wave.checks), default=0.0),
            max((check.deadline_seconds for check in wave.checks), default=0.0),
            backup=wave.backup is not None,
        )
        for wave in strategy.waves
    )
