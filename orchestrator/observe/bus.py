"""Hands events to whoever listens, in the process.

Everything here runs on the event loop's thread; other threads publish through the loop's `call_soon_threadsafe`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
import structlog

from orchestrator.events import Event

Subscriber = Callable[[Event], object]
Predicate = Callable[[Event], bool]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event as one stream's reader gets it.

    `sequence` is its place in its rollout's durable stream, None for an event that is not stored; `lost` says how
    many deliveries were dropped just before this one because the reader was slow.
    """

    event: Event
    sequence: int | None = None
    lost: int = 0


class Stream:
    """A bounded buffer of deliveries for one reader. Iterate over it; it ends only with its `Bus.stream` block."""

    def __init__(self, predicate: Predicate, maxsize: int) -> None:
        self._wanted = predicate
        self._buffer: deque[tuple[Event, int | None]] = deque(maxlen=maxsize)
        self._lost = 0
        self._filled = anyio.Event()

    def offer(self, event: Event, sequence: int | None) -> None:
        if not self._wanted(event):
            return
        if len(self._buffer) == self._buffer.maxlen:
            self._lost += 1
        self._buffer.append((event, sequence))
        self._filled.set()

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Delivery:
        while not self._buffer:
            self._filled = anyio.Event()
            await self._filled.wait()
        (event, sequence), lost, self._lost = self._buffer.popleft(), self._lost, 0
        return Delivery(event, sequence, lost)


class Bus:
    def __init__(self) -> None:
        self._subscribers: list[Subscriber] = []
        self._streams: list[Stream] = []
        self._failed: set[Subscriber | Stream] = set()

    def publish(self, event: Event, sequence: int | None = None) -> None:
        """Tell everybody, in the order they subscribed. Never blocks, never raises."""
        for subscriber in tuple(self._subscribers):
            try:
                subscriber(event)
            except Exception:
                self._tell_of(subscriber, event)
        for stream in tuple(self._streams):
            try:
                stream.offer(event, sequence)
            except Exception:
                self._tell_of(stream, event)

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call `subscriber` with every event from now on, until the returned function is called.

        One that raises is told of once, in the log, and goes on being called.
        """
        self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber)

    @asynccontextmanager
    async def stream(self, predicate: Predicate = lambda event: True, *, maxsize: int = 1000) -> AsyncIterator[Stream]:
        """The events that `predicate` accepts, from the moment the block is entered."""
        stream = Stream(predicate, maxsize)
        self._streams.append(stream)
        try:
            yield stream
        finally:
            self._streams.remove(stream)
            self._failed.discard(stream)

    def _tell_of(self, listener: Subscriber | Stream, event: Event) -> None:
        if listener in self._failed:
            return
        self._failed.add(listener)
        name = getattr(listener, "__qualname__", type(listener).__name__)
        log.exception("subscriber_failed", subscriber=name, event_name=event.name)
