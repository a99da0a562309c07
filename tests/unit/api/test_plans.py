"""What would run, over HTTP."""

from __future__ import annotations

import httpx2
import pytest

from orchestrator import errors
from tests.unit.api.fake import FakeOrchestrator

ASKED = {"track": "app", "to": "head"}


async def test_a_plan_tells_groups_steps_sql_and_digests(client: httpx2.AsyncClient, fake: FakeOrchestrator) -> None:
    answer = await client.post("/api/v1/plans", json=ASKED)
    assert answer.status_code == 200
    plan = answer.json()
    tenants = [target.tenant for target in fake.registry.targets]
    assert (plan["track"], plan["to"], plan["direction"], plan["digest"]) == ("app", "head", "upgrade", "d0")
    assert plan["total"] == len(tenants)
    (group,) = plan["groups"]
    assert group["steps"] == [
        {"revision": "b2", "execution": "sql", "reason": None},
        {"revision": "c3", "execution": "online", "reason": "it asks postgresql://u:***@h/d for an answer"},
    ]
    assert group["sql"] == ["BEGIN;\nSELECT 1;\nCOMMIT;"]
    [found] = group["findings"]
    assert {key: found[key] for key in found if found[key] is not None} == {
        "rule": "online",
        "level": "info",
        "revision": "c3",
        "message": "it asks postgresql://u:***@h/d",
    }
    assert plan["worst"] == "info"
    assert group["irreversible"] == {"b2": "its downgrade is empty"}
    assert (group["heads"], group["state"], group["digest"]) == (["a1"], "behind", "d1")
    assert (group["count"], group["targets"]) == (len(tenants), tenants)


@pytest.mark.parametrize("body", [{}, {"track": "app"}, ASKED | {"strategy": "x"}, ASKED | {"direction": "sideways"}])
async def test_what_is_not_a_request_is_refused(body: dict[str, str], client: httpx2.AsyncClient) -> None:
    answer = await client.post("/api/v1/plans", json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")


async def test_a_history_that_cannot_be_used_is_a_problem(client: httpx2.AsyncClient, fake: FakeOrchestrator) -> None:
    fake.failing = errors.HistoryError("no such revision", track="app", file="/x/env.py")
    answer = await client.post("/api/v1/plans", json=ASKED)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
