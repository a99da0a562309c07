"""Puts the HTTP surface together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
from fastapi import FastAPI

import orchestrator as package
from orchestrator.api import notifications, operations, plans, ports, problems, rollouts, shards, streams, tenants
from orchestrator.api.boundary import Boundary
from orchestrator.api.dependencies import Selecting


class Application(FastAPI):
    def openapi(self) -> dict[str, Any]:
        return problems.declare(super().openapi())


def create(
    orchestrator: ports.Orchestrator,
    *,
    select: Selecting,
    metrics: Callable[[], tuple[bytes, str]],
    stopping: anyio.Event,
) -> FastAPI:
    """The ASGI application.

    `select` reads a label selector, `metrics` gives the exposition and its content type. When `stopping` is set,
    open event streams end and `/readyz` says so; the server is the caller's to stop.
    """
    app = Application(
        title="Migration orchestrator",
        summary=package.__doc__,
        version=package.__version__,
        docs_url=None,  # both pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # the redirect would be built from the Host header
        generate_unique_id_function=lambda route: route.name,
        responses=problems.RESPONSES,
    )
    app.state.orchestrator, app.state.select = orchestrator, select
    app.state.metrics, app.state.stopping = metrics, stopping
    for module in (operations, tenants, shards, plans, rollouts, streams, notifications):
        app.include_router(module.router)
    problems.install(app)
    app.add_middleware(Boundary)
    return app
