from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest
from structlog.testing import capture_logs

from orchestrator import errors
from orchestrator.api import boundary, problems
from tests.unit.api.fake import FakeOrchestrator

MAPPED: list[tuple[errors.OrchestratorError, int, str]] = [
    (errors.NotFoundError("no"), 404, "not-found"),
    (errors.ConflictError("no", rollout="r7", targets=["acme/app"]), 409, "targets-held"),
    (errors.PlanChangedError("no", differences=["goal: another"]), 409, "plan-changed"),
    (errors.ForbiddenError("no"), 403, "forbidden"),
    (errors.StateError("no"), 409, "wrong-state"),
    (errors.RequestError("no"), 400, "request-refused"),
    (errors.RegistryError("tenants.yaml", [errors.Mistake(3, 5, "no", "tenants.0.id")]), 422, "registry-mistakes"),
    (errors.FrozenError("no"), 409, "frozen"),
    (errors.SelectorError("no"), 422, "selector"),
    (errors.HistoryError("no", track="app"), 422, "history"),
    (errors.UnsupportedAlembicError("no"), 422, "configuration"),
    (errors.ConfigurationError("no"), 422, "configuration"),
    (errors.UnavailableError("no"), 503, "unavailable"),
    (errors.StoreError("no"), 503, "unavailable"),
    (errors.LeadershipLostError("no"), 503, "unavailable"),
    (errors.DaemonError("no"), 503, "unavailable"),
    (errors.DiscoveryError("no"), 503, "unavailable"),
]


@pytest.mark.parametrize(("error", "status", "slug"), MAPPED, ids=lambda value: type(value).__name__)
async def test_every_expected_error_has_its_answer(
    error: errors.OrchestratorError, status: int, slug: str, client: httpx2.AsyncClient, fake: FakeOrchestrator
) -> None:
    error.remedy = "do this"
    fake.failing = error
    answer = await client.get("/api/v1/rollouts/r1")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["type"] == f"urn:orchestrator:problem:{slug}"
    assert (body["status"], body["detail"], body["remedy"]) == (status, error.message, "do this")
    assert body["title"]
    assert ("retry-after" in answer.headers) == (status == 503)


def test_the_table_covers_every_error_that_a_request_may_meet() -> None:
    met = {errors.RequestError, errors.ConfigurationError, errors.UnavailableError}
    for cls in every(errors.OrchestratorError):
        expected = any(issubclass(cls, base) for base in met)
        assert (problems.kind_of(cls.__new__(cls)) is not None) == expected, cls
    assert {type(error) for error, _status, _slug in MAPPED} == {
        cls for cls in every(errors.OrchestratorError) if problems.kind_of(cls.__new__(cls))
    }


async def test_every_mistake_of_the_registry_is_listed(client: httpx2.AsyncClient, fake: FakeOrchestrator) -> None:
    fake.failing = errors.RegistryError(
        "tenants.yaml",
        [
            errors.Mistake(9, 1, "unknown key", "tenants.1"),
            errors.Mistake(2, 7, "bad url postgresql://u:hunter2@h", "shards.a"),
        ],
    )
    answer = await client.post("/api/v1/registry/reload")
    assert answer.status_code == 422
    assert answer.json()["mistakes"] == [
        {"line": 2, "column": 7, "path": "shards.a", "message": "bad url postgresql://u:***@h"},
        {"line": 9, "column": 1, "path": "tenants.1", "message": "unknown key"},
    ]
    assert "hunter2" not in answer.text


async def test_a_conflict_names_the_rollout_in_the_way(client: httpx2.AsyncClient, fake: FakeOrchestrator) -> None:
    fake.failing = errors.ConflictError("held", rollout="r7", targets=["acme/app"])
    body = (await client.post("/api/v1/rollouts", json={"track": "app", "to": "head"})).json()
    assert (body["rollout"], body["targets"]) == ("r7", ["acme/app"])


@pytest.mark.parametrize(
    "error",
    [RuntimeError("secret detail"), errors.TargetLockedError("secret detail"), ExceptionGroup("g", [OSError()])],
)
async def test_a_bug_is_logged_and_not_told(
    error: Exception, client: httpx2.AsyncClient, fake: FakeOrchestrator
) -> None:
    fake.failing = error
    with capture_logs() as logged:
        answer = await client.get("/api/v1/rollouts")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:orchestrator:problem:unexpected"
    assert "secret" not in answer.text
    assert [(line["event"], line["path"], line["exc_info"]) for line in logged] == [
        ("request_failed", "/api/v1/rollouts", True)
    ]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/docs", 404),
        ("GET", "/redoc", 404),
        ("GET", "/api/v1/rollouts/", 404),
        ("DELETE", "/api/v1/rollouts/r1", 405),
        ("GET", "/api/v1/registry/reload", 405),
    ],
)
async def test_what_is_not_there_is_a_problem_too(
    method: str, path: str, status: int, client: httpx2.AsyncClient
) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"].startswith(f"{method} {path}")
    assert ("allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/api/v1/rollouts", "GET, POST"), ("/api/v1/rollouts/r1/pause", "POST"), ("/api/v1/tenants/a/b", "GET")],
)
async def test_a_place_tells_all_that_can_be_done_there(path: str, allowed: str, client: httpx2.AsyncClient) -> None:
    answer = await client.delete(path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "query.limit"),
        ("limit=1001", "query.limit"),
        ("limit=many", "query.limit"),
        ("stat=failed", "query.stat"),
        ("state=nice", "query.state.0"),
        ("cursor=nonsense", "query.cursor"),
    ],
)
async def test_a_wrong_parameter_is_named(query: str, field: str, client: httpx2.AsyncClient) -> None:
    answer = await client.get(f"/api/v1/rollouts?{query}")
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_json_that_cannot_be_read_is_a_problem(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/api/v1/rollouts", content=b"{", headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:orchestrator:problem:invalid-request")
    deep = b'{"track":' + b"[" * 100_000
    answer = await client.post("/api/v1/rollouts", content=deep, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_form_of_another_type_is_not_taken_for_json(client: httpx2.AsyncClient) -> None:
    body = b'{"track": "app", "to": "head"}'
    for kind in ("text/plain", "application/x-www-form-urlencoded", "text/json", ""):
        answer = await client.post("/api/v1/rollouts", content=body, headers={"Content-Type": kind})
        assert (answer.status_code, answer.json()["type"]) == (415, "urn:orchestrator:problem:unsupported-media-type")
        assert "application/json" in answer.json()["remedy"]
    answer = await client.post(
        "/api/v1/rollouts", content=body, headers={"Content-Type": "application/JSON; charset=utf-8"}
    )
    assert answer.status_code == 201
    assert (await client.post("/api/v1/rollouts/r001/pause", headers={"Content-Type": "text/plain"})).status_code == 200


async def test_a_large_body_is_refused(client: httpx2.AsyncClient, fake: FakeOrchestrator) -> None:
    body = b'{"track": "app", "to": "head", "select": "' + b"x" * boundary.MAX_BODY_BYTES + b'"}'

    async def pieces() -> AsyncIterator[bytes]:  # without a Content-Length
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    headers = {"Content-Type": "application/json"}
    for content in (body, pieces()):
        answer = await client.post("/api/v1/rollouts", content=content, headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (413, "urn:orchestrator:problem:too-large")
        assert answer.headers["content-type"] == "application/problem+json"
    assert fake.held == {}


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 201), ("none", 201)]
)
async def test_pages_of_other_sites_change_nothing(site: str, status: int, client: httpx2.AsyncClient) -> None:
    headers = {"Sec-Fetch-Site": site}
    answer = await client.post("/api/v1/rollouts", json={"track": "app", "to": "head"}, headers=headers)
    assert answer.status_code == status
    assert (await client.get("/api/v1/rollouts", headers=headers)).status_code == 200


async def test_no_cross_origin_answers(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/api/v1/rollouts", headers={"Origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    answer = await client.options("/api/v1/rollouts", headers=asked)
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]


def every(cls: type[errors.OrchestratorError]) -> set[type[errors.OrchestratorError]]:
    return {cls}.union(*(every(below) for below in cls.__subclasses__()))
