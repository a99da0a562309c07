from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from urllib.parse import quote

import anyio
import fastapi.routing
import httpx2
import pytest
from anyio.abc import TaskStatus
from fastapi import FastAPI

from orchestrator import errors
from orchestrator.api import server
from orchestrator.rollout.state import Request, RolloutState
from tests.unit.api.fake import FakeOrchestrator


@dataclass
class Running:
    client: httpx2.AsyncClient
    ended: anyio.Event


@asynccontextmanager
async def serving(app: FastAPI, stopping: anyio.Event) -> AsyncIterator[Running]:
    ended = anyio.Event()

    async def run(*, task_status: TaskStatus[str]) -> None:
        await server.serve(app, "127.0.0.1", 0, stopping=stopping, task_status=task_status)
        ended.set()

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            url = await tasks.start(run)
            async with httpx2.AsyncClient(base_url=url) as client:
                yield Running(client, ended)
            stopping.set()


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


async def test_answers_do_not_wait_for_the_acknowledgement_of_their_first_packet() -> None:
    (listener,) = server.bind("127.0.0.1", 0)
    without_delay: list[int] = []

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        option = writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        without_delay.append(option)
        writer.close()

    async with await asyncio.start_server(accept, sock=listener):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        await reader.read()
        writer.close()
    assert without_delay
    assert all(without_delay)


async def test_it_serves_on_a_free_port_and_says_where(app: FastAPI, stopping: anyio.Event) -> None:
    async with serving(app, stopping) as running:
        answer = await running.client.get("/healthz")
        assert answer.json() == {"status": "ok"}
        assert "server" not in answer.headers
        assert running.client.base_url.host == "127.0.0.1"
        assert running.client.base_url.port != 0
    assert running.ended.is_set()


async def test_the_longest_selector_that_may_be_asked_for_comes_in(app: FastAPI, stopping: anyio.Event) -> None:
    async def ask(running: Running, elephants: int) -> str:
        url = running.client.base_url
        async with await anyio.connect_tcp(url.host, url.port or 80) as stream:  # httpx makes no such addresses
            asked = f"/api/v1/tenants?select=a%3D{quote(chr(0x1F418)) * elephants}"
            await stream.send(f"GET {asked} HTTP/1.1\r\nHost: daemon\r\n\r\n".encode())
            return (await stream.receive()).decode().partition("\r\n")[0]

    async with serving(app, stopping) as running:
        assert await ask(running, 9_998) == "HTTP/1.1 200 OK"
        assert (await ask(running, 9_999)).startswith("HTTP/1.1 422 ")


async def test_a_port_in_use_is_told_before_anything_starts(app: FastAPI, taken: int, stopping: anyio.Event) -> None:
    with pytest.raises(errors.ConfigurationError) as caught:
        await server.serve(app, "127.0.0.1", taken, stopping=stopping)
    assert caught.value.message == f"port {taken} on 127.0.0.1 is in use"
    assert "--port" in (caught.value.remedy or "")
    assert "ORCHESTRATOR_PORT" in (caught.value.remedy or "")


def test_a_port_can_be_taken_again_at_once() -> None:
    (first,) = server.bind("127.0.0.1", 0)
    port = first.getsockname()[1]
    first.close()
    (second,) = server.bind("127.0.0.1", port)
    second.close()


def test_a_host_that_does_not_exist_is_told() -> None:
    with pytest.raises(errors.ConfigurationError, match="cannot be resolved"):
        server.bind("no.such.host.invalid", 0)


@pytest.mark.parametrize("host", ["a..b", "x" * 70, "\udcff"])
def test_a_host_that_cannot_be_a_name_is_told(host: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=r"cannot be the name of a host|cannot be resolved"):
        server.bind(host, 0)


def test_a_host_of_somebody_else_is_told() -> None:
    with pytest.raises(errors.ConfigurationError, match=r"cannot listen on port 8080 on 192\.0\.2\.1"):
        server.bind("192.0.2.1", 8080)


def test_every_address_of_a_host_gets_the_same_port() -> None:
    sockets = server.bind("localhost", 0)
    try:
        assert len({it.getsockname()[1] for it in sockets}) == 1
        assert len({it.getsockname()[0] for it in sockets}) == len(sockets)
    finally:
        for it in sockets:
            it.close()


@pytest.mark.parametrize(("host", "start"), [("127.0.0.1", "http://127.0.0.1:"), ("::1", "http://[::1]:")])
def test_urls(host: str, start: str) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        assert server.url(host, listener).startswith(start)


async def test_it_stops_at_once_with_an_open_stream(
    app: FastAPI, fake: FakeOrchestrator, stopping: anyio.Event
) -> None:
    fake.add(Request("app", "head"))
    async with serving(app, stopping) as running:
        async with running.client.stream("GET", "/api/v1/rollouts/r001/events") as answer:
            lines = answer.aiter_lines()
            assert await anext(lines) == "event: RolloutCreated"
            stopping.set()
            with anyio.fail_after(60):
                rest = [line async for line in lines]
                await running.ended.wait()
        assert "event: closed" in rest
        assert fake.subscriptions == 0


async def test_a_live_event_reaches_an_open_stream(app: FastAPI, fake: FakeOrchestrator, stopping: anyio.Event) -> None:
    fake.add(Request("app", "head"))
    async with (
        serving(app, stopping) as running,
        running.client.stream("GET", "/api/v1/rollouts/r001/events") as answer,
    ):
        lines = answer.aiter_lines()
        assert await anext(lines) == "event: RolloutCreated"
        fake.change("r001", RolloutState.ABORTED)
        with anyio.fail_after(60):
            rest = [line async for line in lines]
    assert [line for line in rest if line.startswith(("event", "id"))] == [
        "id: 1",
        "event: RolloutStateChanged",
        "id: 2",
        "event: closed",
    ]


async def test_an_idle_stream_has_heartbeats_and_a_client_that_leaves_is_forgotten(
    app: FastAPI, fake: FakeOrchestrator, stopping: anyio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fastapi.routing, "_PING_INTERVAL", 0.02)
    fake.add(Request("app", "head"))
    async with serving(app, stopping) as running:
        async with running.client.stream("GET", "/api/v1/rollouts/r001/events") as answer:
            async for line in answer.aiter_lines():
                if line == ": ping":
                    break
            assert fake.subscriptions == 1
        with anyio.fail_after(60):
            while fake.subscriptions:  # noqa: ASYNC110
                await anyio.sleep(0.01)


async def test_a_request_in_flight_is_answered(app: FastAPI, fake: FakeOrchestrator, stopping: anyio.Event) -> None:
    reached, go_on = anyio.Event(), anyio.Event()

    @app.get("/slow")
    async def slow() -> str:
        reached.set()
        await go_on.wait()
        return "done"

    answers: list[httpx2.Response] = []

    async def ask(client: httpx2.AsyncClient) -> None:
        answers.append(await client.get("/slow"))

    async with serving(app, stopping) as running:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, running.client)
            await reached.wait()
            stopping.set()
            await anyio.sleep(0.3)
            assert not running.ended.is_set()
            go_on.set()
        await running.ended.wait()
    assert answers[0].json() == "done"


async def test_cancelling_it_closes_everything(app: FastAPI, fake: FakeOrchestrator, stopping: anyio.Event) -> None:
    fake.add(Request("app", "head"))
    scope = anyio.CancelScope()

    async def run(*, task_status: TaskStatus[str]) -> None:
        with scope:
            await server.serve(app, "127.0.0.1", 0, stopping=stopping, task_status=task_status)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            url = await tasks.start(run)
            async with httpx2.AsyncClient(base_url=url) as client:
                async with client.stream("GET", "/api/v1/rollouts/r001/events") as answer:
                    lines = answer.aiter_lines()
                    assert await anext(lines) == "event: RolloutCreated"
                    scope.cancel()
                    with suppress(httpx2.RemoteProtocolError):  # cut off, which is what was asked for
                        async for _line in lines:
                            pass
                with pytest.raises(httpx2.ConnectError):
                    await client.get("/healthz")
    assert fake.subscriptions == 0
