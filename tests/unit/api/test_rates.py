from __future__ import annotations

import anyio
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.api import application, rates
from orchestrator.api.rates import Buckets
from orchestrator.settings import load
from tests.unit.api.fake import FakeOrchestrator, select


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_then_a_steady_rate() -> None:
    clock = Clock()
    buckets = Buckets(2.0, clock)
    assert [buckets.take("a") for _ in range(10)] == [0.0] * 10
    assert buckets.take("a") == pytest.approx(0.5)
    clock.now += 0.25
    assert buckets.take("a") == pytest.approx(0.25), "what was refused took nothing"
    clock.now += 0.25
    assert buckets.take("a") == 0.0
    assert buckets.take("a") > 0


def test_each_client_has_its_own() -> None:
    buckets = Buckets(0.2, Clock())
    assert (buckets.take("a"), buckets.take("b")) == (0.0, 0.0)
    assert buckets.take("a") > 0


def test_no_limit() -> None:
    assert not any(Buckets(0).take("a") for _ in range(1000))


def test_only_so_many_clients_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "MOST_CLIENTS", 3)
    buckets = Buckets(0.2, Clock())
    for client in "abcab":
        buckets.take(client)
    assert buckets.take("d") == 0.0  # c, which was quiet longest, is forgotten
    assert buckets.take("a") > 0
    assert buckets.take("c") == 0.0
    assert len(buckets._buckets) == 3


@given(st.lists(st.floats(0, 10), max_size=200), st.floats(0.1, 50))
def test_no_more_than_the_burst_and_the_rate(pauses: list[float], rate: float) -> None:
    clock, taken = Clock(), 0
    buckets = Buckets(rate, clock)
    for pause in pauses:
        clock.now += pause
        taken += buckets.take("a") == 0.0
    assert taken <= max(1.0, rate * rates.BURST_SECONDS) + sum(pauses) * rate + 1e-6


@given(st.text(max_size=40) | st.ip_addresses().map(str))
def test_any_address_has_a_bucket(address: str) -> None:
    assert isinstance(rates.client_of(address), str)


@pytest.fixture
async def limited(fake: FakeOrchestrator) -> httpx2.AsyncClient:
    app = application.create(
        fake,
        select=select,
        metrics=lambda accept: (b"up 1\n", "text/plain"),
        stopping=anyio.Event(),
        requests_per_second=0.2,  # one at once
    )
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://daemon")


async def test_who_asks_too_often_is_told_when_to_ask_again(limited: httpx2.AsyncClient) -> None:
    assert (await limited.get("/api/v1/rollouts")).status_code == 200
    answer = await limited.post("/api/v1/rollouts", json={"track": "app", "to": "head"})
    assert answer.status_code == 429
    assert answer.headers["content-type"] == "application/problem+json"
    assert 1 <= int(answer.headers["retry-after"]) <= 5
    assert answer.json()["retry_after_seconds"] == int(answer.headers["retry-after"])
    assert answer.json()["type"] == "urn:orchestrator:problem:too-many-requests"


async def test_health_and_metrics_are_always_answered(limited: httpx2.AsyncClient) -> None:
    for path in ("/healthz", "/readyz", "/metrics") * 3:
        assert (await limited.get(path)).status_code == 200


def test_the_default_is_generous() -> None:
    assert load().requests_per_second == 100
    assert load(requests_per_second=0).requests_per_second == 0
