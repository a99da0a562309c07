"""The client speaks to every endpoint that there is, and its shapes are those of the interface."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import cache
from typing import Any, get_type_hints

import anyio
import httpx2
import pytest

from orchestrator.api import application
from orchestrator.client import Daemon, shapes
from orchestrator.errors import ConflictError, StateError
from tests.unit.api import fake_access
from tests.unit.api.fake import FakeOrchestrator, select

CALLS: list[Callable[[Daemon], Awaitable[Any]]] = [
    lambda it: it.health(),
    lambda it: it.readiness(),
    lambda it: it.metrics(),
    lambda it: it.openapi(),
    lambda it: it.tenants(),
    lambda it: it.tenant("acme"),
    lambda it: it.shards(),
    lambda it: it.plan({"track": "app", "to": "head"}),
    lambda it: it.preview({"track": "app", "to": "head"}),
    lambda it: it.start_rollout({"track": "app", "to": "head"}),
    lambda it: it.rollouts(),
    lambda it: it.rollout("r001"),
    lambda it: it.migrations("r001"),
    lambda it: it.pause("r001"),
    lambda it: it.resume("r001"),
    lambda it: it.skip("r001", "acme", reason="gone"),
    lambda it: it.limit("r001", 3),
    lambda it: it.retry("r001"),
    lambda it: it.approve("r001", wave="canary"),
    lambda it: it.rollback("r001"),
    lambda it: it.abort("r001", force=True),
    lambda it: anext(it.events("r001")),
    lambda it: it.registry(),
    lambda it: it.reload(),
    lambda it: it.notifications(states=["dead"]),
    lambda it: it.retry_notification("n1"),
    lambda it: it.override("r001", "CVE-2026-1"),
    lambda it: it.backfills(states=["running"], tenant="acme"),
    lambda it: it.backfill_summary(rollout="r001"),
    lambda it: it.pause_backfills({"shard": "pg-1"}, "month-end"),
    lambda it: it.resume_backfills({"shard": "pg-1"}, "month-end"),
    lambda it: it.abort_backfills({"tenant": "acme"}, "wrong column"),
    lambda it: it.adjust_backfills({"all": True}, "slower", {"duty": 0.5}),
    lambda it: it.drift(standings=["drifted"]),
    lambda it: it.look_for_drift("app"),
    lambda it: it.schedules(),
    lambda it: it.schedule("nightly"),
    lambda it: it.switch_schedule("nightly", enabled=True),
    lambda it: it.switch_schedule("nightly", enabled=False),
    lambda it: it.run_schedule("nightly"),
    lambda it: it.frozen(),
    lambda it: it.freeze("incident 7"),
    lambda it: it.lift_freeze(),
    lambda it: it.tokens(),
    lambda it: it.create_token("ci", "operator"),
    lambda it: it.revoke_token("abc"),
    lambda it: anext(it.audit()),
    lambda it: it.audit_page(),
]
# Shapes that carry another name there.
NAMES = {
    "Shard": "ShardState",
    "Asked": "StartRollout",
    "Token": "ShownToken",
    "Override": "Overridden",
    "AskedScope": "OrderBackfills",
    "AskedAdjustment": "AdjustBackfills",
}
# What the command line answers with by itself.
OURS = {"Verification", "Break"}


@cache
def document() -> dict[str, Any]:
    found: dict[str, Any] = app().openapi()
    return found


def app() -> Any:
    service = FakeOrchestrator()
    service.notifications.add()
    return application.create(
        service,
        select=select,
        metrics=lambda accept: (b"", "text/plain"),
        stopping=anyio.Event(),
        access=fake_access.access(),
    )


async def test_every_endpoint_is_covered() -> None:
    made, asked = app(), set()

    class Watched(httpx2.ASGITransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            asked.add((request.method.lower(), request.url.path))
            if request.url.path.endswith("/events"):
                return httpx2.Response(
                    200,
                    headers={"Content-Type": "text/event-stream"},
                    text="id: 1\nevent: RolloutCreated\ndata: {}\n\n",
                )
            return await super().handle_async_request(request)

    async with Daemon("http://daemon", token="any", transport=Watched(app=made)) as daemon:
        for call in CALLS:
            with suppress(StateError, ConflictError):
                await call(daemon)
    paths = made.openapi()["paths"]
    there = {(method, path) for path, methods in paths.items() for method in methods} | {("get", "/openapi.json")}
    forms = {(method, re.compile(re.sub(r"\{[^}]*\}", "[^/]+", path))): (method, path) for method, path in there}
    reached = {name for (method, form), name in forms.items() for m, p in asked if m == method and form.fullmatch(p)}
    assert there - reached == set()


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, it in vars(shapes).items()
        if isinstance(it, type) and hasattr(it, "__required_keys__") and name not in OURS
    ],
)
def test_shapes_are_those_of_the_interface(name: str) -> None:
    schemas = document()["components"]["schemas"]
    theirs = set(schemas[NAMES.get(name, name)]["properties"])
    ours = set(get_type_hints(getattr(shapes, name)))
    assert ours - theirs == set(), "the daemon answers with no such thing"
