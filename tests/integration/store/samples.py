"""Rollouts, migrations and events as the tests need them, and what they look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

from orchestrator.events import Event, MigrationFinished, MigrationStarted, RolloutCreated, RolloutStateChanged
from orchestrator.rollout.state import Failure, Migration, MigrationState, Request, Rollout, RolloutState
from orchestrator.store.connections import Connections
from orchestrator.store.place import locate

START = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)


class Published(list[tuple[Event, int | None]]):
    """What the ledger published, in order."""

    def __call__(self, event: Event, sequence: int | None) -> None:
        self.append((event, sequence))

    @property
    def sequences(self) -> list[int | None]:
        return [sequence for _, sequence in self]


def a_rollout(
    rollout_id: str = "r1",
    total: int = 3,
    *,
    minutes: int = 0,
    state: RolloutState = RolloutState.RUNNING,
    key: str | None = None,
) -> Rollout:
    request = Request(track="app", to="head", created_by="ci", idempotency_key=key)
    created_at = START + timedelta(minutes=minutes)
    return Rollout(id=rollout_id, request=request, goal=("b2",), total=total, created_at=created_at, state=state)


def migrations_of(rollout: Rollout, *, prefix: str = "tenant") -> list[Migration]:
    return [
        Migration(rollout=rollout.id, tenant=f"{prefix}{n}", track="app", shard="pg-1", position=n)
        for n in range(rollout.total)
    ]


def created(rollout: Rollout) -> RolloutCreated:
    return RolloutCreated(
        rollout=rollout.id, track="app", to="head", direction="upgrade", total=rollout.total, created_by="ci"
    )


def changed(rollout: Rollout) -> RolloutStateChanged:
    return RolloutStateChanged(
        rollout=rollout.id, track="app", state=rollout.state, reason=None, total=rollout.total, counts={}, seconds=1.5
    )


def started(migration: Migration) -> MigrationStarted:
    return MigrationStarted(
        rollout=migration.rollout,
        track=migration.track,
        tenant=migration.tenant,
        shard=migration.shard,
        wave=migration.wave,
        attempt=migration.attempts,
    )


def finished(migration: Migration) -> MigrationFinished:
    return MigrationFinished(
        rollout=migration.rollout,
        track=migration.track,
        tenant=migration.tenant,
        shard=migration.shard,
        wave=migration.wave,
        outcome=migration.state,
        attempts=migration.attempts,
        seconds=0.25,
        message=migration.failure.message if migration.failure else None,
    )


def as_state(migration: Migration, state: MigrationState, failure: Failure | None = None) -> Migration:
    return replace(migration, state=state, attempts=1, failure=failure)


async def run_sql(url: str, *statements: str) -> list[Any]:
    """Run statements in one transaction behind the store's back; returns the rows of the last, if it has any."""
    connections = Connections(locate(url))

    def run(connection: Connection) -> list[Any]:
        results = [connection.execute(text(statement)) for statement in statements]
        return [tuple(row) for row in results[-1]] if results[-1].returns_rows else []

    try:
        return await connections.write(run)
    finally:
        await connections.dispose()


def names(migrations: Sequence[Migration]) -> list[str]:
    return [migration.tenant for migration in migrations]
