"""The service itself: what the HTTP surface, the terminal and the daemon ask of it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import anyio
import anyio.abc
import structlog

from orchestrator.access import acts
from orchestrator.api.ports import (
    CompiledPlan,
    Leadership,
    Notifications,
    PlanGroup,
    Reloaded,
    RolloutView,
    ShardView,
    TargetView,
)
from orchestrator.errors import OrchestratorError, PlanChangedError, RegistryError, StateError, UnavailableError
from orchestrator.events import Event, RegistryReloaded, RolloutEvent, now
from orchestrator.plan.bound import Planned
from orchestrator.registry.discovery import Source
from orchestrator.registry.model import FILE, Registry, Target, TargetKey, Track
from orchestrator.registry.source import ReloadResult
from orchestrator.rollout import decide, progress, tell
from orchestrator.rollout.controller import Controller
from orchestrator.rollout.ports import MigrationField, RolloutField, StoredEvent
from orchestrator.rollout.state import (
    ACTIVE,
    EVERY,
    Aim,
    FleetState,
    Migration,
    MigrationState,
    Request,
    Rollout,
    RolloutState,
    summed,
)
from orchestrator.service import (
    abandoned,
    appearing,
    binding,
    examining,
    looking,
    plans,
    predicting,
    recalling,
    reopening,
    requests,
)
from orchestrator.service.backfilling import Backfilling
from orchestrator.service.drifting import Drifting
from orchestrator.service.freezing import Freezing
from orchestrator.service.plans import Made
from orchestrator.service.steering import Steering, by_leader
from orchestrator.service.survey import FleetSurvey
from orchestrator.service.timetable import Timetable
from orchestrator.service.wiring import Parts

log = structlog.get_logger(__name__)

# How often a standby has its clients' event streams read the store.
FOLLOW_SECONDS = 1.0


class Orchestrator:
    """Implements `api.ports.Orchestrator`. Rollouts run in `tasks`, whose owner waits for them."""

    def __init__(self, parts: Parts, tasks: anyio.abc.TaskGroup) -> None:
        self._parts, self._tasks = parts, tasks
        self._ledger = parts.store.ledger
        self._controllers: dict[str, Controller] = {}
        self._ends: dict[str, anyio.Event] = {}
        self._draining = False
        self._launched = 0
        parts.throttle.on_deadline(self._held_too_long)
        self._taking_up = anyio.Lock()
        self.steering = Steering(parts.store)
        self.survey = FleetSurvey(parts)
        self.freezing = Freezing(parts)
        self.backfills = Backfilling(parts, self.steering)
        self.schedules = Timetable(parts, self)
        self.drifting = Drifting(parts, self.steering)
        self._follow_registry()

    @property
    def registry(self) -> Registry:
        return self._parts.source.current

    @property
    def active(self) -> Mapping[str, Controller]:
        return self._controllers

    def leadership(self) -> Leadership | None:
        return self.steering.leadership()

    def readiness(self) -> Mapping[str, str]:
        return {"shutdown": "the daemon is shutting down"} if self._draining else {}

    # Rollouts

    async def start_rollout(self, request: Request) -> tuple[RolloutView, bool]:
        self._refuse_draining()
        if (earlier := await self._requested(request)) is not None:  # whatever has become of the registry since
            return await self.rollout(earlier.id), False
        if request.plan_digest is not None:
            return await self._start_bound(request)
        registry = self.registry
        tracks = requests.find_tracks(registry, request.track)
        requests.check_whole(registry, tracks, self.sources())
        targets = requests.select(registry, request.track, request.select)
        concerned = {target.track for target in targets}
        if requests.find_strategy(registry, request.strategy).new_tenants == "append":
            concerned = {track.name for track in tracks}  # a track may have its first target while it runs
        histories = {
            one.name: await self._parts.histories.current(registry, one) for one in tracks if one.name in concerned
        }
        aims = {name: requests.aim(request, history) for name, history in histories.items()}
        lasting = partial(plans.lasting, self._parts.fleet, request.direction.planned, histories, aims)
        return await self._start(request, registry, targets, aims, None, lasting)

    async def _start_bound(self, request: Request) -> tuple[RolloutView, bool]:
        """Start what the plan says, if that is still what would be done."""
        registry = self.registry
        try:
            made = await self._as_planned(request, registry)
        except PlanChangedError:
            if (earlier := await self._requested(request)) is not None:  # the same request, a moment before
                return await self.rollout(earlier.id), False
            raise
        targets = [one for one in registry.targets if one.key in made.manifest.places]
        lasting = partial(plans.lasting_as_planned, made.plan, request.direction.planned)
        return await self._start(request, registry, targets, made.aims, binding.planned(made.manifest), lasting)

    async def _requested(self, request: Request) -> Rollout | None:
        key = request.idempotency_key
        return None if key is None else await self._ledger.requested(key)

    async def _start(
        self,
        request: Request,
        registry: Registry,
        targets: Sequence[Target],
        aims: Mapping[str, Aim],
        planned: Mapping[TargetKey, Planned] | None,
        lasting: Callable[[Sequence[Target]], Mapping[str, str]],
    ) -> tuple[RolloutView, bool]:
        if request.to in ("", EVERY):
            request = replace(request, to=EVERY if request.track == EVERY else registry.tracks[request.track].goal)
        rollout, migrations = requests.freeze(
            request,
            registry,
            targets,
            aims,
            now=now(),
            entropy=os.urandom(2),
            planned=planned,
            lasting=lasting,
        )
        with anyio.CancelScope(shield=True):  # a caller that hangs up must not leave a rollout that nobody carries out
            stored = await self._ledger.create(rollout, migrations, tell.created(rollout, migrations))
            if stored.id == rollout.id and (asked := tell.requested(rollout)) is not None:
                self._parts.bus.publish(asked)
            if stored.id == rollout.id and self.steering.leads:  # or who leads takes it up
                self._launch(stored)
        if stored.id != rollout.id:
            return await self.rollout(stored.id), False
        return await self._begun(stored.id), True

    async def preview(self, request: Request) -> Sequence[PlanGroup]:
        registry = self.registry
        requests.find_strategy(registry, request.strategy)
        if request.plan_digest is not None:
            return plans.groups((await self._as_planned(request, registry)).plan)
        groups: list[PlanGroup] = []
        for track, targets in self._by_track(request, registry):
            goal, direction = requests.goal_of(request, track), request.direction.planned
            groups += await self.survey.preview(registry, track, targets, goal, direction)
        return groups

    async def plan(self, request: Request) -> CompiledPlan:
        registry = self.registry
        made = await self._made(request, registry)
        await self._parts.store.plans.keep(made.plan.digest, made.manifest, now())
        return await examining.examined(made, registry, self._parts)

    async def _as_planned(self, request: Request, registry: Registry) -> Made:
        """The plan as it is now, if it is the one that the request is bound to. Raises PlanChangedError."""
        digest = binding.readable(request.plan_digest)
        requests.find_strategy(registry, request.strategy)
        made = await self._made(request, registry)
        await binding.check(self._parts.store.plans, digest, made)
        return made

    async def _made(self, request: Request, registry: Registry) -> Made:
        return plans.joined(
            [
                await plans.made(
                    self._parts,
                    self.survey,
                    registry,
                    track,
                    targets,
                    requests.goal_of(request, track),
                    request.direction.planned,
                )
                for track, targets in self._by_track(request, registry)
            ]
        )

    def _by_track(self, request: Request, registry: Registry) -> Sequence[tuple[Track, Sequence[Target]]]:
        tracks = requests.find_tracks(registry, request.track)
        requests.check_whole(registry, tracks, self.sources())
        targets = requests.select(registry, request.track, request.select)
        parts = [(track, [target for target in targets if target.track == track.name]) for track in tracks]
        return [(track, members) for track, members in parts if members]

    async def rollouts(
        self,
        *,
        states: Sequence[RolloutState] = (),
        only: Mapping[RolloutField, str] | None = None,
        limit: int = 100,
        before: str | None = None,
    ) -> Sequence[RolloutView]:
        found = await self._ledger.rollouts(states=states, only=only, limit=limit, before=before)
        return [await self._view(rollout) for rollout in found]

    async def rollout(self, rollout_id: str) -> RolloutView:
        view = await self._begun(rollout_id)
        return replace(view, backfills=await self.backfills.sums({"rollout": rollout_id}))

    async def _begun(self, rollout_id: str) -> RolloutView:
        """Without backfills: it has none yet, and whoever has started it waits for the answer."""
        view = await self._view(await self._ledger.rollout(rollout_id))
        executions = await self._ledger.executions(rollout_id)
        return replace(view, failures=await self._ledger.failures(rollout_id), executions=executions)

    async def migrations(
        self,
        rollout_id: str,
        *,
        states: Sequence[MigrationState] = (),
        only: Mapping[MigrationField, str] | None = None,
        limit: int = 100,
        after: int = -1,
    ) -> Sequence[Migration]:
        await self._ledger.rollout(rollout_id)
        return await self._ledger.migrations(rollout_id, states=states, only=only, limit=limit, after=after)

    @by_leader
    async def pause(self, rollout_id: str, *, by: str) -> RolloutView:
        return await self._command(rollout_id, "pause", lambda one: one.pause(f"paused by {by}", by=by))

    @by_leader
    async def resume(self, rollout_id: str, *, by: str) -> RolloutView:
        return await self._command(rollout_id, "resume", lambda one: one.resume(f"resumed by {by}"))

    @by_leader
    async def abort(self, rollout_id: str, *, by: str, force: bool = False) -> RolloutView:
        return await self.stop(rollout_id, f"aborted by {by}{', by force' if force else ''}", force=force)

    async def stop(self, rollout_id: str, reason: str, *, force: bool = False) -> RolloutView:
        """As `abort`, with a reason of one's own."""

        async def aborted(one: Controller) -> None:
            if force and one.rollout.aborting and (act := acts.pending()) is not None:
                await self._parts.store.audit.note(act)  # it cancels what runs, and changes nothing in the store itself
            await one.abort(reason, force=force)

        return await self._command(rollout_id, "abort", aborted)

    @by_leader
    async def approve(self, rollout_id: str, *, by: str, wave: str | None = None) -> RolloutView:
        return await self._command(rollout_id, "approve", lambda one: one.approve(by, wave))

    @by_leader
    async def skip(self, rollout_id: str, *, by: str, tenant: str, track: str | None, reason: str) -> RolloutView:
        told = f"{reason} (skipped by {by})"
        return await self._command(rollout_id, "skip", lambda one: one.skip(tenant, track, told))

    @by_leader
    async def limit(self, rollout_id: str, *, by: str, max_concurrent: int) -> RolloutView:
        log.info("limit_changed", rollout=rollout_id, max_concurrent=max_concurrent, by=by)
        return await self._command(rollout_id, "limit", lambda one: one.limit(max_concurrent))

    @by_leader
    async def override(self, rollout_id: str, *, by: str, reason: str) -> RolloutView:
        return await self._command(rollout_id, "override", lambda one: one.override(by, reason))

    async def order_backfills(self, rollout_id: str, *, by: str, order: Mapping[str, Any]) -> None:
        """What a standby has been ordered, of one rollout or of several."""
        await self.backfills.carry_out(by, order)

    async def look_for_drift(self, rollout_id: str, *, by: str, tracks: Sequence[str]) -> None:
        """What a standby has been asked for; of no rollout."""
        self.drifting.want(tracks)

    @by_leader
    async def retry(self, rollout_id: str, *, by: str, signature: str | None = None) -> RolloutView:
        rollout, reason = await self._ledger.rollout(rollout_id), f"retried by {by}"
        decide.check_command(rollout, "retry")
        if rollout.state.finished:
            await self._reopened(rollout_id, lambda it, found: reopening.retried(it, found, reason, signature))
        else:
            await (await self._driven(rollout)).retry(reason, signature)
        return await self.rollout(rollout_id)

    @by_leader
    async def rollback(self, rollout_id: str, *, by: str) -> RolloutView:
        rollout, reason = await self._ledger.rollout(rollout_id), f"rolled back by {by}"
        decide.check_command(rollout, "rollback")
        if not rollout.state.finished:
            await (await self._driven(rollout)).rollback(reason)
            return await self.rollout(rollout_id)
        expedition = await self._parts.dispatcher.prepare(decide.back(rollout))
        await self._reopened(rollout_id, lambda it, found: reopening.turned(it, found, reason, expedition))
        return await self.rollout(rollout_id)

    async def _reopened(self, rollout_id: str, reopen: reopening.Reopen) -> None:
        """Make a finished rollout active again with what is to be done of it, if anything is."""
        self._refuse_draining()
        await self.finished(rollout_id)  # its end is written, but its controller may still be leaving
        rollout = await self._ledger.rollout(rollout_id)
        migrations = await self._ledger.migrations(rollout_id)
        opened, again = reopen(rollout, migrations)
        if not again:
            return
        counts = reopening.counted(migrations, again).by_wave()
        with anyio.CancelScope(shield=True):
            try:
                await self._ledger.reopen(opened, again, [tell.state_changed(opened, counts)])
            except StateError:
                return  # somebody else has reopened it at the same moment
            self._launch(opened)

    def _refuse_draining(self) -> None:
        if self._draining:
            raise UnavailableError("the daemon is shutting down", remedy="ask again when it has started anew")

    async def _command(
        self, rollout_id: str, name: decide.Command, command: Callable[[Controller], Awaitable[object]]
    ) -> RolloutView:
        rollout = await self._ledger.rollout(rollout_id)
        decide.check_command(rollout, name)
        await command(await self._driven(rollout))
        return await self.rollout(rollout_id)

    async def _driven(self, rollout: Rollout) -> Controller:
        made_elsewhere = rollout.state in ACTIVE and not rollout.request.foreground
        if rollout.id not in self._controllers and made_elsewhere and self.steering.leads:
            with acts.apart():
                await self.take_up()  # a standby has made it just now
        if rollout.id not in self._controllers:
            raise StateError(
                f"rollout {rollout.id} is not carried out by this process at the moment",
                remedy="ask again when the daemon has started, or look whether the rollout has just ended",
            )
        return self._controllers[rollout.id]

    async def _view(self, rollout: Rollout) -> RolloutView:
        by_wave = await self._ledger.by_wave(rollout.id)
        counts, eta = summed(by_wave), None
        if rollout.state is RolloutState.RUNNING and rollout.started_at is not None:
            elapsed = (now() - rollout.started_at).total_seconds()
            eta = progress.eta_seconds(rollout.total, counts, elapsed)
        tracing = self._parts.tracing
        trace_id = tracing.trace_of(rollout.id) if tracing is not None else None
        return RolloutView(rollout, counts, eta, by_wave=by_wave, trace_id=trace_id)

    # Events

    async def events(self, rollout_id: str, *, after: int = 0) -> Sequence[StoredEvent]:
        return await self._ledger.events(rollout_id, after=after)

    async def subscribe(self, rollout_id: str) -> AsyncIterator[Event]:
        """The rollout's events as they happen, from now on; on a standby, a bare event at intervals."""
        async with self._parts.bus.stream(lambda event: _is_of(event, rollout_id)) as stream:
            while True:
                if not self.steering.leads:
                    # They happen in another process: this one can only say that it is time to look.
                    await anyio.sleep(FOLLOW_SECONDS)
                    yield Event()
                else:
                    yield (await anext(stream)).event

    # Life

    async def close_abandoned(self) -> None:
        """End the rollouts of terminals whose process is gone: whoever holds the store's lock is the only one alive."""
        for rollout in await self._active():
            if rollout.request.foreground:
                await self._close(rollout)

    async def resume_active(self) -> None:
        """Go on with the rollouts that an earlier daemon left."""
        await self.close_abandoned()
        await self.backfills.lead()
        for rollout in await self._active():
            self._launch(rollout)

    async def take_up(self) -> None:
        """Carry out the active rollouts that other processes have made since."""
        async with self._taking_up:
            launched, driven = self._launched, set(self._controllers)
            active = await self._active()
            if launched != self._launched or self._draining:
                return  # one that was launched while we read may have ended since
            for rollout in active:
                if not rollout.request.foreground and rollout.id not in driven:
                    await self._catch_up(rollout)
                    self._launch(rollout)

    async def _catch_up(self, rollout: Rollout) -> None:
        """Read the registry again where whoever made the rollout knows targets that we do not."""
        if appearing.is_unknown(self.registry, await self._ledger.migrations(rollout.id)):
            try:
                self.registry_read(await self._parts.source.reload(trusting=False))
            except RegistryError as exc:
                self.registry_read(exc)

    async def finished(self, rollout_id: str) -> None:
        """Wait until this process works no longer on the rollout."""
        if rollout_id in self._ends:
            await self._ends[rollout_id].wait()

    async def _active(self) -> Sequence[Rollout]:
        return await self._ledger.rollouts(states=sorted(ACTIVE), limit=10_000)

    async def _close(self, rollout: Rollout) -> None:
        """End a rollout whose process is gone; its targets' version tables tell how far they came."""
        rest = await self._ledger.migrations(rollout.id, states=[MigrationState.PENDING, MigrationState.RUNNING])
        gone = await abandoned.ended(self._parts, rollout, rest)
        await self._ledger.save_migrations([migration for migration, _ in gone], [event for _, event in gone])
        moment, reason = now(), "the terminal that ran it ended"
        counts = await self._ledger.by_wave(rollout.id)
        ended = replace(rollout, state=RolloutState.ABORTED, reason=reason, aborting=True, finished_at=moment)
        failures = await self._ledger.failures(rollout.id, tenants=1)
        await self._ledger.save_rollout(ended, tell.state_changed(ended, counts, failures=failures))

    def drain(self) -> None:
        """Start nothing more; what runs may end. The owner of `tasks` decides how long that may take."""
        self._draining = True
        for controller in self._controllers.values():
            controller.drain()

    def _held_too_long(self, rollout_id: str, reason: str) -> None:
        """A backfill of the rollout waits for longer than it may: a person should see why."""
        if (controller := self._controllers.get(rollout_id)) is not None:
            self._tasks.start_soon(controller.pause_for, reason)

    def _launch(self, rollout: Rollout) -> None:
        """Carry out a rollout, unless this process is at it already."""
        if rollout.id in self._controllers:
            return

        async def on_loaded() -> None:  # what has appeared since it was made
            await appearing.welcome(controller, self.registry)

        controller = Controller(rollout, self._ledger, self._parts.dispatcher, self._parts.checks, on_loaded)
        self._controllers[rollout.id], self._ends[rollout.id] = controller, anyio.Event()
        self._launched += 1
        if self._draining:
            controller.drain()
        self._tasks.start_soon(self._carry_out, controller)

    async def _carry_out(self, controller: Controller) -> None:
        rollout = controller.rollout
        try:
            await recalling.recall(self._parts, rollout)
            await predicting.prime(self._parts, self.registry, rollout.aims)
            await controller.run()
        except OrchestratorError as exc:
            log.error("rollout_stopped", rollout=rollout.id, message=exc.message, remedy=exc.remedy)
            raise
        finally:
            del self._controllers[rollout.id]
            self._ends.pop(rollout.id).set()
            for track in rollout.aims:
                if all(track not in other.rollout.aims for other in self._controllers.values()):
                    self._parts.workers.retire(track)

    # Registry and fleet

    def targets(self) -> Sequence[TargetView]:
        targets = sorted(self.registry.targets, key=lambda target: target.key)
        return [self._target_view(target) for target in targets]

    def _target_view(self, target: Target) -> TargetView:
        seen = self._parts.fleet.target(target.tenant, target.track)
        if seen is None:
            return TargetView(target, FleetState.UNKNOWN, (), None)
        return TargetView(target, FleetState(seen.state), seen.heads, seen.read_at, seen.message)

    def shards(self) -> Sequence[ShardView]:
        return looking.shards(self.registry, self._parts.fleet)

    @property
    def notifications(self) -> Notifications:
        return self._parts.store.outbox

    def sources(self) -> Sequence[Source]:
        return self._parts.source.sources

    async def reload(self) -> Reloaded:
        try:
            result = await self._parts.source.reload()
        except RegistryError as exc:
            self.registry_read(exc)
            raise
        self.registry_read(result, asked=True)
        stale = tuple(source.name for source in self.sources() if source.stale_since is not None)
        return Reloaded(result.changed, len(self.registry.targets), result.appeared, result.vanished, stale)

    async def discover(self) -> None:
        """Ask all sources of the registry; those that fail are told of."""
        self.registry_read(await self._parts.source.discover())

    def registry_read(
        self, result: ReloadResult | RegistryError, *, asked: bool = False, only_new: bool = False
    ) -> None:
        """Tell of a reading of the registry, and follow it when it changed; one that changed nothing is told of when
        somebody `asked` for it. With `only_new`, nothing can be new but targets that came or went."""
        publish = self._parts.bus.publish
        if isinstance(result, RegistryError):
            publish(RegistryReloaded(result="failed", targets=len(self.registry.targets), message=result.message))
            return
        if result.changed:
            self._follow_registry(read=result.read)
            self.survey.wake(only_new=only_new)
            for controller in list(self._controllers.values()):
                self._tasks.start_soon(appearing.welcome, controller, self.registry)
        else:
            self._describe_sources(read=result.read)
        for event in result.events:
            publish(event)
        if result.changed or asked:
            told = "changed" if result.changed else "unchanged"
            publish(RegistryReloaded(result=told, targets=len(self.registry.targets)))

    def _follow_registry(self, *, read: bool = True) -> None:
        self._parts.fleet.set_targets(self.registry.targets)
        self._describe_sources(read=read)

    def _describe_sources(self, *, read: bool) -> None:
        limits = {name: shard.max_concurrent for name, shard in self.registry.shards.items()}
        sources = self.sources()
        targets = {source.name: source.targets for source in sources}
        named = len(self.registry.targets) - sum(targets.values())
        tracks = self.registry.tracks
        waves = [wave for strategy in self.registry.strategies.values() for wave in strategy.waves]
        self._parts.metrics.describe_registry(
            limits=limits,
            targets={FILE: named, **targets},
            tracks=[*tracks, EVERY] if len(tracks) > 1 else [*tracks],
            replayed=[name for name, track in tracks.items() if track.execution != "online"],
            schedules=self.registry.schedules,
            backups=any(wave.backup is not None for wave in waves),
            read=read,
        )
        self._parts.metrics.describe_sources(
            stale={source.name: source.stale_since is not None for source in sources},
            refreshed={source.name: source.refreshed_at for source in sources if source.refreshed_at is not None},
            ignored={source.name: len(source.ignored) for source in sources},
        )


def _is_of(event: Event, rollout_id: str) -> bool:
    return isinstance(event, RolloutEvent) and event.rollout == rollout_id
