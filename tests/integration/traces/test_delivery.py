"""What becomes of traces when the receiver is away, and of rollouts: nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
import structlog

from orchestrator.databases.embedded import Server, free_port
from orchestrator.errors import ConfigurationError
from orchestrator.events import now
from orchestrator.observe import otlp, trace_ids
from orchestrator.observe.spans import Span
from orchestrator.registry.model import Registry
from orchestrator.rollout.state import Direction
from tests import collector as collectors
from tests import engine, environments
from tests.engine import until
from tests.servers import MakeDatabases

Lines = list[MutableMapping[str, Any]]


@pytest.fixture
def said() -> Iterator[Lines]:
    """Log lines about traces, whichever thread says them."""
    with structlog.testing.capture_logs() as lines:
        yield lines


def _told(said: Lines, name: str) -> Lines:
    return [line for line in said if line["event"] == name]


@pytest.fixture
async def registry(pg: Server, make_databases: MakeDatabases, tmp_path: Path) -> Registry:
    config = environments.make_project(tmp_path / "project")
    environments.add_tables(tmp_path / "project", ["alpha"])
    databases = await make_databases(3)
    return engine.registry_of([environments.track_of(config)], [engine.shard_of(pg)], engine.targets_of(databases))


async def test_a_receiver_that_is_down_is_told_of_once_and_nobody_waits(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, said: Lines
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://s3cret@127.0.0.1:{free_port()}/?key=s3cret")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    async with engine.running(registry, traces="otlp") as running:
        assert (await running.rollout()).counts == {"succeeded": 3}
        await until(lambda: bool(_told(said, "traces_undelivered")))
        assert (await running.rollout("base", direction=Direction.DOWNGRADE)).counts == {"succeeded": 3}
    (line,) = _told(said, "traces_undelivered")
    assert "s3cret" not in str(said)
    assert line["remedy"]


async def test_one_that_answers_500_is_told_of_and_so_is_its_return(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, said: Lines
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    with collectors.collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        collector.status = 500
        async with engine.running(registry, traces="otlp") as running:
            assert (await running.rollout()).counts == {"succeeded": 3}
            await until(lambda: bool(_told(said, "traces_undelivered")) and collector.requests > 0)
            collector.status = 200
            view = await running.rollout("base", direction=Direction.DOWNGRADE)
            await until(lambda: bool(_told(said, "traces_delivered_again")))
        assert len(_told(said, "traces_undelivered")) == 1
        assert _told(said, "traces_delivered_again")[0]["lost"] > 0
        trace = trace_ids.shown_trace(trace_ids.of_rollout(view.rollout.id))
        assert any(span.trace == trace for span in collector.spans)


async def test_one_that_never_answers_holds_up_neither_a_rollout_nor_the_end(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, said: Lines
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    with collectors.collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        collector.hold.set()
        async with engine.running(registry, traces="otlp", shutdown_grace_seconds=1) as running:
            assert (await running.rollout()).counts == {"succeeded": 3}
            await until(lambda: collector.requests > 0)
            assert not collector.spans, "it has answered nobody, and the rollout has ended"
        assert not collector.spans, "nor has it now, when the process's end is over"
        assert [line["seconds"] for line in _told(said, "traces_cut_short")] == [1]


async def test_what_there_is_no_room_for_is_told_as_lost(monkeypatch: pytest.MonkeyPatch, said: Lines) -> None:
    """By a receiver that answers, though later than spans come."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "4")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2")
    with collectors.collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        collector.hold.set()
        sender = otlp.opened()
        assert sender is not None
        for number in range(1, 8):
            sender.send(Span("rollout", 7, number, None, now(), now(), {}))
        assert [(line["event"], line["spans"]) for line in said if "spans" in line] == [("traces_undelivered", 1)]
        collector.released.set()
        await until(lambda: len(collector.spans) == 4)
        sender.send(Span("rollout", 7, 8, None, now(), now(), {}))
        await until(lambda: bool(_told(said, "traces_delivered_again")))
        sender.close(5)
    assert sorted(int(span.id, 16) for span in collector.spans) == [1, 2, 3, 4, 8]
    assert [line["lost"] for line in _told(said, "traces_delivered_again")] == [3]


async def test_without_traces_nothing_is_recorded_nor_sent(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("nobody wants to know")

    monkeypatch.setattr("orchestrator.execute.tracing.SegmentRan", refuse)
    monkeypatch.setattr("orchestrator.databases.scripts.Message.sent", refuse)
    with collectors.collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        threads = {thread.name for thread in threading.enumerate()}
        async with engine.running(registry) as running:
            assert running.parts.tracing is None
            assert (await running.rollout()).counts == {"succeeded": 3}
            assert not any("Otel" in thread.name for thread in threading.enumerate() if thread.name not in threads)
        assert not collector.requests


async def test_a_sampler_that_wants_none_gets_none(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    with collectors.collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
        async with engine.running(registry, traces="otlp") as running:
            view = await running.rollout()
            assert running.parts.tracing is not None
            assert running.parts.tracing.trace_of(view.rollout.id) is None
        assert not collector.spans


def test_missing_packages_are_named_with_what_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigurationError) as caught:
        otlp.opened({})
    assert "migration-orchestrator[otel]" in (caught.value.remedy or "")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318/s3cret"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named_without_its_value(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        otlp.opened({name: value})
    assert name in caught.value.message
    assert value not in str(caught.value)


def test_what_is_said_of_traces_goes_before_what_is_said_of_all_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics and logs of others may go by gRPC."""
    given = {
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://127.0.0.1:{free_port()}/v1/traces",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    sender = otlp.opened(given)
    assert sender is not None
    sender.close(5)


def test_the_sdk_can_be_switched_off() -> None:
    assert otlp.opened({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}) is None
