"""The audit: what was done by whom, in a chain that tells when an entry is missing or was changed."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from orchestrator.access.acts import Pending
from orchestrator.access.chain import Anchor, Row, Verification
from orchestrator.store.connections import Connections
from orchestrator.store.recording import head_of
from orchestrator.store.tables import audit
from orchestrator.store.writer import Writer

PAGE = 500


class StoreAudit:
    """Reads the audit of a store, and records what no change of the store carries. Everything raises StoreError."""

    def __init__(self, connections: Connections, writer: Writer) -> None:
        self._connections, self._writer = connections, writer

    async def note(self, act: Pending) -> None:
        """Record an act, unless it is recorded; durable when this returns."""
        await self._writer.note(act)

    async def entries(self, *, after: int = 0, limit: int = PAGE) -> Sequence[Row]:
        """Oldest first, those that follow entry `after`."""
        wanted = select(audit).where(audit.c.sequence > after).order_by(audit.c.sequence).limit(limit)
        rows = await self._connections.read(lambda connection: connection.execute(wanted).all())
        return [Row(row.sequence, row.entry, row.hash) for row in rows]

    async def head(self) -> Anchor | None:
        """The store's note of the last entry; None when there is none any more."""
        return await self._connections.read(head_of)

    async def verified(self, anchors: Sequence[Anchor] = ()) -> Verification:
        """Follow the whole chain, while others may append to it."""
        before, found = await self.head(), Verification(anchors)
        while rows := await self.entries(after=found.last.sequence):
            found.read(rows)
        found.end_of_store(before, await self.head())
        return found
