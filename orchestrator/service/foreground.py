"""The daemon's engine without the daemon: one rollout in the foreground, and looking without changing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, NamedTuple

import anyio
import structlog
from pydantic import SecretStr

from orchestrator import events
from orchestrator.access import acts
from orchestrator.access.acts import Act
from orchestrator.api.ports import CompiledPlan, PlanGroup, RolloutView, TargetView
from orchestrator.errors import StateError
from orchestrator.observe import redact
from orchestrator.observe.bus import Stream
from orchestrator.registry.discovery import Source
from orchestrator.registry.source import RegistrySource
from orchestrator.rollout.state import Request, RolloutState
from orchestrator.service.daemon import opened, working
from orchestrator.service.drifting import Compared, Question
from orchestrator.service.leading import driving
from orchestrator.service.orchestrator import Orchestrator
from orchestrator.service.records import terminal
from orchestrator.service.wiring import assembled
from orchestrator.settings import Settings

log = structlog.get_logger(__name__)


class Look(NamedTuple):
    """All targets, and the sources of the registry that name some of them."""

    targets: Sequence[TargetView]
    sources: Sequence[Source]


async def migrate(
    settings: Settings,
    request: Request,
    *,
    started: Callable[[RolloutView], None],
    listen: Callable[[events.Event], object],
    interrupted: anyio.Event,
    approve: bool = False,
) -> RolloutView:
    """Carry out one rollout and return it as it ended.

    `listen` gets every event. When `interrupted` is set, and when the rollout pauses (nobody could resume it) or waits
    for an approval (unless `approve` gives each), it is aborted: what runs may end, the rest is not begun.

    Raises what `Orchestrator.start_rollout` raises, RegistryError, StoreError, and DiscoveryError when a source does
    not tell its tenants: they would be left out.
    """
    request = replace(request, foreground=True, created_by=terminal())
    source = await _whole(settings)
    async with assembled(settings, source) as parts, driving(parts), working(parts, settings) as service:
        parts.bus.subscribe(listen)
        await service.close_abandoned()
        await service.backfills.lead()
        approver = request.created_by if approve else None
        async with parts.bus.stream(_is_stop) as stops:  # from before it begins, so that none is missed
            with acts.acting(Act("migrate", request.created_by, details=_details(request))):
                view, _ = await service.start_rollout(request)
            started(view)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(source.refresh, service.registry_read)  # tenants may appear meanwhile
                tasks.start_soon(_mind, service, view.rollout.id, stops, approver)
                tasks.start_soon(_stop_when, interrupted, service, view.rollout.id)
                await service.finished(view.rollout.id)
                tasks.cancel_scope.cancel()
        await parts.keeper.flush()  # backfills are shown as they ended
        return await service.rollout(view.rollout.id)


async def preview(settings: Settings, request: Request) -> Sequence[PlanGroup]:
    """What `migrate` would do; writes nothing, to no database and not to the store."""
    async with _looking(settings, await _whole(settings)) as service:
        return await service.preview(request)


async def plan(settings: Settings, request: Request) -> CompiledPlan:
    """What `migrate` would do, with the SQL; writes nothing, as `preview`."""
    async with _looking(settings, await _whole(settings)) as service:
        return await service.plan(request)


async def tenants(settings: Settings) -> Look:
    """All targets, with their heads read now. Sources that do not tell theirs are stale."""
    source = await opened(settings)
    await source.discover()
    async with _looking(settings, source) as service:
        await service.survey.once()
        return Look(service.targets(), service.sources())


async def drift(settings: Settings, question: Question) -> Compared:
    """Targets' schemas as they are now, compared with each other. Raises RegistryError, ConfigurationError, and
    DiscoveryError when a source does not tell its tenants."""
    async with _looking(settings, await _whole(settings)) as service:
        return await service.drifting.compare(question)


async def _whole(settings: Settings) -> RegistrySource:
    """The registry with the tenants of its sources, as far as they tell them. Raises RegistryError."""
    source = await opened(settings)
    await source.discover()
    for one in source.sources:
        if one.ignored:
            log.warning("tenants_ignored", source=one.name, count=len(one.ignored), examples=one.ignored[:3])
    return source


@asynccontextmanager
async def _looking(settings: Settings, source: RegistrySource) -> AsyncIterator[Orchestrator]:
    """A service with an empty store in memory: it can look at everything, and leaves nothing behind."""
    settings = settings.model_copy(update={"store_url": SecretStr("sqlite://")})
    async with assembled(settings, source) as parts, working(parts, settings) as service:
        yield service


async def _stop_when(interrupted: anyio.Event, service: Orchestrator, rollout_id: str) -> None:
    await interrupted.wait()
    with suppress(StateError):  # it ended by itself at the same moment
        await _stop(service, rollout_id, "interrupted from the terminal")


async def _stop(service: Orchestrator, rollout_id: str, reason: str) -> None:
    """Raises StateError when it has ended."""
    with acts.acting(Act("abort_rollout", terminal(), rollout=rollout_id, details={"reason": reason})):
        await service.stop(rollout_id, reason)


def _details(request: Request) -> Mapping[str, Any]:
    """What was asked for, as the audit has it of a request over HTTP."""
    asked = {
        "track": request.track,
        "to": request.to,
        "select": request.select,
        "strategy": request.strategy,
        "direction": str(request.direction),
        "max_concurrent": request.max_concurrent,
        "plan_digest": request.plan_digest,
    }
    shown = redact.value({name: value for name, value in asked.items() if value not in (None, "")})
    return shown if isinstance(shown, dict) else {}


async def _mind(service: Orchestrator, rollout_id: str, stops: Stream, approver: str | None) -> None:
    """Approve what waits for it, or end a rollout that goes on only when somebody says so."""
    async for delivery in stops:
        told = delivery.event
        assert isinstance(told, events.RolloutStateChanged)
        with suppress(StateError):
            if told.rollout != rollout_id:
                continue
            if told.state == RolloutState.PAUSED:
                await _stop(service, rollout_id, told.reason or "paused")
            elif approver is None:
                why = "a terminal cannot wait for an approval (--yes gives it, a daemon waits for it)"
                await _stop(service, rollout_id, f"{told.waiting}: {why}")
            else:
                await _approve(service, rollout_id, approver)


async def _approve(service: Orchestrator, rollout_id: str, by: str) -> None:
    try:
        with acts.acting(Act("approve_rollout", by, rollout=rollout_id)):
            await service.approve(rollout_id, by=by)
    except StateError as exc:
        if (await service.rollout(rollout_id)).rollout.state is RolloutState.AWAITING_APPROVAL:
            await _stop(service, rollout_id, exc.message)


def _is_stop(event: events.Event) -> bool:
    """Whether the rollout goes on only when somebody says so."""
    stopped = (RolloutState.PAUSED, RolloutState.AWAITING_APPROVAL)
    return isinstance(event, events.RolloutStateChanged) and event.state in stopped
