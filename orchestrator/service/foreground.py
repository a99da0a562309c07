"""The daemon's engine without the daemon: one rollout in the foreground, and looking without changing."""

from __future__ import annotations

import getpass
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import anyio
from pydantic import SecretStr

from orchestrator import events
from orchestrator.api.ports import CompiledPlan, PlanGroup, RolloutView, TargetView
from orchestrator.errors import StateError
from orchestrator.rollout.state import Request, RolloutState
from orchestrator.service.daemon import driving, opened, working
from orchestrator.service.orchestrator import Orchestrator
from orchestrator.service.wiring import Parts, assembled
from orchestrator.settings import Settings


async def migrate(
    settings: Settings,
    request: Request,
    *,
    started: Callable[[RolloutView], None],
    listen: Callable[[events.Event], object],
    interrupted: anyio.Event,
) -> RolloutView:
    """Carry out one rollout and return it as it ended.

    `listen` gets every event. When `interrupted` is set, and when the failure budget pauses the rollout (nobody could
    resume it), it is aborted: what runs has its time to end, the rest is cancelled. Raises what
    `Orchestrator.start_rollout` raises, RegistryError and StoreError.
    """
    request = replace(request, foreground=True, created_by=f"terminal:{_user()}")
    source = await opened(settings)
    async with assembled(settings, source) as parts, driving(parts), working(parts, settings) as service:
        parts.bus.subscribe(listen)
        await service.close_abandoned()
        view, _ = await service.start_rollout(request)
        started(view)
        await _until_ended(service, parts, view.rollout.id, interrupted)
        return await service.rollout(view.rollout.id)


async def preview(settings: Settings, request: Request) -> Sequence[PlanGroup]:
    """What `migrate` would do; writes nothing, to no database and not to the store."""
    async with _looking(settings) as service:
        return await service.preview(request)


async def plan(settings: Settings, request: Request) -> CompiledPlan:
    """What `migrate` would do, with the SQL; writes nothing, as `preview`."""
    async with _looking(settings) as service:
        return await service.plan(request)


async def tenants(settings: Settings) -> Sequence[TargetView]:
    """All targets, with their heads read now."""
    async with _looking(settings) as service:
        await service.survey.once()
        return service.targets()


@asynccontextmanager
async def _looking(settings: Settings) -> AsyncIterator[Orchestrator]:
    """A service with an empty store in memory: it can look at everything, and leaves nothing behind."""
    source = await opened(settings)
    settings = settings.model_copy(update={"store_url": SecretStr("sqlite://")})
    async with assembled(settings, source) as parts, working(parts, settings) as service:
        yield service


async def _until_ended(service: Orchestrator, parts: Parts, rollout_id: str, interrupted: anyio.Event) -> None:
    async with parts.bus.stream(_is_pause) as pauses, anyio.create_task_group() as tasks:

        async def stop_when_interrupted() -> None:
            await interrupted.wait()
            with suppress(StateError):  # it ended by itself at the same moment
                await service.stop(rollout_id, "interrupted from the terminal")

        async def stop_when_paused() -> None:
            async for delivery in pauses:
                assert isinstance(delivery.event, events.RolloutStateChanged)
                with suppress(StateError):
                    await service.stop(rollout_id, delivery.event.reason or "paused")

        tasks.start_soon(stop_when_interrupted)
        tasks.start_soon(stop_when_paused)
        await service.finished(rollout_id)
        tasks.cancel_scope.cancel()


def _is_pause(event: events.Event) -> bool:
    return isinstance(event, events.RolloutStateChanged) and event.state == RolloutState.PAUSED


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
