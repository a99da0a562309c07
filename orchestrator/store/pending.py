"""Since when targets have had something to apply: it outlives the process that saw it, and whoever leads next reads
it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, delete, select

from orchestrator.registry.model import TargetKey
from orchestrator.store.changes import Written, slices
from orchestrator.store.connections import Connections
from orchestrator.store.inserting import into
from orchestrator.store.tables import pending_targets
from orchestrator.store.writer import Writer

# Rows of one statement.
SLICE = 500


class StorePending:
    """Everything raises StoreError."""

    def __init__(self, connections: Connections, writer: Writer) -> None:
        self._connections, self._writer = connections, writer

    async def listed(self) -> Mapping[TargetKey, datetime]:
        rows = await self._connections.read(lambda connection: connection.execute(select(pending_targets)).all())
        return {TargetKey(row.tenant, row.track): row.since for row in rows}

    async def change(self, pending: Mapping[TargetKey, datetime], gone: Collection[TargetKey]) -> None:
        """Write since when these are, and forget those that are no more; all of it, or nothing."""
        rows = [{"tenant": tenant, "track": track, "since": since} for (tenant, track), since in pending.items()]
        await self._writer.alone(lambda connection: _change(connection, rows, gone))


def _change(connection: Connection, rows: Sequence[dict[str, object]], gone: Collection[TargetKey]) -> Written[None]:
    it = pending_targets.c
    fresh = into(connection, pending_targets)
    upsert = fresh.on_conflict_do_update(index_elements=["tenant", "track"], set_={"since": fresh.excluded["since"]})
    for part in slices(rows, SLICE):
        connection.execute(upsert, list(part))
    for track in sorted({key.track for key in gone}):
        tenants = sorted(key.tenant for key in gone if key.track == track)
        for names in slices(tenants, SLICE):
            connection.execute(delete(pending_targets).where(it.track == track, it.tenant.in_(names)))
    return Written(None)
