"""An orchestrator of dictionaries: does what the port says, with no database behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio.lowlevel
from sqlalchemy.engine import make_url

from orchestrator import errors
from orchestrator.api import ports
from orchestrator.events import Event, RolloutCreated, RolloutEvent, RolloutStateChanged
from orchestrator.notify.notices import Delivery
from orchestrator.notify.ports import Kept, State
from orchestrator.observe.bus import Bus
from orchestrator.plan.findings import Finding
from orchestrator.registry.discovery import Source
from orchestrator.registry.model import Registry, Shard, Target, TargetKey, Track
from orchestrator.rollout.ports import MigrationField, RolloutField, StoredEvent
from orchestrator.rollout.state import (
    ACTIVE,
    FAILURES,
    Failure,
    FailureGroup,
    FleetState,
    Migration,
    MigrationState,
    Override,
    Request,
    Rollout,
    RolloutState,
    count,
)
from tests.unit.api.fake_backfills import FakeBackfills
from tests.unit.api.fake_drift import FakeDrifting
from tests.unit.api.fake_times import FakeFreezing, FakeSchedules

START = datetime(2026, 11, 21, 2, 0, tzinfo=UTC)
EVENTS_A_PAGE = 2  # small, so that reading them takes several


def target(tenant: str, track: str = "app", shard: str = "pg-1", **labels: str) -> Target:
    return Target(tenant, track, shard, database=f"db_{tenant}", labels=labels)


def registry(*targets: Target) -> Registry:
    url = make_url("postgresql://migrator:hunter2@pg.internal")
    return Registry(
        source=Path("tenants.yaml"),
        digest="d1",
        tracks={"app": Track("app")},
        shards={name: Shard(name, url) for name in {it.shard for it in targets}},
        targets=tuple(sorted(targets, key=lambda it: it.key)),
    )


def select(text: str) -> Callable[[Target], bool]:
    """A selector of one `key=value`, or none."""
    key, equals, value = text.partition("=")
    if text and not equals:
        raise errors.SelectorError(f"{text!r} has no `=`")
    return lambda it: not text or {**it.labels, "track": it.track}.get(key) == value


@dataclass
class FakeOrchestrator:
    registry: Registry = field(default_factory=lambda: registry(target("acme"), target("globex")))
    seen: dict[TargetKey, tuple[FleetState, tuple[str, ...]]] = field(default_factory=dict)
    known_sources: list[Source] = field(default_factory=list)
    unready: dict[str, str] = field(default_factory=dict)
    standing: ports.Leadership | None = None
    failing: Exception | None = None
    bus: Bus = field(default_factory=Bus)
    subscriptions: int = 0
    held: dict[str, Rollout] = field(default_factory=dict)
    work: dict[str, list[Migration]] = field(default_factory=dict)
    stored: dict[str, list[StoredEvent]] = field(default_factory=dict)
    schedules: FakeSchedules = field(default_factory=FakeSchedules)
    freezing: FakeFreezing = field(default_factory=FakeFreezing)
    backfills: FakeBackfills = field(default_factory=FakeBackfills)
    drifting: FakeDrifting = field(default_factory=FakeDrifting)
    notifications: FakeNotifications = field(default_factory=lambda: FakeNotifications())

    def tell(self, event: RolloutEvent) -> None:
        """Make an event durable, then publish it."""
        stream = self.stored.setdefault(event.rollout, [])
        stream.append(StoredEvent(len(stream) + 1, event.name, event.as_dict()))
        self.bus.publish(event, len(stream))

    def add(self, request: Request, *, targets: Sequence[Target] | None = None) -> Rollout:
        number = len(self.held) + 1
        it = Rollout(
            id=f"r{number:03}",
            request=request,
            goal=("b2",),
            total=len(self.registry.targets if targets is None else targets),
            created_at=START + timedelta(seconds=number),
            state=RolloutState.RUNNING,
            started_at=START + timedelta(seconds=number, milliseconds=250),
        )
        self.held[it.id] = it
        self.work[it.id] = [
            Migration(it.id, where.tenant, where.track, where.shard, position=position)
            for position, where in enumerate(self.registry.targets if targets is None else targets)
        ]
        created = RolloutCreated(
            rollout=it.id,
            track=it.track,
            to=request.to,
            direction=request.direction,
            total=it.total,
            created_by=request.created_by,
        )
        self.tell(created)
        return it

    def put(self, rollout_id: str, position: int, **changes: object) -> None:
        self.work[rollout_id][position] = replace(self.work[rollout_id][position], **changes)  # type: ignore[arg-type]

    def change(self, rollout_id: str, state: RolloutState, reason: str | None = None) -> ports.RolloutView:
        it = self.held[rollout_id] = replace(self.held[rollout_id], state=state, reason=reason)
        counts = {str(name): n for name, n in count(self.work[rollout_id]).items()}
        changed = RolloutStateChanged(
            rollout=it.id, track=it.track, state=state, reason=reason, total=it.total, counts=counts, seconds=1.0
        )
        self.tell(changed)
        return self.view(it)

    def view(self, it: Rollout) -> ports.RolloutView:
        groups: dict[str, list[Migration]] = {}
        for migration in self.work[it.id]:
            if migration.failure:
                groups.setdefault(migration.failure.signature, []).append(migration)
        failures = [
            FailureGroup(signature, len(same), example(same[0]), tuple(m.tenant for m in same))
            for signature, same in groups.items()
        ]
        counts = count(self.work[it.id])
        return ports.RolloutView(it, counts, 12.5, failures, by_wave={"everyone": counts})

    # -- the port --------------------------------------------------------------------------------------------------

    def leadership(self) -> ports.Leadership | None:
        return self.standing

    def readiness(self) -> Mapping[str, str]:
        return self.unready

    def targets(self) -> Sequence[ports.TargetView]:
        self._fail()
        unknown: tuple[FleetState, tuple[str, ...]] = (FleetState.UNKNOWN, ())
        return [
            ports.TargetView(it, *self.seen.get(it.key, unknown), START if it.key in self.seen else None)
            for it in self.registry.targets
        ]

    def sources(self) -> Sequence[Source]:
        return self.known_sources

    def shards(self) -> Sequence[ports.ShardView]:
        why = "others use 90 of 100 connections, says postgresql://u:hunter2@h"
        return [ports.ShardView(name, "postgresql", 8, 3, 2, why) for name in self.registry.shards]

    async def start_rollout(self, request: Request) -> tuple[ports.RolloutView, bool]:
        self._fail()
        for earlier in self.held.values():
            if request.idempotency_key and earlier.request.idempotency_key == request.idempotency_key:
                return self.view(earlier), False
        for active in self.held.values():
            if active.state in ACTIVE and self.work[active.id]:
                raise errors.ConflictError(
                    f"rollout {active.id} holds 2 of the targets",
                    rollout=active.id,
                    targets=[str(migration.key) for migration in self.work[active.id]],
                    remedy=f"wait for {active.id}, or abort it",
                )
        return self.view(self.add(request)), True

    async def preview(self, request: Request) -> Sequence[ports.PlanGroup]:
        self._fail()
        tenants = tuple(it.tenant for it in self.registry.targets)
        return [ports.PlanGroup("app", ("a1",), FleetState.BEHIND, ("b2",), len(tenants), tenants)]

    async def plan(self, request: Request) -> ports.CompiledPlan:
        self._fail()
        tenants = tuple(it.tenant for it in self.registry.targets)
        script = ("BEGIN;\nSELECT 1;\nCOMMIT;", ("c3",))
        online = {"c3": "it asks postgresql://u:hunter2@h/d for an answer"}
        group = ports.CompiledGroup("app", ("a1",), FleetState.BEHIND, ("b2", "c3"), tenants, online, script, "d1")
        told = [Finding("online", "c3", "it asks postgresql://u:hunter2@h/d")]
        group = replace(group, irreversible={"b2": "its downgrade is empty"}, findings=told)
        return ports.CompiledPlan([group], "d0")

    async def rollouts(
        self,
        *,
        states: Sequence[RolloutState] = (),
        only: Mapping[RolloutField, str] | None = None,
        limit: int = 100,
        before: str | None = None,
    ) -> Sequence[ports.RolloutView]:
        self._fail()
        newest = sorted(self.held.values(), key=lambda it: it.id, reverse=True)
        matching = [it for it in newest if (not states or it.state in states) and (before is None or it.id < before)]
        matching = [it for it in matching if all(getattr(it.request, k) == v for k, v in (only or {}).items())]
        return [replace(self.view(it), failures=()) for it in matching[:limit]]

    async def rollout(self, rollout_id: str) -> ports.RolloutView:
        self._fail()
        return self.view(self._held(rollout_id))

    async def migrations(
        self,
        rollout_id: str,
        *,
        states: Sequence[MigrationState] = (),
        only: Mapping[MigrationField, str] | None = None,
        limit: int = 100,
        after: int = -1,
    ) -> Sequence[Migration]:
        self._fail()
        found = [it for it in self.work.get(rollout_id, []) if it.position > after]
        found = [it for it in found if all(getattr(it, k) == v for k, v in (only or {}).items())]
        return [it for it in found if not states or it.state in states][:limit]

    async def pause(self, rollout_id: str, *, by: str) -> ports.RolloutView:
        return self._steer(rollout_id, {RolloutState.RUNNING}, RolloutState.PAUSED, f"paused by {by}")

    async def resume(self, rollout_id: str, *, by: str) -> ports.RolloutView:
        return self._steer(rollout_id, {RolloutState.PAUSED}, RolloutState.RUNNING, f"resumed by {by}")

    async def abort(self, rollout_id: str, *, by: str, force: bool = False) -> ports.RolloutView:
        how = " by force" if force else ""
        return self._steer(rollout_id, ACTIVE, RolloutState.ABORTED, f"aborted{how} by {by}")

    async def approve(self, rollout_id: str, *, by: str, wave: str | None = None) -> ports.RolloutView:
        waiting = {RolloutState.AWAITING_APPROVAL}
        return self._steer(rollout_id, waiting, RolloutState.RUNNING, f"wave {wave} approved by {by}")

    async def rollback(self, rollout_id: str, *, by: str) -> ports.RolloutView:
        return self._steer(rollout_id, ACTIVE, RolloutState.ROLLED_BACK, f"rolled back by {by}")

    async def skip(self, rollout_id: str, *, by: str, tenant: str, track: str | None, reason: str) -> ports.RolloutView:
        for migration in self.work.get(rollout_id, []):
            if migration.tenant == tenant and track in (None, migration.track):
                self.put(rollout_id, migration.position, state=MigrationState.SKIPPED)
        return self._steer(rollout_id, ACTIVE, RolloutState.RUNNING, f"{reason}, by {by}")

    async def limit(self, rollout_id: str, *, by: str, max_concurrent: int) -> ports.RolloutView:
        return self._steer(rollout_id, ACTIVE, RolloutState.RUNNING, f"{max_concurrent} at once, by {by}")

    async def override(self, rollout_id: str, *, by: str, reason: str) -> ports.RolloutView:
        view = self._steer(rollout_id, ACTIVE, RolloutState.RUNNING, f"overridden by {by}")
        it = self.held[rollout_id] = replace(view.rollout, override=Override(by, reason, START))
        return self.view(it)

    async def retry(self, rollout_id: str, *, by: str, signature: str | None = None) -> ports.RolloutView:
        for migration in self.work.get(rollout_id, []):
            if migration.state in FAILURES:
                self.put(rollout_id, migration.position, state=MigrationState.PENDING, failure=None)
        allowed = {RolloutState.PAUSED, RolloutState.FAILED}
        return self._steer(rollout_id, allowed, RolloutState.RUNNING, f"retried by {by}")

    async def events(self, rollout_id: str, *, after: int = 0) -> Sequence[StoredEvent]:
        self._fail()
        page = self.stored.get(rollout_id, [])[after : after + EVENTS_A_PAGE]
        await anyio.lowlevel.checkpoint()  # as with a real store, events come between the reading and the answer
        return page

    async def subscribe(self, rollout_id: str) -> AsyncIterator[Event]:
        async with self.bus.stream(lambda event: getattr(event, "rollout", None) == rollout_id) as stream:
            self.subscriptions += 1
            try:
                async for delivery in stream:
                    yield delivery.event
            finally:
                self.subscriptions -= 1

    async def reload(self) -> ports.Reloaded:
        self._fail()
        return ports.Reloaded(True, len(self.registry.targets))

    # --------------------------------------------------------------------------------------------------------------

    def _fail(self) -> None:
        if self.failing:
            raise self.failing

    def _held(self, rollout_id: str) -> Rollout:
        if rollout_id not in self.held:
            raise errors.NotFoundError(f"there is no rollout {rollout_id!r}", remedy="list them")
        return self.held[rollout_id]

    def _steer(
        self, rollout_id: str, allowed: set[RolloutState] | frozenset[RolloutState], to: RolloutState, reason: str
    ) -> ports.RolloutView:
        self._fail()
        it = self._held(rollout_id)
        if it.state not in allowed:
            raise errors.StateError(f"rollout {it.id} is {it.state}")
        return self.change(rollout_id, to, reason)


@dataclass
class FakeNotifications:
    """Deliveries of a list, oldest first."""

    kept: list[Kept] = field(default_factory=list)

    def add(self, state: State = "dead", channel: str = "ops") -> Kept:
        number = len(self.kept) + 1
        told = {"id": f"n{number}", "type": "rollout_paused", "text": "it has paused"}
        delivery = Delivery(f"n{number}", channel, "rollout_paused", told, attempts=8)
        made = Kept(number, delivery, state, START, None, START, "answered with status 500")
        self.kept.append(made)
        return made

    async def listed(
        self, *, states: Sequence[State] = (), channels: Sequence[str] = (), limit: int = 100, before: int | None = None
    ) -> Sequence[Kept]:
        newest = [it for it in reversed(self.kept) if before is None or it.number < before]
        return [
            it
            for it in newest
            if (not states or it.state in states) and (not channels or it.delivery.channel in channels)
        ][:limit]

    async def retry(self, delivery_id: str, now: datetime) -> Kept:
        for index, it in enumerate(self.kept):
            if it.delivery.id == delivery_id:
                self.kept[index] = replace(it, state="pending", next_at=now, finished_at=None)
                return self.kept[index]
        raise errors.NotFoundError(f"there is no notification {delivery_id!r}")


def example(migration: Migration) -> Failure:
    assert migration.failure is not None
    return migration.failure
