"""What keeps the daemon running: health, metrics, the registry's reload."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field

from orchestrator.api import problems, schemas
from orchestrator.api.dependencies import Service, Stopping

router = APIRouter(tags=["operations"])


class Health(schemas.Body):
    status: Literal["ok", "ready"]
    role: Literal["leader", "standby"] | None = None
    leader: str | None = Field(
        default=None, description="Who drives the rollouts of the store, where it is another process."
    )


@router.get("/healthz", response_model_exclude_none=True)
async def show_health() -> Health:
    """The process answers; nothing else is looked at."""
    return Health(status="ok")


@router.get("/readyz", response_model_exclude_none=True)
async def show_readiness(service: Service, stopping: Stopping) -> Health:
    """Whether the daemon can take work; 503 names what is missing. A standby can: what it is asked, the leader does."""
    reasons = dict(service.readiness())
    if stopping.is_set():
        reasons["daemon"] = "is stopping"
    if reasons:
        detail = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise problems.Refused(problems.problem(problems.NOT_READY, detail, reasons=reasons))
    standing = service.leadership()
    if standing is None:
        return Health(status="ready")
    if standing.leads:
        return Health(status="ready", role="leader")
    return Health(status="ready", role="standby", leader=standing.leader)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def show_metrics(request: Request) -> Response:
    """Prometheus' text format, or OpenMetrics, with exemplars, for who accepts it."""
    content, content_type = request.app.state.metrics(request.headers.get("accept", ""))
    return Response(content, headers={"Content-Type": content_type, "Vary": "Accept"})


@router.post("/api/v1/registry/reload")
async def reload_registry(service: Service) -> schemas.Reloaded:
    """Read the registry file again, and ask its sources. With mistakes in the file, the running registry stays and the
    answer lists them; a source that fails keeps its last good answer."""
    reloaded = await service.reload()
    return schemas.Reloaded(
        changed=reloaded.changed,
        targets=reloaded.targets,
        appeared=reloaded.appeared,
        vanished=reloaded.vanished,
        stale=list(reloaded.stale),
    )


@router.get("/api/v1/registry")
async def show_registry(service: Service) -> schemas.Registry:
    """How many targets there are, and how the sources are that name tenants at run time."""
    sources = [schemas.source(source) for source in service.sources()]
    return schemas.Registry(targets=len(service.registry.targets), sources=sources)
