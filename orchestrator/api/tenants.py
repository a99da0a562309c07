"""Tenants, their targets, and what was last seen of them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from orchestrator.api import paging, schemas
from orchestrator.api.dependencies import Select, Service
from orchestrator.errors import NotFoundError
from orchestrator.rollout.state import FleetState

router = APIRouter(prefix="/api/v1/tenants", tags=["tenants"])


class TenantsQuery(paging.PageQuery):
    select: str = Field(
        "", max_length=10_000, description="Label selector, such as `tier=free,region in (eu,us)`; empty for all."
    )
    state: list[FleetState] = Field([], max_length=50, description="Fleet states; none for all.")


@router.get("")
async def list_tenants(
    query: Annotated[TenantsQuery, Query()], service: Service, select: Select
) -> schemas.Page[schemas.Tenant]:
    """By name, each with those of its targets that match."""
    after = paging.decode(query.cursor, "tenants", str) if query.cursor else ""
    matches = select(query.select)
    views = [
        view
        for view in service.targets()
        if view.target.tenant > after and (not query.state or view.state in query.state) and matches(view.target)
    ]
    names = sorted({view.target.tenant for view in views})[: query.limit + 1]
    page, next_cursor = paging.cut(names, query.limit, "tenants", str)
    shown = frozenset(page)
    return schemas.Page(
        items=schemas.tenants(view for view in views if view.target.tenant in shown), next_cursor=next_cursor
    )


@router.get("/{tenant:path}")
async def show_tenant(tenant: str, service: Service) -> schemas.Tenant:
    found = schemas.tenants(view for view in service.targets() if view.target.tenant == tenant)
    if not found:
        raise NotFoundError(f"there is no tenant {tenant!r}", remedy="GET /api/v1/tenants lists them")
    return found[0]
