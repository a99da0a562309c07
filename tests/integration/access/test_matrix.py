"""Every operation of the live OpenAPI document, asked by everybody who may come: from the one table of roles."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from orchestrator.access.roles import Role
from orchestrator.api import permissions
from tests.integration.access.conftest import World, world

NOBODY = ("nobody", "expired", "revoked", "garbage", "of a stranger", "nonsense")
# Bodies that are valid, so that what is refused is refused for who asks.
BODIES: dict[str, dict[str, Any]] = {
    "make_plan": {"track": "app", "to": "head"},
    "start_rollout": {"track": "app", "to": "head"},
    "skip_tenant": {"tenant": "acme", "reason": "because"},
    "limit_rollout": {"max_concurrent": 3},
    "create_token": {"name": "new", "role": "viewer"},
    "freeze_fleet": {"reason": "incident 7"},
    "override_windows": {"reason": "incident 7"},
    "pause_backfills": {"all": True, "reason": "incident 7"},
    "resume_backfills": {"all": True, "reason": "incident 7"},
    "abort_backfills": {"all": True, "reason": "incident 7"},
    "adjust_backfills": {"all": True, "reason": "incident 7", "duty": 0.5},
}


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Name, method and path of each; parameters of the path are filled with what does not exist."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            filled = path
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "path":
                    filled = filled.replace(f"{{{parameter['name']}}}", "nothing-there")
            yield operation["operationId"], method.upper(), filled


async def ask(client: httpx2.AsyncClient, operation: str, method: str, path: str) -> httpx2.Response:
    return await client.request(method, path, json=BODIES.get(operation))


async def test_the_table_names_every_operation_and_no_other(daemon: World) -> None:
    named = {name for name, _method, _path in operations(daemon.app.openapi())}
    assert named == permissions.LEAST.keys() | permissions.PUBLIC
    assert permissions.LEAST.keys() & permissions.PUBLIC == set()
    assert named >= permissions.PROVED | permissions.RECORDED_BEFORE
    assert set(permissions.PUBLIC_PATHS.values()) == permissions.PUBLIC


async def test_each_role_may_what_the_table_says_and_nobody_else_may_anything(daemon: World) -> None:
    asked = 0
    for operation, method, path in operations(daemon.app.openapi()):
        least = permissions.least(operation)
        for who in (*Role, *NOBODY):
            token = daemon.made[who].text if who in daemon.made else None
            async with daemon.client(token) as client:
                answer = await ask(client, operation, method, path)
            where = f"{who}: {method} {path} -> {answer.status_code} {answer.text}"
            assert answer.status_code < 500, where
            if least is None or (who in set(Role) and Role(who).includes(least)):
                assert answer.status_code not in (401, 403), where
            elif who in NOBODY:
                assert answer.status_code == 401, where
                assert answer.headers["www-authenticate"].startswith('Bearer realm="orchestrator"'), where
            else:
                assert (answer.status_code, answer.json()["needs"], answer.json()["has"]) == (403, least, who), where
            if answer.status_code in (401, 403):
                assert answer.headers["content-type"] == "application/problem+json", where
                assert answer.json()["remedy"], where
            asked += 1
    assert asked >= 25 * 10


async def test_what_is_no_operation_needs_a_token_too(daemon: World) -> None:
    for method, path in (
        ("GET", "/openapi.json"),
        ("GET", "/"),
        ("GET", "/docs"),
        ("GET", "/healthz/"),
        ("GET", "//healthz"),
        ("GET", "/metrics/../api/v1/tenants"),
        ("GET", "/api/v1/tenants/"),
        ("POST", "/api/v1/nothing"),
        ("DELETE", "/api/v1/tenants"),
        ("OPTIONS", "/api/v1/rollouts"),
        ("HEAD", "/api/v1/rollouts"),
        ("TRACE", "/api/v1/rollouts"),
    ):
        async with daemon.client() as client:
            assert (await client.request(method, path)).status_code == 401, (method, path)
        async with daemon.of("viewer") as client:
            assert (await client.request(method, path)).status_code in (200, 404, 405), (method, path)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_health_and_metrics_need_no_token_also_with_a_wrong_one(daemon: World, path: str) -> None:
    for token in (None, "nonsense"):
        async with daemon.client(token) as client:
            assert (await client.get(path)).status_code == 200
            assert (await client.post(path)).status_code == 405


async def test_metrics_may_be_made_to_need_a_token() -> None:
    async with world(metrics_need_token=True) as daemon:
        async with daemon.client() as client:
            assert (await client.get("/metrics")).status_code == 200
        await daemon.make_all()
        async with daemon.client() as client:
            assert (await client.get("/metrics")).status_code == 401
            assert (await client.get("/healthz")).status_code == 200
        async with daemon.of("viewer") as client:
            assert (await client.get("/metrics")).status_code == 200


async def test_an_operation_that_is_missing_in_the_table_is_refused_to_everybody(
    daemon: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(permissions, "LEAST", {**permissions.LEAST})
    monkeypatch.delitem(permissions.LEAST, "list_tenants")
    for role in Role:
        async with daemon.of(role) as client:
            answer = await client.get("/api/v1/tenants")
        assert answer.status_code == 403
        assert "stands in no table" in answer.json()["detail"]


async def test_a_malformed_body_tells_a_stranger_nothing(daemon: World) -> None:
    async with daemon.client() as client:
        answer = await client.post("/api/v1/rollouts", content=b"{", headers={"Content-Type": "application/json"})
    assert answer.status_code == 401


OTHERS = [b"", b"Bearer", b"Bearer ", b"Basic YTpi", b"Bearer a b", b"bearer\tx", b"Token x", b"Bearer \xe9"]


@pytest.mark.parametrize("header", OTHERS)
async def test_other_headers_are_no_token(daemon: World, header: bytes) -> None:
    async with daemon.client() as client:
        answer = await client.get("/api/v1/tenants", headers=[(b"Authorization", header)])
    assert answer.status_code == 401


async def test_two_tokens_in_one_request_are_none(daemon: World) -> None:
    good = daemon.made["admin"].text
    async with daemon.client() as client:
        headers = [("Authorization", f"Bearer {good}"), ("Authorization", f"Bearer {good}")]
        assert (await client.get("/api/v1/tenants", headers=headers)).status_code == 401


async def test_browsers_of_other_sites_are_told_nothing(daemon: World) -> None:
    origin = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    async with daemon.of("admin", headers=origin) as client:
        for answer in (await client.get("/api/v1/tenants"), await client.options("/api/v1/rollouts")):
            assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_the_document_says_who_may_what(daemon: World) -> None:
    document = daemon.app.openapi()
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    paths = document["paths"]
    assert paths["/api/v1/rollouts"]["post"]["security"] == [{"token": []}]
    assert paths["/api/v1/rollouts/{rollout_id}/approve"]["post"]["x-least-role"] == "approver"
    assert paths["/healthz"]["get"]["security"] == [{}]
