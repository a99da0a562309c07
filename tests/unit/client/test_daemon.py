"""The client against a daemon that is played."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from orchestrator.client import connection, streams
from orchestrator.client.daemon import Daemon
from orchestrator.errors import ConfigurationError, DaemonError, NotFoundError

Answer = Callable[[httpx2.Request], httpx2.Response]


def against(answer: Answer, **fields: Any) -> Daemon:
    return Daemon("http://daemon:8080/", transport=httpx2.MockTransport(answer), **fields)


def stream(*events: tuple[int, str, dict[str, Any]], closed: str | None = None) -> httpx2.Response:
    text = "".join(f"id: {n}\nevent: {name}\ndata: {json.dumps(data)}\n\n" for n, name, data in events)
    if closed:
        text += f"event: closed\ndata: {json.dumps({'reason': closed})}\n\n"
    return httpx2.Response(200, headers={"Content-Type": "text/event-stream"}, text=text)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PAUSES_SECONDS", (0.0,))


@pytest.mark.parametrize("server", ["", "daemon:8080", "ftp://daemon", "http://", "http://[::1", "nonsense"])
def test_an_address_that_cannot_be_one_is_refused(server: str) -> None:
    with pytest.raises(ConfigurationError, match="not the address"):
        Daemon(server)


async def test_listings_are_followed_over_their_pages() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        assert request.url.params.get_list("state") == ["behind", "ahead"]
        if "cursor" not in request.url.params:
            return httpx2.Response(200, json={"items": [{"tenant": "a"}], "next_cursor": "x"})
        assert request.url.params["cursor"] == "x"
        return httpx2.Response(200, json={"items": [{"tenant": "b"}], "next_cursor": None})

    async with against(answer) as daemon:
        found = await daemon.tenants(select="tier=free", states=["behind", "ahead"])
    assert [tenant["tenant"] for tenant in found] == ["a", "b"]


async def test_a_limit_stops_the_paging() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        assert request.url.params["limit"] == "2"
        return httpx2.Response(200, json={"items": [{"id": "1"}, {"id": "2"}], "next_cursor": "more"})

    async with against(answer) as daemon:
        assert len(await daemon.rollouts(limit=2)) == 2


async def test_the_token_and_the_idempotency_key_are_sent() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        assert request.headers["Authorization"] == "Bearer s3cret"
        assert request.headers["Idempotency-Key"] == "k1"
        assert json.loads(request.content) == {"track": "app", "to": "head"}
        return httpx2.Response(201, json={"id": "r1"})

    async with against(answer, token="s3cret") as daemon:
        assert (await daemon.start_rollout({"track": "app", "to": "head"}, idempotency_key="k1"))["id"] == "r1"


async def test_a_daemon_that_is_asked_too_often_is_asked_again_when_it_says() -> None:
    answers = iter(["0", "0", None])

    def answer(request: httpx2.Request) -> httpx2.Response:
        later = next(answers)
        if later is None:
            return httpx2.Response(200, json={"targets": 1, "sources": []})
        return httpx2.Response(429, headers={"Retry-After": later}, json={"title": "too often", "request_id": "r7"})

    async with against(answer) as daemon:
        assert (await daemon.registry())["targets"] == 1


@pytest.mark.parametrize("later", ["0", "3600", "soon"])
async def test_but_not_for_ever(later: str) -> None:
    asked = 0

    def answer(request: httpx2.Request) -> httpx2.Response:
        nonlocal asked
        asked += 1
        return httpx2.Response(429, headers={"Retry-After": later}, json={"title": "too often", "request_id": "r7"})

    async with against(answer) as daemon:
        with pytest.raises(DaemonError, match=r"too often \(request r7\)"):
            await daemon.registry()
    assert asked == (connection.PATIENCE if later == "0" else 1)


async def test_an_id_stays_one_part_of_the_path() -> None:
    seen = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.url.raw_path)
        return httpx2.Response(404, json={"title": "x", "detail": "there is no rollout", "status": 404})

    async with against(answer) as daemon:
        with pytest.raises(NotFoundError):
            await daemon.command("a/../b?c", "abort")
    assert seen == [b"/api/v1/rollouts/a%2F..%2Fb%3Fc/abort"]


async def test_a_daemon_that_does_not_answer_is_named_with_the_way_out() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("connection refused", request=request)

    async with against(answer) as daemon:
        assert not await daemon.ready()
        with pytest.raises(DaemonError, match="http://daemon:8080: connection refused") as caught:
            await daemon.rollout("r1")
    assert "orchestrator serve" in (caught.value.remedy or "")


async def test_an_answer_that_is_no_json_is_not_a_daemons() -> None:
    async with against(lambda request: httpx2.Response(200, text="<html>")) as daemon:
        with pytest.raises(DaemonError, match="not like a daemon"):
            await daemon.reload()


async def test_events_are_taken_up_where_the_connection_broke() -> None:
    asked = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.headers["Last-Event-ID"])
        match len(asked):
            case 1:
                return stream((1, "RolloutCreated", {"total": 2}), (2, "MigrationStarted", {}))
            case 2:
                raise httpx2.ConnectError("refused", request=request)
            case 3:
                return httpx2.Response(503, json={"title": "x", "detail": "starting"})
            case 4:
                return stream((3, "MigrationFinished", {}), closed="stopping")
            case _:
                return stream((4, "RolloutStateChanged", {}), closed="finished")

    heard: list[str | None] = []
    async with against(answer) as daemon:
        events = [(event.sequence, event.name) async for event in daemon.events("r1", on_link=heard.append)]
    assert [sequence for sequence, _ in events] == [1, 2, 3, 4]
    assert asked == ["0", "2", "2", "2", "3"]
    assert heard == ["the stream ended", None, "the daemon is stopping", None]


async def test_a_daemon_that_stays_away_is_given_up() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused", request=request)

    async with against(answer) as daemon:
        with pytest.raises(DaemonError, match="no daemon can be reached"):
            [event async for event in daemon.events("r1", patience_seconds=0.01)]


async def test_events_of_a_rollout_that_is_not_there_are_not_waited_for() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(404, json={"title": "x", "detail": "there is no rollout r1"})

    async with against(answer) as daemon:
        with pytest.raises(NotFoundError, match="no rollout r1"):
            [event async for event in daemon.events("r1")]
