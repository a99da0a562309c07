"""Group commit: one task writes for all, so hundreds of changes a moment cost a handful of transactions.

While one transaction is under way the next changes collect; they share the one after it. In a burst each waits a few
milliseconds more for others: a transaction costs the processor as much as ten changes in it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, TypeVar, cast

import anyio
import structlog
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from sqlalchemy import Connection

from orchestrator.access import acts
from orchestrator.access.acts import Act, Pending, Recorded
from orchestrator.errors import OrchestratorError, StoreError
from orchestrator.events import Audited, Event
from orchestrator.store import changes, recording
from orchestrator.store.changes import MigrationChange, Written
from orchestrator.store.connections import Connections
from orchestrator.store.fence import Fence
from orchestrator.store.lifetime import beside

Publish = Callable[[Event, int | None], None]
Work = Callable[[Connection], Written[Any]]
T = TypeVar("T")

TRANSACTION_LIMIT = 1_000
CLOSE_SECONDS = 10.0
# A burst lasts while transactions follow each other as fast as this; then each waits so long for others to join in.
BURST_SECONDS = 0.05
GATHER_SECONDS = 0.005

log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class Ticket:
    """A change on its way, and the caller that waits for it. A caller that is cancelled leaves it to be written.
    `pending`: the act that it is a part of."""

    change: MigrationChange | Work
    pending: Pending | None = None
    settled: anyio.Event = field(default_factory=anyio.Event)
    value: Any = None
    error: Exception | None = None

    def settle(self, value: Any = None, error: Exception | None = None) -> None:
        self.value, self.error = value, error
        self.settled.set()


def transactions(tickets: Iterable[Ticket]) -> Iterator[list[Ticket]]:
    """Split waiting changes into transactions, in order: neighbouring migration changes share one, others have their
    own."""
    for joinable, run in groupby(tickets, key=lambda ticket: isinstance(ticket.change, MigrationChange)):
        yield from map(list, changes.slices(list(run), TRANSACTION_LIMIT if joinable else 1))


class Writer:
    """Writes changes in the order in which they came, and publishes their events in the order of their numbers."""

    def __init__(self, connections: Connections, publish: Publish, fence: Fence) -> None:
        self._connections = connections
        self._publish = publish
        self._fence = fence
        streams = anyio.create_memory_object_stream[Ticket](float("inf"))
        self._send: MemoryObjectSendStream[Ticket] = streams[0]
        self._receive: MemoryObjectReceiveStream[Ticket] = streams[1]
        self._underway: list[Ticket] = []
        self._written = 0.0
        self._ended = anyio.Event()
        self._scope = anyio.CancelScope(shield=True)

    async def join(self, change: MigrationChange) -> None:
        """Return once the change is committed, together with others; raises why it was refused, or StoreError."""
        refused = await self._wait(change)
        if refused is not None:
            raise refused

    async def alone(self, work: Callable[[Connection], Written[T]]) -> T:
        """Return what the work answers once its own transaction is committed; raises what it raises, or StoreError.

        If it is a part of an act that is not recorded yet, the transaction records that, too.
        """
        return cast(T, await self._wait(work, acts.pending()))

    async def note(self, act: Pending) -> None:
        """Record an act by itself, unless it is recorded. Raises StoreError."""
        await self._wait(lambda connection: Written(None), act)

    async def _wait(self, change: MigrationChange | Work, pending: Pending | None = None) -> Any:
        ticket = Ticket(change, pending)
        try:
            self._send.send_nowait(ticket)
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            raise closed() from None
        await ticket.settled.wait()
        if ticket.error is not None:
            raise ticket.error
        return ticket.value

    async def run(self) -> None:
        """Write until closed. Shielded: what is cancelled elsewhere still has its end to record."""
        try:
            with self._scope:
                async for ticket in self._receive:
                    self._underway = [ticket]
                    if anyio.current_time() - self._written < BURST_SECONDS:
                        await anyio.sleep(GATHER_SECONDS)
                    self._underway += self._waiting()
                    for part in transactions(self._underway):
                        await self._write(part)
                    self._underway, self._written = [], anyio.current_time()
        finally:
            for ticket in [*self._underway, *self._waiting()]:
                if not ticket.settled.is_set():
                    ticket.settle(error=closed())
            self._receive.close()
            self._ended.set()

    async def aclose(self) -> None:
        """Take no more changes, write those that wait; after ten seconds they fail."""
        self._send.close()
        with anyio.move_on_after(CLOSE_SECONDS, shield=True):
            await self._ended.wait()
        self._scope.cancel()

    def _waiting(self) -> Iterator[Ticket]:
        while True:
            try:
                yield self._receive.receive_nowait()
            except (anyio.WouldBlock, anyio.EndOfStream, anyio.ClosedResourceError):
                return

    async def _write(self, tickets: Sequence[Ticket]) -> None:
        pending = tickets[0].pending
        try:
            act = pending.act() if pending is not None and not pending.settled else None
            written = await self._connections.write(fenced(self._fence, _work(tickets, act)))
        except Exception as exc:
            for ticket in tickets:
                ticket.settle(error=_own(exc))
            return
        if pending is not None and (written.recorded or written.unchanged):
            pending.settle(written.recorded)
        self._tell(written)
        for ticket, value in zip(tickets, written.value, strict=True):
            ticket.settle(value)

    def _tell(self, written: Written[Any]) -> None:
        told: list[tuple[Event, int | None]] = list(written.events)
        if written.recorded is not None:
            told.append((_audited(written.recorded), None))
        for event, sequence in told:
            try:
                self._publish(event, sequence)
            except Exception:
                # It is durable all the same: a subscriber's bug must not fail the change that it was told of.
                log.exception("event_not_published", event_name=event.name, sequence=sequence)


def _work(tickets: Sequence[Ticket], act: Act | None) -> Work:
    """One transaction for the tickets, and for the act that they are; it answers a value for each."""
    joined = [ticket.change for ticket in tickets if isinstance(ticket.change, MigrationChange)]

    def work(connection: Connection) -> Written[Any]:
        if joined:
            return changes.save_each(connection, joined)
        written = cast(Work, tickets[0].change)(connection)
        recorded = recording.append(connection, act, written.events) if act and not written.unchanged else None
        return Written([written.value], written.events, written.unchanged, recorded)

    return work


def _audited(recorded: Recorded) -> Audited:
    """Also the anchor of the chain, for whoever keeps the log elsewhere."""
    act = recorded.act
    return Audited(
        sequence=recorded.sequence,
        hash=recorded.hash,
        action=act.action,
        by=act.by,
        outcome=act.outcome,
        rollout=act.rollout,
        address=act.address,
        reason=act.reason,
    )


def fenced(fence: Fence, work: Callable[[Connection], T]) -> Callable[[Connection], T]:
    """The work, in a transaction that nobody takes the lead from us in."""

    def checked(connection: Connection) -> T:
        fence.check(connection)
        return work(connection)

    return checked


def _own(exc: Exception) -> Exception:
    """An exception for one caller of several: raising one object in many tasks would mix their tracebacks."""
    if not isinstance(exc, StoreError):
        return exc
    own = type(exc)(exc.message, remedy=exc.remedy)
    own.__cause__ = exc.__cause__
    return own


def closed() -> OrchestratorError:
    return StoreError("the store was closed before the change was written", remedy="start the daemon again")


@asynccontextmanager
async def open_writer(connections: Connections, publish: Publish, fence: Fence) -> AsyncIterator[Writer]:
    """A writer that works beside the block; leaving writes what waits."""
    writer = Writer(connections, publish, fence)
    async with beside(writer.run, writer.aclose):
        yield writer
