"""What a rollout needs of others, as it needs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from orchestrator.events import RolloutEvent
from orchestrator.plan.steps import Plan
from orchestrator.registry.model import TargetKey
from orchestrator.rollout.interruptions import Interruption
from orchestrator.rollout.state import Failure, FailureGroup, Migration, MigrationState, Rollout, RolloutState
from orchestrator.rollout.windows import Freeze, Held

# What rollouts and migrations can be looked for by, besides their states.
RolloutField = Literal["track", "strategy", "created_by"]
MigrationField = Literal["tenant", "track", "shard", "wave"]


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event of a rollout at its place in the rollout's stream; `sequence` grows from 1 without holes."""

    sequence: int
    name: str
    data: Mapping[str, object]


class Ledger(Protocol):
    """What must survive a restart. When a call returns, its change is durable; then, and only then, act on it.

    Every method raises StoreError when the store cannot be used. `events` given with a change are appended to the
    rollout's stream in the same transaction and published once it is durable.
    """

    async def create(self, rollout: Rollout, migrations: Sequence[Migration], event: RolloutEvent) -> Rollout:
        """Write a rollout with its frozen migrations, all or nothing.

        Returns the rollout stored earlier under the same idempotency key, if there is one. Raises ConflictError
        naming the active rollout that holds one of the targets.
        """
        ...

    async def save_rollout(self, rollout: Rollout, event: RolloutEvent | None = None) -> None: ...

    async def save_migration(self, migration: Migration, event: RolloutEvent | None = None) -> None: ...

    async def save_migrations(self, migrations: Sequence[Migration], events: Sequence[RolloutEvent] = ()) -> None:
        """All or nothing."""
        ...

    async def extend(self, rollout: Rollout, migrations: Sequence[Migration], event: RolloutEvent) -> None:
        """Add migrations to an active rollout and raise its total by them, all or nothing.

        Raises StateError when it has finished, and ConflictError when another active rollout holds one of the targets.
        """
        ...

    async def reopen(
        self, rollout: Rollout, migrations: Sequence[Migration], events: Sequence[RolloutEvent] = ()
    ) -> None:
        """Make a finished rollout active again and change its migrations, all or nothing.

        Raises ConflictError when another active rollout holds one of its targets by now.
        """
        ...

    async def rollout(self, rollout_id: str) -> Rollout:
        """Raises NotFoundError."""
        ...

    async def requested(self, idempotency_key: str) -> Rollout | None:
        """The rollout that was made under this key in the last 24 hours."""
        ...

    async def rollouts(
        self, *, states: Sequence[RolloutState] = (), limit: int = 100, before: str | None = None
    ) -> Sequence[Rollout]:
        """Newest first; `before` is the id of the last one of the page before."""
        ...

    async def migrations(
        self,
        rollout_id: str,
        *,
        states: Sequence[MigrationState] = (),
        limit: int | None = None,
        after: int = -1,
    ) -> Sequence[Migration]:
        """In order of `position`, from the one after `after`."""
        ...

    async def counts(self, rollout_id: str) -> Mapping[MigrationState, int]:
        """Migrations by state, without the states that none is in."""
        ...

    async def by_wave(self, rollout_id: str) -> Mapping[str, Mapping[MigrationState, int]]:
        """The same for each wave that has migrations."""
        ...

    async def executions(self, rollout_id: str) -> Mapping[str, int]:
        """Migrations that were carried out, by how."""
        ...

    async def failures(self, rollout_id: str, *, tenants: int = 20) -> Sequence[FailureGroup]:
        """Largest group first, each with at most `tenants` names."""
        ...

    async def events(self, rollout_id: str, *, after: int = 0, limit: int = 500) -> Sequence[StoredEvent]: ...


@dataclass(frozen=True, slots=True)
class Share:
    """One shard's part of a wave: what one driver works on. Migrations are in order of `position`."""

    rollout: Rollout
    wave: str
    shard: str
    migrations: Sequence[Migration]


class Control(Protocol):
    """A running rollout, as the driver of one of its shares sees it."""

    @property
    def admits(self) -> bool:
        """False while the rollout is paused, and when it is being aborted or drained."""
        ...

    async def admit(self) -> bool:
        """Wait while the rollout is paused; False when no further migration may start."""
        ...

    @property
    def overrides(self) -> bool:
        """Whether a person lets the rollout go on outside of its targets' windows."""
        ...

    async def hold(self, shard: str, held: Sequence[Held], freeze: Freeze | None) -> None:
        """Take note of what the shard's targets wait for, if for anything: their windows, or the end of a freeze."""
        ...

    def begin(self, migration: Migration) -> bool:
        """Ask right before a migration is started: False when it is not to be, since somebody has skipped it, say."""
        ...

    def interrupts(self, migration: Migration, *, backfilling: bool = True) -> Interruption | None:
        """Asked before batches of a backfill: why it does not go on, if it does not. `backfilling` False: it has
        ended; between two batches a person may still leave the target out."""
        ...

    async def record(self, migration: Migration, event: RolloutEvent | None = None) -> None:
        """Make the migration's new state durable, then tell of it."""
        ...


@dataclass(frozen=True, slots=True)
class Reading:
    """What a survey found of one target: a plan, or why its heads could not be read (`failure` with its state)."""

    migration: Migration
    plan: Plan | None = None
    failure: Failure | None = None
    state: MigrationState | None = None


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What a migration has come to that was cut short and is not tried again. `heads` None: it could not be read, and
    why (`problem`). `rows`: changed by backfills of which nobody knew that they had ended; None: there are none."""

    heads: tuple[str, ...] | None = None
    problem: str | None = None
    rows: int | None = None


class Expedition(Protocol):
    """One rollout, ready to be carried out: its history is read and does not change any more."""

    async def survey(self, migrations: Sequence[Migration], *, every: bool = False) -> Sequence[Reading]:
        """Read the heads of the targets, in bounded time whatever the servers do; those not read are left out. Unless
        `every` one is wanted, so are those that were just seen to be behind."""
        ...

    async def aftermath(self, migrations: Sequence[Migration]) -> Sequence[Aftermath]:
        """What each of these has come to, in bounded time whatever the servers do. Nothing of them is carried out now;
        their backfills that have ended are told of, durably, before this returns."""
        ...

    def lasting(self, readings: Sequence[Reading]) -> Mapping[str, Mapping[str, str]]:
        """Which steps that are to be run cannot be taken back, and why, by wave."""
        ...

    def irreversible(self, migrations: Sequence[Migration]) -> str | None:
        """Why what the rollout did to these targets cannot be taken back, in words; None when it can be."""
        ...

    async def outdated(self) -> bool:
        """Whether the files of its histories have changed since, or can no longer be used."""
        ...

    def limit(self, most: int | None) -> None:
        """Let so many of the rollout's targets be migrated at once from now on; None: as many as the process allows.

        What runs goes on, also where it is more.
        """
        ...

    async def run(self, share: Share, control: Control) -> None:
        """Drive a share; returns when each of its migrations has ended or `control` admits no more."""
        ...


class Dispatcher(Protocol):
    """Carries out rollouts: in this process, or on others."""

    async def prepare(self, rollout: Rollout) -> Expedition:
        """Raises HistoryError when the track's files cannot be read or no longer have the rollout's goal."""
        ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """What asking a check came to. `said` is for people: with the check's name, in one line, without secrets."""

    name: str
    passed: bool
    said: str


class Checks(Protocol):
    """Asks what must hold after a wave."""

    async def ask(self, strategy: str, wave: str, targets: Sequence[TargetKey]) -> Sequence[Verdict]:
        """Ask all checks of the wave once, each within its own time; `targets` are those that the wave migrated.

        Never raises but for the store. What cannot be asked has not passed, and says why; nor has a wave that the
        registry no longer has, or no longer with checks.
        """
        ...
