"""A freeze of the fleet: one call stops every start."""

from __future__ import annotations

from fastapi import APIRouter

from orchestrator.api import time_schemas
from orchestrator.api.dependencies import Client, Service

router = APIRouter(prefix="/api/v1/freeze", tags=["freeze"])


@router.get("")
async def show_freeze(service: Service) -> time_schemas.Freeze:
    return time_schemas.freeze(await service.freezing.current())


@router.post("")
async def freeze_fleet(body: time_schemas.SetFreeze, service: Service, client: Client) -> time_schemas.Freeze:
    """Start nothing any more, on no shard and by no daemon, until it is lifted; what runs is finished. Rollouts may be
    made, and wait. A fleet that is frozen stays so as it was."""
    return time_schemas.freeze(await service.freezing.set(by=client, reason=body.reason))


@router.delete("")
async def lift_freeze(service: Service, client: Client) -> time_schemas.Freeze:
    """Let rollouts go on. Answers the same when nothing was frozen."""
    await service.freezing.lift(by=client)
    return time_schemas.freeze(await service.freezing.current())
