"""Whatever the OpenAPI document allows, and much that it does not, asked of a live service over real databases.

No answer is a server's error, none has a status, header or shape that the document does not name, nothing that it
forbids is taken, and nothing that it allows is refused as malformed.
"""

from __future__ import annotations

import copy
import os
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
import schemathesis
import schemathesis.config
import schemathesis.engine
from schemathesis.engine import Status, StopReason, events
from sqlalchemy.engine import make_url

from orchestrator.databases.embedded import Server
from tests import live
from tests.servers import MakeDatabases

Case = schemathesis.Case[Any]

SOAK = bool(os.environ.get("SOAK"))
EXAMPLES = 50 if SOAK else 2
# Not by time, which would leave the last phase out on a slow machine.
SHORT = {"coverage": {"unexpected-methods": ["DELETE", "OPTIONS"]}, "stateful": {"max-steps": 10}}
BOUNDS: dict[str, Any] = {} if SOAK else {"phases": SHORT}
# A stream ends when its rollout does, and here rollouts are paused, too.
WITHOUT_STREAMS = {"operations": [{"include-operation-id": "rollout_events", "enabled": False}]}

# Fields of which only we can tell whether they mean anything.
MEANT = {"query.cursor", "header.last-event-id"}
KNOWN = {
    "track": ["app", "lite", "*"],
    "to": ["head", "base", "*", "+1", "beta"],
    "select": ["", "tier=free", "tenant=t1", "shard=pg,!legacy"],
    "strategy": ["default", "slow"],
    "tenant": ["t0", "t1", "t2", "t3"],
}


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore:Generating overly large repr")
async def test_every_answer_is_as_documented(config: Path, make_databases: MakeDatabases, pg: Server) -> None:
    (store,) = await make_databases(1, "store")
    url = make_url(pg.url(store)).render_as_string(hide_password=False)
    async with live.running(config, store_url=url, survey_seconds=3600) as one:
        more = {**BOUNDS, **WITHOUT_STREAMS, **sending(await one.close())}
        found = await anyio.to_thread.run_sync(asked, one.url, one.document, more)
    assert not found.problems, "\n\n".join(found.problems)
    assert found.stopped is StopReason.COMPLETED
    assert found.phases["stateful"] is Status.SUCCESS
    assert found.statuses["POST /api/v1/rollouts"][201], "it must come to something"
    assert found.statuses["POST /api/v1/rollouts/{rollout_id}/pause"][409], "on rollouts that there are"


async def test_a_stream_is_as_documented(config: Path) -> None:
    async with live.running(config, survey_seconds=3600) as one:
        token = await one.close()
        async with one.client() as client:
            rollout = (await client.post("/api/v1/rollouts", json={"track": "lite", "to": "head"})).json()["id"]
        await one.service.finished(rollout)
        document = only(one.document, "/api/v1/rollouts/{rollout_id}/events")
        more = {**BOUNDS, **sending(token), "parameters": {"rollout_id": rollout}}
        found = await anyio.to_thread.run_sync(asked, one.url, document, more)
    assert not found.problems, "\n\n".join(found.problems)
    statuses = found.statuses["GET /api/v1/rollouts/{rollout_id}/events"]
    assert statuses[200]
    assert statuses[422]


async def test_what_is_not_documented_is_found(config: Path) -> None:
    async with live.running(config, survey_seconds=3600) as one:
        document = only(one.document, "/api/v1/rollouts/{rollout_id}")
        (operation,) = document["paths"].values()
        del operation["get"]["responses"]["404"]
        more = {**BOUNDS, **sending(await one.close())}
        found = await anyio.to_thread.run_sync(asked, one.url, document, more)
    assert any("UndefinedStatusCode" in problem and "Received: 404" in problem for problem in found.problems)


async def test_a_door_that_is_open_where_the_document_says_closed_is_found(config: Path) -> None:
    async with live.running(config, survey_seconds=3600) as one:
        document = only(one.document, "/api/v1/registry")
        found = await anyio.to_thread.run_sync(asked, one.url, document, {**BOUNDS, **sending("orc_any")})
    assert any("IgnoredAuth" in problem for problem in found.problems)


def sending(token: str) -> dict[str, Any]:
    return {"auth": {"openapi": {"token": {"bearer": token}}}}


def only(document: dict[str, Any], path: str) -> dict[str, Any]:
    """The document with one place only, whose answers lead nowhere."""
    rest = copy.deepcopy(document)
    rest["paths"] = {path: rest["paths"][path]}
    for operation in rest["paths"][path].values():
        for response in operation["responses"].values():
            response.pop("links", None)
    return rest


@dataclass
class Found:
    problems: list[str] = field(default_factory=list)
    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    phases: dict[str, Status] = field(default_factory=dict)
    stopped: StopReason | None = None


def asked(url: str, document: dict[str, Any], more: dict[str, Any]) -> Found:
    """Ask everything; in a thread, since schemathesis waits for each answer."""
    found = Found()
    settings: dict[str, Any] = {
        "base-url": url,
        "seed": random.randrange(2**32) if SOAK else 7,
        "request-timeout": 60,
        "continue-on-failure": True,
        "checks": {"positive_data_acceptance": {"enabled": False}},  # ours, below
        "generation": {"max-examples": EXAMPLES, "database": "none"},
        **more,
    }
    schema = schemathesis.openapi.from_dict(document, config=schemathesis.Config.from_dict(settings))
    for event in schemathesis.engine.from_schema(schema).execute():
        match event:
            case events.ScenarioFinished() | events.FuzzScenarioFinished():
                note(found, event.recorder)
            case events.PhaseFinished():
                found.phases[event.phase.name.value] = event.status
            case events.NonFatalError():
                found.problems.append(f"{event.label}: {event.value!r}")
            case events.FatalError():
                raise event.exception
            case events.EngineFinished():
                found.stopped = event.stop_reason
    return found


@schemathesis.hook
def before_call(ctx: schemathesis.HookContext, case: Case, **kwargs: Any) -> None:
    """Let half of what is allowed mean something: made-up names lead to a refusal and no further."""
    if not is_allowed(case) or not isinstance(case.body, dict):
        return
    chance = random.Random(repr(sorted(case.body.items(), key=repr)))
    for name, known in KNOWN.items():
        if name in case.body and chance.random() < 0.5:
            case.body[name] = chance.choice(known)


def is_allowed(case: Case) -> bool:
    return case.meta is not None and case.meta.generation.mode is schemathesis.GenerationMode.POSITIVE


@schemathesis.check
def only_what_is_malformed_is_called_so(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: Case
) -> None:
    """What the document allows may be refused for what it means, never for how it is written."""
    if response.status_code != 422 or not is_allowed(case):
        return
    problem = response.json()
    if problem["type"].endswith(":invalid-request"):
        assert {error["field"] for error in problem["errors"]} <= MEANT, problem


def note(found: Found, recorder: Any) -> None:
    for case_id, interaction in recorder.interactions.items():
        if interaction.response is not None:
            label = recorder.cases[case_id].value.operation.label
            found.statuses.setdefault(label, Counter())[interaction.response.status_code] += 1
    for node in (node for nodes in recorder.checks.values() for node in nodes):
        if node.failure_info is not None:
            found.problems.append(f"{node.failure_info.failure!r}\n{node.failure_info.code_sample}")
