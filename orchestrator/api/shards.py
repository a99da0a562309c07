"""The servers that host tenants, and how many migrations they bear at the moment."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import Field

from orchestrator.api import schemas
from orchestrator.api.dependencies import Service

router = APIRouter(prefix="/api/v1/shards", tags=["tenants"])


class ShardState(schemas.Body):
    name: str
    dialect: str
    max_concurrent: int = Field(description="How many migrations may run at once, as the registry says.")
    limit: int = Field(description="How many may run at once now; fewer while the server has no room for more.")
    running: int = Field(description="How many run now.")
    throttled: str | None = Field(description="Why `limit` is less than `max_concurrent`; null when it is not.")


@router.get("")
async def list_shards(service: Service) -> schemas.Page[ShardState]:
    """In the order of the registry. As the process that answers sees them: a standby does not know of throttling."""
    return schemas.Page(
        items=[
            ShardState(
                name=it.name,
                dialect=it.dialect,
                max_concurrent=it.max_concurrent,
                limit=it.limit,
                running=it.running,
                throttled=schemas.masked(it.throttled),
            )
            for it in service.shards()
        ],
        next_cursor=None,
    )
