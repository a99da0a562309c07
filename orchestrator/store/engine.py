"""Opens the store: the only way in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from orchestrator.events import Event
from orchestrator.store import leadership, lock, pooler, schema
from orchestrator.store.audit import StoreAudit
from orchestrator.store.backfill_orders import StoreBackfillOrders
from orchestrator.store.backfills import Backfilling, StoreBackfills
from orchestrator.store.commands import Commands
from orchestrator.store.connections import Connections
from orchestrator.store.drift import StoreDrift
from orchestrator.store.durations import StoreDurations
from orchestrator.store.fence import Fence
from orchestrator.store.freezing import StoreFreeze
from orchestrator.store.leadership import Candidate
from orchestrator.store.ledger import StoreLedger
from orchestrator.store.outbox import StoreOutbox
from orchestrator.store.pending import StorePending
from orchestrator.store.place import Place, locate
from orchestrator.store.plans import StorePlans
from orchestrator.store.process import Identity, purpose, this_process
from orchestrator.store.schedules import StoreSchedules
from orchestrator.store.tokens import StoreTokens
from orchestrator.store.writer import Publish, Writer, open_writer

LEASE_SECONDS = 15.0


class Store:
    """An open store."""

    def __init__(
        self, connections: Connections, writer: Writer, me: Identity, fence: Fence, lease_seconds: float
    ) -> None:
        self.place: Place = connections.place
        self._connections = connections
        self.ledger = StoreLedger(connections, writer)
        self.plans = StorePlans(connections, writer)
        self.freeze = StoreFreeze(connections, writer)
        self.schedules = StoreSchedules(connections, writer)
        self.durations = StoreDurations(connections)
        self.tokens = StoreTokens(connections, writer)
        self.audit = StoreAudit(connections, writer)
        self.backfills = Backfilling(StoreBackfills(connections, writer), StoreBackfillOrders(connections, writer))
        self.drift = StoreDrift(connections, writer)
        self.pending = StorePending(connections, writer)
        self.commands = Commands(connections, fence)
        self.outbox = StoreOutbox(connections, writer, fence)
        self._me, self._fence, self.lease_seconds = me, fence, lease_seconds

    def errors(self) -> Mapping[str, int]:
        """How many reads and writes have failed since the store was opened."""
        return self._connections.errors

    @property
    def mark(self) -> str:
        """What no other process that uses the store has."""
        return self._me.mark

    def deposed(self) -> frozenset[str]:
        """The marks of the processes that led before us and did not give the lead back; empty while we do not lead."""
        return self._fence.deposed

    def driver_lock(self, on_lost: Callable[[str], None]) -> AbstractAsyncContextManager[object]:
        """Be the one process that drives the rollouts of this store; see `lock.driver_lock`."""
        return lock.driver_lock(self.place, self._me, self._fence, self.lease_seconds, on_lost)

    def standing(self, on_lost: Callable[[str], None]) -> AbstractAsyncContextManager[Candidate]:
        """Ask for the lead of a PostgreSQL store, and keep it; see `leadership.standing`."""
        return leadership.standing(self.place, self._me, self._fence, self.lease_seconds, on_lost)


def _nobody(event: Event, sequence: int | None) -> None:
    pass


@asynccontextmanager
async def open_store(
    url: str, publish: Publish = _nobody, *, lease_seconds: float = LEASE_SECONDS, make: bool = True
) -> AsyncIterator[Store]:
    """Open the store at `sqlite:///orchestrator.db` or `postgresql://…`, its tables made or upgraded.

    Not `make`: a store that is missing, or is not of this release, is left as it is; a StoreError tells of it.

    `publish` is called with each event and its sequence number once it is durable, in order, from the loop's thread;
    it must not block. Leaving writes what waits. `lease_seconds`: how long the lead of a PostgreSQL store outlives the
    last word of who has it. Raises StoreError with a remedy, never with the password.
    """
    place, me, fence = locate(url), this_process(), Fence()
    connections = Connections(place, purpose=purpose("store", me.mark), idle_seconds=lease_seconds)
    try:
        await pooler.refuse(place)
        await (schema.bring_to_head(connections) if make else schema.require_head(connections))
        async with open_writer(connections, publish, fence) as writer:
            yield Store(connections, writer, me, fence, lease_seconds)
    finally:
        await connections.dispose()
