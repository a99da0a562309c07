"""What is known of backfills: how far each is, and how it ended. Written by who leads, read by all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, and_, case, func, or_, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from orchestrator.backfill.records import UNFINISHED, Key, Part, Record, State
from orchestrator.events import RolloutEvent
from orchestrator.rollout.state import ACTIVE
from orchestrator.store import changes
from orchestrator.store.backfill_orders import StoreBackfillOrders
from orchestrator.store.backfill_rows import record_from, record_row
from orchestrator.store.changes import Written
from orchestrator.store.connections import Connections
from orchestrator.store.rows import storable
from orchestrator.store.tables import backfills, rollouts
from orchestrator.store.writer import Writer

Field = Literal["rollout", "tenant", "track", "shard", "revision"]
# Rows of a statement: between two of them the daemon's loop does other work.
SLICE = 100

_KEY = tuple(backfills.c[name] for name in Key._fields)


class Backfilling(NamedTuple):
    """What the store knows of backfills."""

    records: StoreBackfills
    orders: StoreBackfillOrders


class StoreBackfills:
    """Everything raises StoreError."""

    def __init__(self, connections: Connections, writer: Writer) -> None:
        self._connections, self._writer = connections, writer

    async def save(self, records: Sequence[Record], events: Sequence[RolloutEvent] = ()) -> None:
        """Write how far these are, and append events to their rollouts' streams, all in one transaction."""
        if records or events:
            await self._writer.alone(partial(_save, records=records, events=events))

    async def abandon(self, reason: str, at: datetime) -> int:
        """Those that a process which is gone had underway are stopped; how many that were."""
        return await self._writer.alone(lambda connection: Written(_abandon(connection, reason, at)))

    async def listed(
        self,
        *,
        only: Mapping[Field, str] | None = None,
        states: Sequence[State] = (),
        limit: int = 100,
        after: Key | None = None,
    ) -> Sequence[Record]:
        """Those of the newest rollout first, then by tenant; `after` is the last one of the page before."""
        wanted = select(backfills).order_by(backfills.c.rollout.desc(), *_KEY[1:]).limit(limit)
        if states:
            wanted = wanted.where(backfills.c.state.in_(states))
        for name, value in (only or {}).items():
            wanted = wanted.where(backfills.c[name] == value)
        if after is not None:
            wanted = wanted.where(_follows(after))
        return await self._records(wanted)

    async def unfinished(self, only: Mapping[Field, str] | None = None) -> Sequence[Record]:
        """Those that were underway when they were written last."""
        wanted = select(backfills).where(backfills.c.state.in_(UNFINISHED))
        for name, value in (only or {}).items():
            wanted = wanted.where(backfills.c[name] == value)
        return await self._records(wanted)

    async def ended(self, only: Mapping[Field, str] | None = None) -> Sequence[Part]:
        """Sums of those that are over, of active rollouts, or of the one that `only` names."""
        rows = await self._connections.read(lambda connection: connection.execute(_ended(only or {})).all())
        return [
            Part(
                row.track,
                row.revision,
                row.direction,
                row.state,
                row.n,
                int(row.seen),
                int(row.changed),
                int(row.estimated) if row.known == row.n else None,
            )
            for row in rows
        ]

    async def _records(self, wanted: Select[Any]) -> Sequence[Record]:
        rows = await self._connections.read(lambda connection: connection.execute(wanted).mappings().all())
        return [record_from(row) for row in rows]


def _follows(after: Key) -> ColumnElement[bool]:
    same_rollout = and_(backfills.c.rollout == after.rollout, tuple_(*_KEY[1:]) > tuple_(*after[1:]))
    return or_(backfills.c.rollout < after.rollout, same_rollout)


def _ended(only: Mapping[Field, str]) -> Select[Any]:
    it = backfills.c
    # What has finished has passed just as many rows as there were.
    estimated = case((it.state == "finished", it.seen), else_=it.estimated)
    group = (it.track, it.revision, it.direction, it.state)
    wanted = select(
        *group,
        func.count().label("n"),
        func.sum(it.seen).label("seen"),
        func.sum(it.changed).label("changed"),
        func.coalesce(func.sum(estimated), 0).label("estimated"),
        func.count(estimated).label("known"),
    ).where(it.state.not_in(UNFINISHED))
    for name, value in only.items():
        wanted = wanted.where(it[name] == value)
    if "rollout" not in only:
        wanted = wanted.where(it.rollout.in_(select(rollouts.c.id).where(rollouts.c.state.in_(sorted(ACTIVE)))))
    return wanted.group_by(*group)


def _save(connection: Connection, records: Sequence[Record], events: Sequence[RolloutEvent]) -> Written[None]:
    # First the rollouts' rows, in order, as all changes do: no two transactions wait for each other.
    written = changes.save_migrations(connection, (), events)
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    fresh = insert(backfills)
    again = {column.name: fresh.excluded[column.name] for column in backfills.c if column.name not in Key._fields}
    upsert = fresh.on_conflict_do_update(index_elements=list(Key._fields), set_=again)
    for part in changes.slices(records, SLICE):
        connection.execute(upsert, [record_row(record) for record in part])
    return written


def _abandon(connection: Connection, reason: str, at: datetime) -> int:
    gone = {"state": "stopped", "reason": storable(reason), "holds": [], "finished_at": at}
    forgotten = {"rows_per_second": None, "eta_seconds": None}
    left = update(backfills).where(backfills.c.state.in_(UNFINISHED))
    return connection.execute(left.values(**gone, **forgotten)).rowcount
