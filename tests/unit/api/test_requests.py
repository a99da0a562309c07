"""A request's id, from its header to the log."""

from __future__ import annotations

import io
import json
import re

import anyio
import httpx2
import pytest
import structlog
from structlog.testing import capture_logs

from orchestrator.observe import logs, requests
from tests.unit.api.fake import FakeOrchestrator

ASKED = {"track": "app", "to": "head"}


async def test_an_id_of_ones_own_comes_back(client: httpx2.AsyncClient) -> None:
    for path, status in (("/healthz", 200), ("/nowhere", 404), ("/api/v1/rollouts?limit=0", 422)):
        answer = await client.get(path, headers={"X-Request-ID": "deploy-7/2"})
        assert (answer.status_code, answer.headers["x-request-id"]) == (status, "deploy-7/2")
        if status >= 400:
            assert answer.json()["request_id"] == "deploy-7/2"


@pytest.mark.parametrize("given", [None, "", "two words", "a\tb", "x" * 129, "a;b", "ä"])
async def test_otherwise_one_is_made(given: str | None, client: httpx2.AsyncClient) -> None:
    headers = {} if given is None else {b"X-Request-ID": given.encode()}
    answers = [await client.get("/nowhere", headers=headers) for _ in range(2)]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in ids)
    assert ids[0] != ids[1]
    assert [answer.json()["request_id"] for answer in answers] == ids


async def test_a_bug_can_be_found_by_its_id(client: httpx2.AsyncClient, fake: FakeOrchestrator) -> None:
    fake.failing = RuntimeError("boom")
    stream = io.StringIO()
    config = structlog.get_config()
    logs.configure("json", "info", stream=stream)
    try:
        answer = await client.post("/api/v1/rollouts", json=ASKED, headers={"X-Request-ID": "find-me"})
        structlog.get_logger("x").info("afterwards")
    finally:
        structlog.configure(**config)
    assert (answer.status_code, answer.json()["request_id"]) == (500, "find-me")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["event"], line.get("request_id")) for line in lines] == [
        ("request_failed", "find-me"),
        ("request_answered", "find-me"),
        ("afterwards", None),
    ]


async def test_what_is_to_change_something_is_logged(client: httpx2.AsyncClient) -> None:
    with capture_logs() as logged:
        await client.get("/api/v1/rollouts")
        await client.post("/api/v1/rollouts", json=ASKED)
        await client.post("/api/v1/rollouts/a%0Ab/pause")
    assert [(line["event"], line["method"], line["path"], line["status"]) for line in logged] == [
        ("request_answered", "POST", "/api/v1/rollouts", 201),
        ("request_answered", "POST", "/api/v1/rollouts/a%0Ab/pause", 404),
    ]
    assert all(line["seconds"] >= 0 and line["client"] for line in logged)


async def test_a_task_that_outlives_its_request_does_not_keep_its_id() -> None:
    seen: list[str | None] = []
    ended = anyio.Event()

    async def rollout() -> None:
        seen.append(requests.current())
        await ended.wait()
        seen.append(requests.current())

    async with anyio.create_task_group() as tasks:
        with requests.answering("r1"):
            tasks.start_soon(rollout)
            await anyio.wait_all_tasks_blocked()
        ended.set()
    assert seen == ["r1", None]
    assert requests.current() is None


async def test_answers_are_not_to_be_guessed_at(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/api/v1/rollouts")).headers["x-content-type-options"] == "nosniff"
