"""Schedules: look, enable, disable, run now."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from orchestrator.api import schemas, time_schemas
from orchestrator.api.dependencies import Client, Service

router = APIRouter(prefix="/api/v1/schedules", tags=["schedules"])

Upcoming = Annotated[int, Query(ge=0, le=100, description="How many of the next runs to tell.")]


class RunsQuery(BaseModel):
    upcoming: int = Field(5, ge=0, le=100, description="How many of the next runs to tell.")
    runs: int = Field(20, ge=0, le=1000, description="How many of the latest runs to tell.")


@router.get("")
async def list_schedules(service: Service, upcoming: Upcoming = 3) -> schemas.Page[time_schemas.Schedule]:
    """By name, with the next runs and the latest one."""
    views = await service.schedules.listed(upcoming)
    return schemas.Page(items=[time_schemas.schedule(view) for view in views], next_cursor=None)


@router.get("/{name}")
async def show_schedule(name: str, query: Annotated[RunsQuery, Query()], service: Service) -> time_schemas.Schedule:
    return time_schemas.schedule(await service.schedules.show(name, upcoming=query.upcoming, runs=query.runs))


@router.post("/{name}/enable")
async def enable_schedule(name: str, service: Service, client: Client) -> time_schemas.Schedule:
    """Whatever the file says, until somebody disables it. What was due meanwhile is not made up for."""
    return time_schemas.schedule(await service.schedules.switch(name, enabled=True, by=client))


@router.post("/{name}/disable")
async def disable_schedule(name: str, service: Service, client: Client) -> time_schemas.Schedule:
    """It starts nothing until somebody enables it, also over restarts and changes of the file. Once this is answered,
    none of its runs is started any more."""
    return time_schemas.schedule(await service.schedules.switch(name, enabled=False, by=client))


@router.post("/{name}/run")
async def run_schedule(name: str, service: Service, client: Client) -> time_schemas.Run:
    """Start it now, also where it is disabled. Where there is nothing to do, nothing is started."""
    return time_schemas.run(await service.schedules.run(name, by=client))
