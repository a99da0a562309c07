"""What the HTTP surface needs of the service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from orchestrator.api.backfill_ports import Backfills
from orchestrator.api.drift_ports import Drifting
from orchestrator.api.time_ports import Freezing, Schedules
from orchestrator.backfill.records import Sum
from orchestrator.events import Event
from orchestrator.notify.ports import Kept, State
from orchestrator.plan.findings import Finding
from orchestrator.registry.discovery import Source
from orchestrator.registry.model import Registry, Target
from orchestrator.rollout.ports import MigrationField, RolloutField, StoredEvent
from orchestrator.rollout.state import (
    FailureGroup,
    FleetState,
    Migration,
    MigrationState,
    Request,
    Rollout,
    RolloutState,
)


@dataclass(frozen=True, slots=True)
class TargetView:
    """A target with what was last seen of it; `read_at` None: never read."""

    target: Target
    state: FleetState
    heads: tuple[str, ...]
    read_at: datetime | None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class RolloutView:
    """A rollout with its counts. `failures`, `executions` and `backfills` are left out (empty) in listings."""

    rollout: Rollout
    counts: Mapping[MigrationState, int]
    eta_seconds: float | None
    failures: Sequence[FailureGroup] = ()
    executions: Mapping[str, int] = field(default_factory=dict)
    by_wave: Mapping[str, Mapping[MigrationState, int]] = field(default_factory=dict)
    backfills: Sequence[Sum] = ()
    trace_id: str | None = None


@dataclass(frozen=True, slots=True)
class PlanGroup:
    """Targets with equal heads and so with equal steps. `tenants` holds the first few names, `count` all.

    `problem` says why nothing is run where something should be, `irreversible` which steps cannot be taken back, and
    why.
    """

    track: str
    heads: tuple[str, ...]
    state: FleetState
    steps: tuple[str, ...]
    count: int
    tenants: tuple[str, ...]
    problem: str | None = None
    irreversible: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CompiledGroup:
    """Targets with one plan, compiled. `tenants` names them all.

    `online` tells why a revision is run by env.py; without an entry it is SQL. `script` is what is sent, message by
    message, with the revisions that env.py runs between them; made for the first of the targets. `digest` covers the
    SQL of all of them; `problem` and `irreversible` as in `PlanGroup`. `backfills` are the revisions that change rows
    in batches.
    """

    track: str
    heads: tuple[str, ...]
    state: FleetState
    steps: tuple[str, ...]
    tenants: tuple[str, ...]
    online: Mapping[str, str]
    script: tuple[str | tuple[str, ...], ...]
    digest: str
    problem: str | None = None
    irreversible: Mapping[str, str] = field(default_factory=dict)
    findings: Sequence[Finding] = ()
    backfills: tuple[str, ...] = ()

    def execution(self, revision: str) -> Literal["sql", "online", "backfill"]:
        if revision in self.backfills:
            return "backfill"
        return "online" if revision in self.online else "sql"


@dataclass(frozen=True, slots=True)
class CompiledPlan:
    """What a rollout would do. `digest` covers goals and direction, env.py and revision files, the groups' steps and
    SQL, and the targets with their places: a rollout can be bound to it."""

    groups: Sequence[CompiledGroup]
    digest: str


@dataclass(frozen=True, slots=True)
class Reloaded:
    """`appeared` and `vanished` count targets; `stale` names the sources that gave no good answer."""

    changed: bool
    targets: int
    appeared: int = 0
    vanished: int = 0
    stale: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Leadership:
    """Whether this process drives the rollouts of its store, and who does, in words; None: nobody, or not known."""

    leads: bool
    leader: str | None


@dataclass(frozen=True, slots=True)
class ShardView:
    """`limit` migrations may run on the shard now; `throttled` says why these are fewer than `max_concurrent`."""

    name: str
    dialect: str
    max_concurrent: int
    limit: int
    running: int
    throttled: str | None


class Notifications(Protocol):
    """Deliveries, newest first, and dead letters sent again."""

    async def listed(
        self, *, states: Sequence[State] = (), channels: Sequence[str] = (), limit: int = 100, before: int | None = None
    ) -> Sequence[Kept]: ...

    async def retry(self, delivery_id: str, now: datetime) -> Kept:
        """Raises NotFoundError, and StateError when it was delivered."""
        ...


class Orchestrator(Protocol):
    """The service. Errors are those of `orchestrator.errors`: RequestError, ConfigurationError, UnavailableError."""

    @property
    def registry(self) -> Registry: ...

    @property
    def notifications(self) -> Notifications: ...

    def shards(self) -> Sequence[ShardView]:
        """All shards of the registry, in its order."""
        ...

    def leadership(self) -> Leadership | None:
        """None where no other process can lead."""
        ...

    def readiness(self) -> Mapping[str, str]:
        """What is not ready, by name, in words; empty when the daemon can take work."""
        ...

    def targets(self) -> Sequence[TargetView]:
        """All targets of the registry, ordered by tenant, then track."""
        ...

    def sources(self) -> Sequence[Source]:
        """What is known of the registry's sources of tenants, in the order of the file."""
        ...

    async def start_rollout(self, request: Request) -> tuple[RolloutView, bool]:
        """The rollout, and whether it was made by this call (False: same idempotency key as an earlier one).

        Raises PlanChangedError when it is to be bound to a plan that no longer holds.
        """
        ...

    async def preview(self, request: Request) -> Sequence[PlanGroup]:
        """What `start_rollout` would do, by reading the heads of all selected targets. Changes nothing. Raises
        PlanChangedError as `start_rollout` does."""
        ...

    async def plan(self, request: Request) -> CompiledPlan:
        """As `preview`, with the SQL that would run."""
        ...

    async def rollouts(
        self,
        *,
        states: Sequence[RolloutState] = (),
        only: Mapping[RolloutField, str] | None = None,
        limit: int = 100,
        before: str | None = None,
    ) -> Sequence[RolloutView]:
        """Newest first, those whose fields are as in `only`."""
        ...

    async def rollout(self, rollout_id: str) -> RolloutView: ...

    async def migrations(
        self,
        rollout_id: str,
        *,
        states: Sequence[MigrationState] = (),
        only: Mapping[MigrationField, str] | None = None,
        limit: int = 100,
        after: int = -1,
    ) -> Sequence[Migration]: ...

    async def pause(self, rollout_id: str, *, by: str) -> RolloutView: ...

    async def resume(self, rollout_id: str, *, by: str) -> RolloutView: ...

    async def abort(self, rollout_id: str, *, by: str, force: bool = False) -> RolloutView:
        """Cancel what has not begun; with `force`, what runs as well: its transaction is rolled back."""
        ...

    async def approve(self, rollout_id: str, *, by: str, wave: str | None = None) -> RolloutView:
        """Let a rollout pass the gate that it waits at; `wave` names the one that is meant, "" the first."""
        ...

    async def retry(self, rollout_id: str, *, by: str, signature: str | None = None) -> RolloutView:
        """Put the failed, locked, unreachable, ahead and cancelled targets of a rollout back to pending and go on: all,
        or those that failed in one way."""
        ...

    async def rollback(self, rollout_id: str, *, by: str) -> RolloutView:
        """Bring the targets that a rollout changed back to where it found them, in reverse order of its waves."""
        ...

    async def skip(self, rollout_id: str, *, by: str, tenant: str, track: str | None, reason: str) -> RolloutView:
        """Leave a tenant out that is pending or has failed."""
        ...

    async def limit(self, rollout_id: str, *, by: str, max_concurrent: int) -> RolloutView:
        """Change how many of its targets are migrated at once."""
        ...

    async def override(self, rollout_id: str, *, by: str, reason: str) -> RolloutView:
        """Let what is left of it start outside of its targets' windows, too."""
        ...

    @property
    def schedules(self) -> Schedules: ...

    @property
    def freezing(self) -> Freezing: ...

    @property
    def backfills(self) -> Backfills: ...

    @property
    def drifting(self) -> Drifting: ...

    async def events(self, rollout_id: str, *, after: int = 0) -> Sequence[StoredEvent]:
        """The next page of the rollout's durable events, oldest first; empty at the end."""
        ...

    def subscribe(self, rollout_id: str) -> AsyncIterator[Event]:
        """The rollout's events as they happen, from now on; a slow reader loses the oldest, never blocks others."""
        ...

    async def reload(self) -> Reloaded: ...
