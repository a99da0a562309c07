from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import anyio
import anyio.lowlevel
import fastapi.sse
import httpx2
import pytest
from fastapi.sse import ServerSentEvent

from orchestrator import errors, events
from orchestrator.api import streams
from orchestrator.rollout.ports import StoredEvent
from orchestrator.rollout.state import Request, RolloutState
from tests.unit.api.fake import FakeOrchestrator

Sent = dict[str, Any]


def parse(text: str) -> list[Sent]:
    """The events of an SSE stream, comments left out."""
    blocks = [block for block in text.split("\n\n") if block.strip() and not block.startswith(":")]
    sent = [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]
    return [{**block, "data": json.loads(block["data"])} for block in sent]


def step(revision: str) -> events.StepApplied:
    return events.StepApplied(
        rollout="r001", track="app", tenant="acme", shard="pg-1", wave="everyone", revision=revision, seconds=0.1
    )


@pytest.fixture
def fake() -> FakeOrchestrator:
    """With a rollout that has five events and is still running."""
    it = FakeOrchestrator()
    it.add(Request("app", "head"))
    for revision in "abcd":
        it.tell(step(revision))
    return it


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting to gather, and no second chance by polling: a lost wake-up hangs the test."""
    monkeypatch.setattr(streams, "GATHER_SECONDS", 0.0)
    monkeypatch.setattr(streams, "POLL_SECONDS", 3600.0)


def feed(fake: FakeOrchestrator, stopping: anyio.Event, last: int = 0) -> streams.Feed:
    return streams.Feed(fake, "r001", stopping, fake.held["r001"].state, last)


async def test_a_finished_rollout_is_told_from_the_beginning(
    client: httpx2.AsyncClient, fake: FakeOrchestrator
) -> None:
    fake.change("r001", RolloutState.SUCCEEDED)
    answer = await client.get("/api/v1/rollouts/r001/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache"
    sent = parse(answer.text)
    assert [it.get("id") for it in sent] == ["1", "2", "3", "4", "5", "6", None]
    assert sent[1]["event"] == "StepApplied"
    assert sent[1]["data"]["revision"] == "a"
    assert sent[-1] == {"event": "closed", "data": {"reason": "finished", "state": "succeeded"}}


@pytest.mark.parametrize("last", range(7))
async def test_a_client_that_comes_back_gets_the_rest(
    last: int, client: httpx2.AsyncClient, fake: FakeOrchestrator
) -> None:
    fake.change("r001", RolloutState.SUCCEEDED)
    answer = await client.get("/api/v1/rollouts/r001/events", headers={"Last-Event-ID": str(last)})
    assert [int(it["id"]) for it in parse(answer.text)[:-1]] == list(range(last + 1, 7))


@pytest.mark.parametrize("last", ["-1", "abc", "1.5", "9" * 26])
async def test_an_id_that_we_never_gave_is_refused(last: str, client: httpx2.AsyncClient) -> None:
    answer = await client.get("/api/v1/rollouts/r001/events", headers={"Last-Event-ID": last})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "header.last-event-id")


async def test_no_rollout_no_stream(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/api/v1/rollouts/nope/events")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


async def test_a_rollout_that_was_retried_is_told_beyond_its_first_end(
    client: httpx2.AsyncClient, fake: FakeOrchestrator
) -> None:
    for state in (RolloutState.FAILED, RolloutState.RUNNING, RolloutState.SUCCEEDED):
        fake.change("r001", state)
    sent = parse((await client.get("/api/v1/rollouts/r001/events")).text)
    assert [it["data"]["state"] for it in sent if it["event"] == "RolloutStateChanged"] == [
        "failed",
        "running",
        "succeeded",
    ]
    assert sent[-1]["data"] == {"reason": "finished", "state": "succeeded"}


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("seed", range(20))
async def test_live_events_follow_the_stored_ones_without_gap_or_duplicate(
    seed: int, fake: FakeOrchestrator, stopping: anyio.Event
) -> None:
    chance, sent = random.Random(seed), list[ServerSentEvent]()
    it = feed(fake, stopping, last=2)

    async def pause() -> None:
        for _ in range(chance.randrange(6)):
            await anyio.lowlevel.checkpoint()

    async def produce() -> None:
        for n in range(40):
            fake.tell(step(f"live {n}"))
            await pause()
        fake.change("r001", RolloutState.SUCCEEDED)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(it.listen)
        while not fake.subscriptions:
            await anyio.lowlevel.checkpoint()
        tasks.start_soon(produce)
        with anyio.fail_after(60):
            async for event in it.events():
                sent.append(event)
                await pause()
        tasks.cancel_scope.cancel()
    assert [int(event.id) for event in sent if event.id] == list(range(3, 47))
    assert sent[-1].event == "closed"


@pytest.mark.usefixtures("eager")
async def test_an_event_that_comes_during_an_empty_reading_is_not_missed(
    fake: FakeOrchestrator, stopping: anyio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    it, read = feed(fake, stopping, last=5), fake.events

    async def interrupted(rollout_id: str, *, after: int = 0) -> Sequence[StoredEvent]:
        page = await read(rollout_id, after=after)
        if not page and fake.held["r001"].state == RolloutState.RUNNING:
            fake.change("r001", RolloutState.SUCCEEDED)
            await anyio.wait_all_tasks_blocked()  # the wake-up is delivered before the empty page is
        return page

    monkeypatch.setattr(fake, "events", interrupted)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(it.listen)
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(60):
            sent = [event.event async for event in it.events()]
        tasks.cancel_scope.cancel()
    assert sent == ["RolloutStateChanged", "closed"]


async def test_events_of_another_process_are_found_by_polling(
    fake: FakeOrchestrator, stopping: anyio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "POLL_SECONDS", 0.01)
    it = feed(fake, stopping, last=5)
    sent: list[ServerSentEvent] = []

    async def read() -> None:
        sent.extend([event async for event in it.events()])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await anyio.sleep(0.03)
        fake.change("r001", RolloutState.ABORTED)  # nobody listens here: only the store knows
    assert [event.event for event in sent] == ["RolloutStateChanged", "closed"]


@pytest.mark.usefixtures("eager")
async def test_an_open_stream_ends_when_the_daemon_stops(client: httpx2.AsyncClient, stopping: anyio.Event) -> None:
    answers: list[httpx2.Response] = []

    async def read() -> None:
        answers.append(await client.get("/api/v1/rollouts/r001/events"))

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await anyio.sleep(0.05)
            assert not answers
            stopping.set()
    *stored, last = parse(answers[0].text)
    assert [it["id"] for it in stored] == ["1", "2", "3", "4", "5"][: len(stored)], "it may stop before all is sent"
    assert "id" not in last
    assert last["data"] == {"reason": "stopping", "state": "running"}


async def test_a_stream_says_so_when_the_store_is_gone(fake: FakeOrchestrator, stopping: anyio.Event) -> None:
    it = feed(fake, stopping)
    fake.failing = errors.StoreError()
    (only,) = [event async for event in it.events()]
    assert (only.event, only.data) == ("closed", {"reason": "unavailable", "state": "running"})


def test_heartbeats_come_every_fifteen_seconds() -> None:
    assert fastapi.sse._PING_INTERVAL == 15
