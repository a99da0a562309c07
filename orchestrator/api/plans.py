"""What a rollout would do, with the SQL."""

from __future__ import annotations

from fastapi import APIRouter

from orchestrator.api import schemas
from orchestrator.api.dependencies import Client, Service, changes_nothing
from orchestrator.rollout.state import Request

router = APIRouter(prefix="/api/v1/plans", tags=["rollouts"])


@router.post("")
async def make_plan(body: schemas.MakePlan, service: Service, client: Client) -> schemas.CompiledPlan:
    """Read the heads of the selected targets and compile what would run; changes nothing."""
    changes_nothing()
    asked = Request(body.track, body.to, body.select, direction=body.direction, created_by=client)
    return schemas.compiled_plan(asked, await service.plan(asked))
