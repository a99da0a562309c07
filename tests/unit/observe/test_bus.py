from __future__ import annotations

import asyncio

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import TaskStatus
from structlog.testing import capture_logs

from orchestrator import events
from orchestrator.observe.bus import Bus, Delivery
from tests.unit.observe import samples


def test_subscribers_get_events_in_the_order_they_subscribed() -> None:
    bus, seen = Bus(), list[tuple[str, events.Event]]()
    bus.subscribe(lambda event: seen.append(("first", event)))
    bus.subscribe(lambda event: seen.append(("second", event)))
    bus.publish(event := samples.started())
    assert seen == [("first", event), ("second", event)]


def test_unsubscribing_ends_it() -> None:
    bus, seen = Bus(), list[events.Event]()
    unsubscribe = bus.subscribe(seen.append)
    unsubscribe()
    bus.publish(samples.started())
    assert seen == []


def test_a_failing_subscriber_is_told_of_once_and_stops_nobody() -> None:
    def broken(event: events.Event) -> None:
        raise RuntimeError("boom")

    bus, seen = Bus(), list[events.Event]()
    bus.subscribe(broken)
    bus.subscribe(seen.append)
    with capture_logs() as logged:
        bus.publish(samples.started())
        bus.publish(samples.finished())
    assert len(seen) == 2
    assert [line["event"] for line in logged] == ["subscriber_failed"]
    assert "broken" in logged[0]["subscriber"]


async def test_a_stream_carries_events_with_their_sequence() -> None:
    bus = Bus()
    async with bus.stream(lambda event: isinstance(event, events.MigrationEvent)) as stream:
        bus.publish(samples.created(), 1)
        bus.publish(first := samples.started(), 2)
        bus.publish(second := samples.retried())
        assert await anext(stream) == Delivery(first, 2)
        assert await anext(stream) == Delivery(second, None)


async def test_a_reader_that_waits_is_woken() -> None:
    bus, got = Bus(), list[Delivery]()

    async def read(*, task_status: TaskStatus[None]) -> None:
        async with bus.stream() as stream:
            task_status.started()
            got.append(await anext(stream))

    async with anyio.create_task_group() as tasks:
        await tasks.start(read)
        await anyio.lowlevel.checkpoint()
        bus.publish(event := samples.started(), 7)
    assert got == [Delivery(event, 7)]


async def test_a_slow_reader_loses_the_oldest_and_is_told_how_many() -> None:
    bus = Bus()
    async with bus.stream(maxsize=3) as stream:
        for sequence in range(1, 11):
            bus.publish(samples.started(), sequence)
        got = [await anext(stream) for _ in range(3)]
        bus.publish(samples.started(), 11)
        got.append(await anext(stream))
    assert [(delivery.sequence, delivery.lost) for delivery in got] == [(8, 7), (9, 0), (10, 0), (11, 0)]


async def test_a_left_stream_gets_nothing_more() -> None:
    bus = Bus()
    async with bus.stream() as stream:
        pass
    bus.publish(samples.started())
    with anyio.move_on_after(0.01) as scope:
        await anext(stream)
    assert scope.cancelled_caught


async def test_a_failing_predicate_is_told_of_once_and_stops_nobody() -> None:
    bus = Bus()
    with capture_logs() as logged:
        async with bus.stream(lambda event: 1 / 0 > 0), bus.stream() as healthy:
            bus.publish(samples.started())
            bus.publish(samples.started())
            assert (await anext(healthy)).lost == 0
    assert [line["event"] for line in logged] == ["subscriber_failed"]


def test_publishing_needs_no_event_loop() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()
    Bus().publish(samples.started())
