"""The OpenAPI document, walked: nothing that an operation takes or answers is left unsaid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import anyio
import httpx2
import pytest
from fastapi import FastAPI

from orchestrator.api import application, documented, openapi, paging, problems
from orchestrator.rollout.state import Request
from tests.unit.api import fake_access
from tests.unit.api.fake import FakeOrchestrator, select

Node = dict[str, Any]

# A generated client names its methods by them: they may be added to, never changed.
OPERATION_IDS = {
    "abort_backfills",
    "abort_rollout",
    "adjust_backfills",
    "create_token",
    "disable_schedule",
    "enable_schedule",
    "freeze_fleet",
    "lift_freeze",
    "list_audit",
    "list_backfills",
    "list_notifications",
    "list_schedules",
    "list_shards",
    "list_tokens",
    "override_windows",
    "retry_notification",
    "revoke_token",
    "run_schedule",
    "show_freeze",
    "show_schedule",
    "approve_rollout",
    "limit_rollout",
    "list_migrations",
    "list_rollouts",
    "list_tenants",
    "make_plan",
    "pause_backfills",
    "pause_rollout",
    "reload_registry",
    "resume_backfills",
    "resume_rollout",
    "retry_rollout",
    "rollback_rollout",
    "rollout_events",
    "show_health",
    "show_metrics",
    "show_readiness",
    "show_registry",
    "show_rollout",
    "show_tenant",
    "skip_tenant",
    "start_rollout",
    "sum_up_backfills",
}


@pytest.fixture(scope="module")
def document() -> Node:
    """As it is served; nothing in it hangs on who serves it."""
    served = application.create(
        FakeOrchestrator(), select=select, metrics=lambda accept: (b"", "text/plain"), stopping=anyio.Event()
    )
    return served.openapi()


def resolved(document: Node, node: Node) -> Node:
    """What a `$ref` leads to."""
    while "$ref" in node:
        found = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        node = found
    return node


def answers(document: Node, operation: Node) -> Iterator[tuple[int, Node]]:
    for status, response in operation["responses"].items():
        yield int(status), resolved(document, response)


def test_every_operation_says_what_it_does(document: Node) -> None:
    seen: set[str] = set()
    for path, method, operation in openapi.operations(document):
        name = operation["operationId"]
        assert name not in seen
        seen.add(name)
        assert name in documented.OPERATIONS, f"say in api/documented.py what {name} does, with examples"
        assert operation["summary"] == documented.OPERATIONS[name].summary
        assert len(operation["description"]) > 20, (method, path)
        assert operation["tags"]
        assert set(operation["tags"]) <= set(documented.TAGS)
    assert seen >= OPERATION_IDS
    assert seen == set(documented.OPERATIONS)


def test_every_parameter_is_described(document: Node) -> None:
    for path, _, operation in openapi.operations(document):
        for parameter in operation.get("parameters", ()):
            assert parameter.get("description"), (path, parameter["name"])


def test_every_body_and_every_answer_has_examples(document: Node) -> None:
    for path, method, operation in openapi.operations(document):
        if "requestBody" in operation:
            assert operation["requestBody"]["content"]["application/json"]["examples"], (method, path)
        for status, response in answers(document, operation):
            assert response["description"], (method, path, status)
            assert "X-Request-ID" in response["headers"]
            for content in response["content"].values():
                assert content["examples"], (method, path, status)
                assert "schema" in content


def test_every_problem_is_a_problem(document: Node) -> None:
    for _, _, operation in openapi.operations(document):
        found = {status: response for status, response in answers(document, operation) if status >= 400}
        assert found
        for status, response in found.items():
            assert response["content"].keys() == {problems.MEDIA_TYPE}
            content = response["content"][problems.MEDIA_TYPE]
            assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
            for example in content["examples"].values():
                told = problems.Problem.model_validate(example["value"])
                assert told.status == status
                assert told.type.startswith("urn:orchestrator:problem:")
            assert ("Retry-After" in response["headers"]) == (status in (429, 503))
        assert "default" not in operation["responses"], "it would stand for whatever is left unsaid"


def test_every_kind_of_problem_has_an_example(document: Node) -> None:
    shown = {example.type for told in documented.PROBLEMS.values() for example in told.examples}
    kinds = [*problems.KINDS.values(), *(kind for kind in vars(problems).values() if isinstance(kind, problems.Kind))]
    assert {kind.type for kind in kinds} == shown


@pytest.mark.parametrize(
    ("method", "path", "statuses"),
    [
        ("get", "/healthz", {200, 500}),
        ("get", "/readyz", {200, 500, 503}),
        ("get", "/api/v1/tenants", {200, 422, 429, 500, 503}),
        ("get", "/api/v1/rollouts/{rollout_id}", {200, 404, 422, 429, 500, 503}),
        ("post", "/api/v1/rollouts", {200, 201, 400, 403, 409, 413, 415, 422, 429, 500, 503}),
        ("post", "/api/v1/rollouts/{rollout_id}/pause", {200, 400, 403, 404, 409, 413, 415, 422, 429, 500, 503}),
        ("post", "/api/v1/registry/reload", {200, 400, 403, 413, 415, 422, 429, 500, 503}),
    ],
)
def test_the_statuses_of_an_operation(method: str, path: str, statuses: set[int], document: Node) -> None:
    assert {status for status, _ in answers(document, document["paths"][path][method])} >= statuses


def test_what_leads_to_what_is_linked(document: Node) -> None:
    made = document["paths"]["/api/v1/rollouts"]["post"]["responses"]["201"]
    assert made["links"]["pause_rollout"] == {
        "operationId": "pause_rollout",
        "parameters": {"rollout_id": "$response.body#/id"},
    }
    assert made["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Rollout"}
    followers = {name for name in OPERATION_IDS if name.endswith("_rollout")} - {"start_rollout"}
    assert followers <= made["links"].keys()


def test_every_reference_leads_somewhere(document: Node) -> None:
    def walk(node: object) -> Iterator[Node]:
        if isinstance(node, Mapping):
            if "$ref" in node:
                yield dict(node)
            node = list(node.values())
        if isinstance(node, list):
            for child in node:
                yield from walk(child)

    references = list(walk(document))
    assert references
    for reference in references:
        assert resolved(document, reference)


async def test_every_request_that_is_shown_is_taken(document: Node, fake: FakeOrchestrator) -> None:
    served = application.create(
        fake, select=select, metrics=lambda accept: (b"", ""), stopping=anyio.Event(), access=fake_access.access()
    )
    client = httpx2.AsyncClient(
        transport=httpx2.ASGITransport(served), base_url="http://daemon", headers={"Authorization": "Bearer any"}
    )
    for path, method, operation in openapi.operations(document):
        if "requestBody" not in operation:
            continue
        for example in operation["requestBody"]["content"]["application/json"]["examples"].values():
            fake.held.clear()
            fake.add(Request("app", "head"))
            place = path.replace("{rollout_id}", "r001")
            answer = await client.request(method, place, json=example["value"])
            assert answer.status_code in (200, 201, 409), (path, answer.text)


def test_the_cursors_that_are_shown_can_be_read(document: Node) -> None:
    for listing, path in (("tenants", "/api/v1/tenants"), ("rollouts", "/api/v1/rollouts")):
        content = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]
        (example,) = content["examples"].values()
        assert paging.decode(example["value"]["next_cursor"], listing, str)


def test_the_document_is_made_once(app: FastAPI) -> None:
    assert app.openapi() is app.openapi()
