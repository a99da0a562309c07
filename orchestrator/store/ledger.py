"""The ledger of `rollout.ports` on the control database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache, partial
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import Connection, RowMapping, Select, func, select, tuple_

from orchestrator.events import RolloutEvent, RolloutStateChanged, WaveChanged, now
from orchestrator.rollout.ports import MigrationField, RolloutField, StoredEvent
from orchestrator.rollout.state import (
    FAILURES,
    FINISHED,
    FailureGroup,
    Migration,
    MigrationState,
    Rollout,
    RolloutState,
    summed,
)
from orchestrator.store import changes, rules
from orchestrator.store.changes import MigrationChange
from orchestrator.store.connections import Connections
from orchestrator.store.rows import UNSTORABLE, event_from, failure_from, migration_from, rollout_from
from orchestrator.store.tables import events, migrations, rollouts
from orchestrator.store.writer import Writer

# Rows of a long listing that are read at once; between two pages the daemon's loop does other work.
PAGE = 1_000


class Run(NamedTuple):
    """What a rollout is at: its runs are counted from 1, and by a retry after its end. `passed`: how often, by wave."""

    attempt: int
    since: datetime | None
    passed: Mapping[str, int]


class StoreLedger:
    """Implements `rollout.ports.Ledger`. Writes go through one writer, in the order of the calls."""

    def __init__(self, connections: Connections, writer: Writer) -> None:
        self._connections = connections
        self._writer = writer

    async def create(self, rollout: Rollout, migrations: Sequence[Migration], event: RolloutEvent) -> Rollout:
        """Write a rollout with its frozen migrations, all or nothing; each needs a `position` of its own.

        Returns the rollout stored in the 24 hours before under the same idempotency key, if there is one. Raises
        ConflictError naming the active rollout that holds one of the targets. A caller that is cancelled may leave the
        rollout created.
        """
        return await self._writer.alone(
            partial(changes.create, rollout=rollout, frozen=migrations, event=event),
        )

    async def save_rollout(self, rollout: Rollout, event: RolloutEvent | None = None) -> None:
        """Write the rollout's state; its `total` stays as frozen.

        A finished one gives its targets free; one that is opened again takes them back, or raises ConflictError. Raises
        StoreError if it is said to have finished while a target is not accounted for, and StateError for a step from
        one finished state to another.
        """
        await self._writer.alone(partial(changes.save_rollout, rollout=rollout, event=event))

    async def save_migration(self, migration: Migration, event: RolloutEvent | None = None) -> None:
        """Write the migration's state. Raises StateError when its rollout has finished, NotFoundError when it was not
        frozen with it. A caller that is cancelled may leave it written."""
        await self._writer.join(MigrationChange(migration, event))

    async def save_migrations(self, migrations: Sequence[Migration], events: Sequence[RolloutEvent] = ()) -> None:
        """Write the states of several, all or nothing. Raises what `save_migration` raises."""
        if migrations or events:
            await self._writer.alone(partial(changes.save_migrations, changed=migrations, happened=events))

    async def extend(self, rollout: Rollout, migrations: Sequence[Migration], event: RolloutEvent) -> None:
        """Add migrations to an active rollout and raise its total by them, all or nothing.

        Raises StateError when it has finished, and ConflictError when another active rollout holds one of the targets.
        """
        await self._writer.alone(partial(changes.extend, rollout=rollout, added=migrations, event=event))

    async def reopen(
        self, rollout: Rollout, migrations: Sequence[Migration], events: Sequence[RolloutEvent] = ()
    ) -> None:
        """Make a finished rollout active again and change its migrations, all or nothing.

        Raises ConflictError when another active rollout holds one of its targets by now.
        """
        await self._writer.alone(partial(changes.reopen, rollout=rollout, changed=migrations, happened=events))

    async def rollout(self, rollout_id: str) -> Rollout:
        """Raises NotFoundError."""
        if UNSTORABLE.search(rollout_id):  # PostgreSQL would not even look for it
            raise rules.unknown(rollout_id)
        rows = await self._rows(select(rollouts).where(rollouts.c.id == rollout_id))
        if not rows:
            raise rules.unknown(rollout_id)
        return rollout_from(rows[0])

    async def requested(self, idempotency_key: str) -> Rollout | None:
        """The rollout that was made under this key in the last 24 hours."""
        kept = rollouts.c.created_at > now() - rules.KEY_KEPT
        rows = await self._rows(select(rollouts).where(rollouts.c.idempotency_key == idempotency_key, kept))
        return rollout_from(rows[0]) if rows else None

    async def rollouts(
        self,
        *,
        states: Sequence[RolloutState] = (),
        only: Mapping[RolloutField, str] | None = None,
        limit: int = 100,
        before: str | None = None,
    ) -> Sequence[Rollout]:
        """Newest first, those whose fields are as in `only`; `before` is the id of the last one of the page before."""
        newest = select(rollouts).order_by(rollouts.c.created_at.desc(), rollouts.c.id.desc()).limit(limit)
        if states:
            newest = newest.where(rollouts.c.state.in_(states))
        for name, value in (only or {}).items():
            newest = newest.where(rollouts.c[name] == value)
        if before is not None:
            place = tuple_(rollouts.c.created_at, rollouts.c.id)
            last = select(rollouts.c.created_at, rollouts.c.id).where(rollouts.c.id == before)
            newest = newest.where(place < last.scalar_subquery())
        return [rollout_from(row) for row in await self._rows(newest)]

    async def migrations(
        self,
        rollout_id: str,
        *,
        states: Sequence[MigrationState] = (),
        only: Mapping[MigrationField, str] | None = None,
        limit: int | None = None,
        after: int = -1,
    ) -> Sequence[Migration]:
        """In order of `position`, from the one after `after`, those whose fields are as in `only`.

        Long listings are read in pages, each at its moment.
        """
        wanted = select(migrations).where(migrations.c.rollout == rollout_id).order_by(migrations.c.position)
        if states:
            wanted = wanted.where(migrations.c.state.in_(states))
        for name, value in (only or {}).items():
            wanted = wanted.where(migrations.c[name] == value)
        found: list[Migration] = []
        while limit is None or len(found) < limit:
            size = PAGE if limit is None else min(PAGE, limit - len(found))
            page = await self._rows(wanted.where(migrations.c.position > after).limit(size))
            found += [migration_from(row) for row in page]
            if len(page) < size:
                break
            after = found[-1].position
        return found

    async def counts(self, rollout_id: str) -> Mapping[MigrationState, int]:
        """Migrations by state, without the states that none is in."""
        return summed(await self.by_wave(rollout_id))

    async def by_wave(self, rollout_id: str) -> Mapping[str, Mapping[MigrationState, int]]:
        """The same for each wave that has migrations."""
        return await self._connections.read(partial(changes.by_wave, rollout_id=rollout_id))

    async def executions(self, rollout_id: str) -> Mapping[str, int]:
        """Migrations that were carried out, by how."""
        way = migrations.c.execution
        counted = select(way, func.count().label("n")).where(migrations.c.rollout == rollout_id, way.is_not(None))
        return {row["execution"]: row["n"] for row in await self._rows(counted.group_by(way).order_by(way))}

    async def failures(self, rollout_id: str, *, tenants: int = 20) -> Sequence[FailureGroup]:
        """Largest group first, each with at most `tenants` names."""
        return failure_groups(await self._rows(_failures(rollout_id, tenants)), tenants)

    async def events(self, rollout_id: str, *, after: int = 0, limit: int = 500) -> Sequence[StoredEvent]:
        wanted = select(events).where(events.c.rollout == rollout_id, events.c.sequence > after)
        return [event_from(row) for row in await self._rows(wanted.order_by(events.c.sequence).limit(limit))]

    async def state_since(self, rollout_id: str, state: RolloutState) -> datetime | None:
        """When the rollout came to this state, if it has been in it ever since; None: its stream does not tell."""
        it, said = events.c, events.c.data["state"].as_string()
        told = it.rollout == rollout_id, it.name == RolloutStateChanged.__name__
        other = select(func.max(it.sequence)).where(*told, said != str(state)).scalar_subquery()
        wanted = select(func.min(it.at)).where(*told, it.sequence > func.coalesce(other, 0))
        return await self._connections.read(lambda connection: connection.scalar(wanted))

    async def runs(self, rollout_id: str) -> Run:
        """How often it has ended, since when it goes on after that, and which waves have passed since."""
        it, data = events.c, events.c.data
        moved = it.rollout == rollout_id, it.name == RolloutStateChanged.__name__
        ended = (*moved, data["state"].as_string().in_(sorted(FINISHED)))
        last = select(func.coalesce(func.max(it.sequence), 0)).where(*ended).scalar_subquery()
        wave = data["wave"].as_string()
        passed = it.rollout == rollout_id, it.name == WaveChanged.__name__, data["change"].as_string() == "passed"

        def read(connection: Connection) -> Run:
            number = connection.scalar(select(func.count()).where(*ended)) or 0
            since = connection.scalar(select(func.min(it.at)).where(*moved, it.sequence > last))
            waves = select(wave, func.count()).where(*passed, it.sequence > last).group_by(wave)
            return Run(number + 1, since, {str(name): n for name, n in connection.execute(waves)})

        return await self._connections.read(read)

    async def _rows(self, wanted: Select[Any]) -> Sequence[RowMapping]:
        return await self._connections.read(lambda connection: connection.execute(wanted).mappings().all())


# What was rolled back has a failure only where something of it stays.
_TOLD = FAILURES | {MigrationState.ROLLED_BACK}


@lru_cache(maxsize=64)
def _failures(rollout_id: str, tenants: int) -> Select[Any]:
    """The first migrations of every group, the groups in order of size. Making it takes longer than most answers."""
    same = migrations.c.failure_signature
    grouped = (
        select(
            migrations,
            func.count().over(partition_by=same).label("count"),
            func.row_number().over(partition_by=same, order_by=migrations.c.position).label("rank"),
        )
        .where(migrations.c.rollout == rollout_id, migrations.c.state.in_(_TOLD), same.is_not(None))
        .subquery()
    )
    first = select(grouped).where(grouped.c.rank <= max(tenants, 1))
    return first.order_by(grouped.c.count.desc(), grouped.c.failure_signature, grouped.c.rank)


def failure_groups(rows: Sequence[RowMapping], tenants: int) -> list[FailureGroup]:
    """Fold rows that come group by group; the first of each is its example."""
    groups = []
    for signature, members in groupby(rows, key=lambda row: row["failure_signature"]):
        group = list(members)
        example = failure_from(group[0])
        assert example is not None
        names = tuple(row["tenant"] for row in group[:tenants])
        groups.append(FailureGroup(signature, group[0]["count"], example, names))
    return groups
