"""Opens the store: the only way in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from orchestrator.events import Event
from orchestrator.store import lock, schema
from orchestrator.store.connections import Connections
from orchestrator.store.ledger import StoreLedger
from orchestrator.store.place import Place, locate
from orchestrator.store.plans import StorePlans
from orchestrator.store.writer import Publish, open_writer


class Store:
    """An open store."""

    def __init__(self, place: Place, ledger: StoreLedger, plans: StorePlans) -> None:
        self.place = place
        self.ledger = ledger
        self.plans = plans

    def driver_lock(self, on_lost: Callable[[], None]) -> AbstractAsyncContextManager[None]:
        """Be the one process that drives the rollouts of this store; see `lock.driver_lock`."""
        return lock.driver_lock(self.place, on_lost)


def _nobody(event: Event, sequence: int | None) -> None:
    pass


@asynccontextmanager
async def open_store(url: str, publish: Publish = _nobody) -> AsyncIterator[Store]:
    """Open the store at `sqlite:///orchestrator.db` or `postgresql://…`, its tables made or upgraded.

    `publish` is called with each event and its sequence number once it is durable, in order, from the loop's thread;
    it must not block. Leaving writes what waits. Raises StoreError with a remedy, never with the password.
    """
    place = locate(url)
    connections = Connections(place)
    try:
        await schema.bring_to_head(connections)
        async with open_writer(connections, publish) as writer:
            yield Store(place, StoreLedger(connections, writer), StorePlans(connections, writer))
    finally:
        await connections.dispose()
