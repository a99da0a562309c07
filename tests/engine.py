"""The whole engine in the test's own process: registry as a value, real databases, a store in memory."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, cast

import anyio
import asyncpg
import pytest
from sqlalchemy.engine import make_url

from orchestrator.api.ports import RolloutView
from orchestrator.databases.base import Limits, Place
from orchestrator.databases.embedded import Server
from orchestrator.databases.postgresql import lock_key, signed
from orchestrator.databases.postgresql_questions import LOCK_NAMESPACE
from orchestrator.events import Event, now
from orchestrator.execute.retry import RetryPolicy
from orchestrator.history.workers import Workers
from orchestrator.registry.discovery import Source
from orchestrator.registry.model import Registry, Shard, Strategy, Target, Track
from orchestrator.registry.source import RegistrySource
from orchestrator.rollout.state import Migration, Request, RolloutState
from orchestrator.service.daemon import working
from orchestrator.service.orchestrator import Orchestrator
from orchestrator.service.wiring import Parts, assembled
from orchestrator.settings import Settings
from orchestrator.settings import load as load_settings
from tests.workers import SharedWorkers


@dataclass
class FixedSource:
    """Stands for a registry file that never changes."""

    current: Registry
    sources: Sequence[Source] = ()


def shard_of(server: Server, name: str = "pg", **fields: Any) -> Shard:
    return Shard(name, make_url(server.url("postgres")).set(database=None), **fields)


def registry_of(
    tracks: Sequence[Track],
    shards: Sequence[Shard],
    targets: Sequence[Target],
    *,
    strategies: Mapping[str, Strategy] | None = None,
    folder: Path = Path("/"),
) -> Registry:
    return Registry(
        folder / "tenants.yaml",
        "test",
        {track.name: track for track in tracks},
        {shard.name: shard for shard in shards},
        tuple(targets),
        strategies or {},
    )


def targets_of(databases: Sequence[str], shard: str = "pg", track: str = "app") -> list[Target]:
    """One tenant for each database, named `t000`, `t001`, …"""
    return [Target(f"t{number:03}", track, shard, database) for number, database in enumerate(databases)]


@dataclass
class Engine:
    service: Orchestrator
    parts: Parts
    source: FixedSource
    events: list[Event] = field(default_factory=list)

    async def rollout(self, to: str = "head", *, track: str = "app", **fields: Any) -> RolloutView:
        """Start a rollout and wait for its end."""
        view, _ = await self.service.start_rollout(Request(track, to, **fields))
        with anyio.fail_after(120):
            await self.service.finished(view.rollout.id)
        return await self.service.rollout(view.rollout.id)

    async def reaches(self, rollout_id: str, state: RolloutState, **counts: int) -> None:
        """Wait until the rollout is in this state, with these counts."""

        async def there() -> bool:
            view = await self.service.rollout(rollout_id)
            given = {name.value: number for name, number in view.counts.items()}
            return view.rollout.state is state and counts.items() <= given.items()

        await until(there)

    async def migrations(self, view: RolloutView) -> dict[str, Migration]:
        found = await self.service.migrations(view.rollout.id, limit=10_000)
        return {migration.tenant: migration for migration in found}

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = 90) -> None:
    """Wait for a condition, never for a time. Raises TimeoutError.

    Who must ask somebody, and has done so for long, asks less often: answers cost processor time that is waited for.
    """
    began = anyio.current_time()
    with anyio.fail_after(seconds):
        while True:
            holds, pause = condition(), 0.02
            if not isinstance(holds, bool):
                holds, pause = await holds, min(max(0.02, (anyio.current_time() - began) / 10), 0.1)
            if holds:
                return
            await anyio.sleep(pause)


def running(
    registry: Registry, workers: Workers | None = None, /, **settings: Any
) -> AbstractAsyncContextManager[Engine]:
    return running_by(now, registry, workers, **settings)


@asynccontextmanager
async def running_by(
    clock: Callable[[], datetime], registry: Registry, workers: Workers | None = None, /, **settings: Any
) -> AsyncIterator[Engine]:
    """Schedules and windows go by `clock`."""
    source = FixedSource(registry)
    chosen = settings_of(**{"store_url": "sqlite://", **settings})
    async with (
        assembled(chosen, cast(RegistrySource, source), workers or SharedWorkers(), clock) as parts,
        working(parts, chosen) as service,
    ):
        engine = Engine(service, parts, source)
        parts.bus.subscribe(engine.events.append)
        yield engine


def settings_of(**given: Any) -> Settings:
    """Those that are given and those of the environment. They never change, and take a while to be read."""
    ours = sorted(item for item in os.environ.items() if item[0].startswith("ORCHESTRATOR_"))
    return _read(tuple(sorted(given.items())), tuple(ours))


@cache
def _read(given: tuple[tuple[str, Any], ...], _environ: object) -> Settings:
    return load_settings(**dict(given))


def retry_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """As often as ever, where nobody needs the time to come back."""
    within, quick = RetryPolicy.within, replace(RetryPolicy().transient, first=0.1, longest=0.2)
    monkeypatch.setattr(RetryPolicy, "within", lambda seconds: replace(within(seconds), transient=quick))


async def fetch(server: Server, database: str, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
    """Rows of one query, over a connection of its own."""
    connection = await asyncpg.connect(server.url(database))
    try:
        return [tuple(row) for row in await connection.fetch(query, *arguments)]
    finally:
        await connection.close()


async def provision(server: Server, *databases: str) -> None:
    """Give databases an empty version table: so they may have tables before their first revision runs."""
    for database in databases:
        await execute(server, database, "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")


async def execute(server: Server, database: str, *statements: str) -> None:
    connection = await asyncpg.connect(server.url(database))
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def head(**fields: Any) -> Request:
    """A request to bring track `app` to head."""
    return Request("app", "head", **fields)


@asynccontextmanager
async def held_target(server: Server, database: str) -> AsyncIterator[int]:
    """Somebody else holds the lock of the target with the usual version table; yields their backend's number."""
    target = Target("t", "app", "pg", database)
    key = signed(lock_key(Place(target, make_url("postgresql://h/x"), Limits())))
    connection = await asyncpg.connect(server.url(database), server_settings={"application_name": "somebody else"})
    try:
        await connection.execute(f"SELECT pg_advisory_lock({LOCK_NAMESPACE}, {key})")
        yield connection.get_server_pid()
    finally:
        await connection.close()


@asynccontextmanager
async def locked_table(
    server: Server, database: str, table: str, mode: str = "ACCESS EXCLUSIVE"
) -> AsyncIterator[None]:
    """Somebody else's transaction holds a lock on the table."""
    connection = await asyncpg.connect(server.url(database))
    try:
        async with connection.transaction():
            await connection.execute(f"LOCK TABLE {table} IN {mode} MODE")
            yield
    finally:
        await connection.close()
