"""What was found when schemas were compared: it outlives a restart, and standbys show it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, delete, insert, or_, select

from orchestrator.plan.drift import Standing
from orchestrator.plan.drift_records import Record
from orchestrator.registry.model import TargetKey
from orchestrator.store.changes import Written, slices
from orchestrator.store.connections import Connections
from orchestrator.store.rows import storable, storable_json
from orchestrator.store.tables import drift, holds
from orchestrator.store.writer import Writer

# Rows of one statement.
SLICE = 500


class StoreDrift:
    """Everything raises StoreError."""

    def __init__(self, connections: Connections, writer: Writer) -> None:
        self._connections, self._writer = connections, writer

    async def listed(
        self,
        *,
        track: str | None = None,
        standings: Collection[Standing] = (),
        limit: int | None = None,
        after: TargetKey | None = None,
    ) -> Sequence[Record]:
        """By tenant and track."""
        it = drift.c
        wanted = select(drift).order_by(it.tenant, it.track)
        if track is not None:
            wanted = wanted.where(it.track == track)
        if standings:
            wanted = wanted.where(it.standing.in_([str(one) for one in standings]))
        if after is not None:
            wanted = wanted.where(
                or_(it.tenant > after.tenant, and_(it.tenant == after.tenant, it.track > after.track))
            )
        if limit is not None:
            wanted = wanted.limit(limit)
        rows = await self._connections.read(lambda connection: connection.execute(wanted).mappings().all())
        return [_record(row) for row in rows]

    async def replace(self, track: str, records: Sequence[Record]) -> None:
        """Write all that is known of a track."""
        rows = [_row(record) for record in records]
        await self._writer.alone(lambda connection: _replace(connection, track, rows))

    async def keep(self, tracks: Collection[str]) -> None:
        """Forget what is known of other tracks."""
        gone = delete(drift).where(drift.c.track.not_in(sorted(tracks)))
        await self._writer.alone(lambda connection: _done(connection, gone))

    async def held(self, track: str) -> frozenset[str]:
        """The tenants whose targets a rollout holds."""
        wanted = select(holds.c.tenant).where(holds.c.track == track)
        return frozenset(await self._connections.read(lambda connection: connection.execute(wanted).scalars().all()))


def _replace(connection: Connection, track: str, rows: Sequence[dict[str, Any]]) -> Written[None]:
    connection.execute(delete(drift).where(drift.c.track == track))
    for part in slices(rows, SLICE):
        connection.execute(insert(drift), list(part))
    return Written(None)


def _done(connection: Connection, statement: Any) -> Written[None]:
    connection.execute(statement)
    return Written(None)


def _row(record: Record) -> dict[str, Any]:
    return {
        "tenant": record.tenant,
        "track": record.track,
        "shard": record.shard,
        "standing": str(record.standing),
        "looked_at": record.looked_at,
        "heads": storable_json(list(record.heads)),
        "server": record.server,
        "digest": record.digest,
        "reference": record.reference,
        "differing": record.differing,
        "lines": storable_json(list(record.lines)),
        "message": None if record.message is None else storable(record.message),
        "drifted_since": record.drifted_since,
    }


def _record(row: RowMapping) -> Record:
    return Record(
        row["tenant"],
        row["track"],
        row["shard"],
        Standing(row["standing"]),
        row["looked_at"],
        tuple(row["heads"]),
        row["server"],
        row["digest"],
        row["reference"],
        row["differing"],
        tuple(row["lines"]),
        row["message"],
        row["drifted_since"],
    )
