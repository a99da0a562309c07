"""How long migrations took, from the store: what is predicted after a restart begins with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import select

from orchestrator.rollout.state import BACKFILL, EVERY, MigrationState
from orchestrator.store.connections import Connections
from orchestrator.store.tables import migrations, rollouts

# So many are looked through, and not all that there ever were.
ROLLOUTS = 50


class Took(NamedTuple):
    """One migration that succeeded at the first attempt, without backfills. Heads as they were, and as they are."""

    track: str
    shard: str
    begin: tuple[str, ...]
    end: tuple[str, ...]
    seconds: float


class StoreDurations:
    """Everything raises StoreError."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def latest(self, track: str, limit: int = 1_000) -> Sequence[Took]:
        """Those of the track's last rollouts that ended last, the last one first."""
        it = migrations.c
        its = select(rollouts.c.id).where(rollouts.c.track.in_((track, EVERY)))
        last = its.order_by(rollouts.c.created_at.desc(), rollouts.c.id.desc()).limit(ROLLOUTS)
        wanted = (
            select(it.track, it.shard, it.from_heads, it.to_heads, it.started_at, it.finished_at)
            .where(it.rollout.in_(last), it.track == track, it.state == str(MigrationState.SUCCEEDED), it.attempts == 1)
            .where(it.execution.is_distinct_from(BACKFILL))  # how long these take, their tables and throttles say
            .where(it.from_heads.is_not(None), it.to_heads.is_not(None), it.finished_at.is_not(None))
            .order_by(it.finished_at.desc())
            .limit(limit)
        )
        rows = await self._connections.read(lambda connection: connection.execute(wanted).all())
        return [
            Took(row.track, row.shard, row.from_heads, row.to_heads, (row.finished_at - row.started_at).total_seconds())
            for row in rows
            if row.started_at is not None
        ]
