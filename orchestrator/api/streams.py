"""A rollout's events as they happen (Server-Sent Events).

What is sent is the rollout's durable stream and nothing else: the in-process events only say that there is more to
read. So a client that comes back with `Last-Event-ID` misses nothing and sees nothing twice, a slow one loses
nothing, and events that another process wrote are sent too, if later.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated

import anyio
from fastapi import APIRouter, Depends, Header
from fastapi.sse import EventSourceResponse, ServerSentEvent

from orchestrator.api import ports, problems
from orchestrator.api.dependencies import Admitted, Service, Stopping
from orchestrator.errors import UnavailableError
from orchestrator.events import RolloutStateChanged
from orchestrator.rollout.ports import StoredEvent
from orchestrator.rollout.state import RolloutState

router = APIRouter(prefix="/api/v1/rollouts", tags=["rollouts"])

# How often the store is asked unprompted, and how long events are gathered so that a burst is one question.
POLL_SECONDS = 5.0
GATHER_SECONDS = 0.1


@dataclass
class Feed:
    """One client's place in a rollout's durable stream: `last` was sent, `state` is the rollout's as of there."""

    service: ports.Orchestrator
    rollout_id: str
    stopping: anyio.Event
    state: str
    last: int = 0
    admitted: Callable[[], Awaitable[bool]] | None = None
    _more: anyio.Event = field(default_factory=anyio.Event)
    _asked_at: float = field(default_factory=anyio.current_time)

    async def events(self) -> AsyncIterator[ServerSentEvent]:
        """Ends with a `closed` event that says why."""
        while not self.stopping.is_set():
            try:
                if not await self._still_admitted():
                    yield closed("unauthenticated", self.state)
                    return
                stored = await self.service.events(self.rollout_id, after=self.last)
            except UnavailableError:
                yield closed("unavailable", self.state)
                return
            for event in stored:
                self._pass(event)
                yield told(event)
            if not stored and RolloutState(self.state).finished:
                yield closed("finished", self.state)
                return
            if not stored:
                await self._wait()
        yield closed("stopping", self.state)

    async def listen(self) -> None:
        async for _event in self.service.subscribe(self.rollout_id):
            self._more.set()

    async def watch(self) -> None:
        await self.stopping.wait()
        self._more.set()

    async def _still_admitted(self) -> bool:
        """Asked at intervals: a token may end, or be revoked, while its stream is open."""
        now = anyio.current_time()
        if self.admitted is None or now - self._asked_at < POLL_SECONDS:
            return True
        self._asked_at = now
        return await self.admitted()

    def _pass(self, event: StoredEvent) -> None:
        self.last = event.sequence
        if event.name == RolloutStateChanged.__name__:
            self.state = str(event.data["state"])

    async def _wait(self) -> None:
        with anyio.move_on_after(POLL_SECONDS):
            await self._more.wait()
            await anyio.sleep(GATHER_SECONDS)
        self._more = anyio.Event()  # before the next reading: what comes during it asks for another


def told(event: StoredEvent) -> ServerSentEvent:
    return ServerSentEvent(event=event.name, id=str(event.sequence), data=dict(event.data))


def closed(reason: str, state: str) -> ServerSentEvent:
    """The last event. After `finished` there is nothing to come back for; otherwise resume from the last id."""
    return ServerSentEvent(event="closed", data={"reason": reason, "state": state})


async def _opened(
    rollout_id: str,
    service: Service,
    stopping: Stopping,
    admitted: Admitted,
    last_event_id: Annotated[
        int, Header(alias="Last-Event-ID", ge=0, le=2**31 - 2, description="Send what follows this event.")
    ] = 0,
) -> AsyncIterator[Feed]:
    view = await service.rollout(rollout_id)
    await _refuse_unknown(service, rollout_id, last_event_id)
    feed = Feed(service, rollout_id, stopping, view.rollout.state, last_event_id, admitted)
    # Here and not in the endpoint: a task group must be left by the task that entered it, and an abandoned
    # generator is closed by the garbage collector.
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed.listen)
        tasks.start_soon(feed.watch)
        try:
            yield feed
        finally:
            tasks.cancel_scope.cancel()


async def _refuse_unknown(service: ports.Orchestrator, rollout_id: str, last: int) -> None:
    """A client that has seen what this store has not, say one that was restored, would wait for events that are told
    already, and never know."""
    if last and not any(event.sequence == last for event in await service.events(rollout_id, after=last - 1)):
        raise problems.Refused(
            problems.invalid(
                [problems.FieldProblem(field="header.last-event-id", message="the rollout has no such event")],
                remedy="open the stream without it: everything is told from the beginning",
            )
        )


@router.get("/{rollout_id}/events", response_class=EventSourceResponse)
async def rollout_events(feed: Annotated[Feed, Depends(_opened)]) -> AsyncIterator[ServerSentEvent]:
    """Every event since the beginning or since `Last-Event-ID`, then as they happen; `closed` is the last one."""
    async for event in feed.events():
        yield event
