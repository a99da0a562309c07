"""Puts the HTTP surface together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
from fastapi import FastAPI

import orchestrator as package
from orchestrator.api import access as accesses
from orchestrator.api import (
    audit,
    backfills,
    documented,
    drift,
    freeze,
    notifications,
    openapi,
    operations,
    plans,
    ports,
    problems,
    rollouts,
    schedules,
    shards,
    streams,
    tenants,
    tokens,
)
from orchestrator.api.access import Access
from orchestrator.api.boundary import Boundary
from orchestrator.api.dependencies import Selecting
from orchestrator.api.guard import Guard
from orchestrator.api.rates import Buckets

ROUTES = (
    operations,
    tenants,
    shards,
    plans,
    rollouts,
    streams,
    backfills,
    drift,
    schedules,
    freeze,
    notifications,
    tokens,
    audit,
)


class Application(FastAPI):
    def openapi(self) -> dict[str, Any]:
        return self.openapi_schema or accesses.declare(openapi.complete(super().openapi()))


def create(
    orchestrator: ports.Orchestrator,
    *,
    select: Selecting,
    metrics: Callable[[str], tuple[bytes, str]],
    stopping: anyio.Event,
    access: Access | None = None,
    requests_per_second: float = 0,
) -> FastAPI:
    """The ASGI application. Without `access`, anybody may do anything, and nothing is audited.

    `select` reads a label selector, `metrics` gives the exposition for an Accept header, and its content type. When
    `stopping` is set, open event streams end and `/readyz` says so; the server is the caller's to stop. One client's
    address may ask `requests_per_second`; 0: as often as it likes.
    """
    app = Application(
        title="Migration orchestrator",
        summary=package.__doc__,
        description=documented.ABOUT,
        license_info={"name": "Apache 2.0", "identifier": "Apache-2.0"},
        version=package.__version__,
        docs_url=None,  # both pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # the redirect would be built from the Host header
        generate_unique_id_function=lambda route: route.name,
        responses=problems.RESPONSES,
        dependencies=[accesses.AUTHORISED],
    )
    app.state.orchestrator, app.state.select = orchestrator, select
    app.state.metrics, app.state.stopping = metrics, stopping
    app.state.access = access
    for module in ROUTES:
        app.include_router(module.router)
    problems.install(app)
    if access is not None:
        app.add_middleware(Guard, access=access)
    # The last is the first to be passed.
    address = access.address if access is not None else None
    app.add_middleware(Boundary, buckets=Buckets(requests_per_second), address=address)
    return app
