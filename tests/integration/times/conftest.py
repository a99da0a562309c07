"""A fleet whose clock a test sets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator.databases.embedded import Server
from orchestrator.registry.model import Registry, Strategy, Target, Track
from orchestrator.registry.times import Schedule, Window
from orchestrator.service.scheduling import Scheduler
from tests import engine, environments
from tests.engine import Engine
from tests.servers import MakeDatabases


class Clock:
    """What time it is, as the test says."""

    def __init__(self, text: str) -> None:
        self.now = at(text)

    def __call__(self) -> datetime:
        return self.now

    def set(self, text: str) -> None:
        self.now = at(text)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@dataclass
class Scene:
    """Databases with one table to make in each; their tenants are named `t000`, `t001`, …"""

    server: Server
    track: Track
    targets: list[Target]

    def registry(
        self,
        *,
        schedules: Mapping[str, Schedule] | None = None,
        windows: Mapping[str, Window] | None = None,
        strategies: Mapping[str, Strategy] | None = None,
        digest: str = "test",
        **shard: Any,
    ) -> Registry:
        made = engine.registry_of(
            [self.track], [engine.shard_of(self.server, **shard)], self.targets, strategies=strategies
        )
        return replace(made, schedules=schedules or {}, windows=windows or {}, digest=digest)

    async def migrated(self) -> list[str]:
        """The tenants whose table is there."""
        question = "SELECT 1 FROM pg_class WHERE relname = 'alpha'"
        found = [one for one in self.targets if await engine.fetch(self.server, one.database, question)]
        return [one.tenant for one in found]


MakeScene = Callable[..., Any]


@pytest.fixture
def make_scene(pg: Server, make_databases: MakeDatabases, tmp_path: Path) -> MakeScene:
    async def make(targets: int, *, before_each: str = "") -> Scene:
        config = environments.make_project(tmp_path / "project")
        environments.add_tables(tmp_path / "project", ["alpha"], before_each=before_each)
        return Scene(pg, environments.track_of(config), engine.targets_of(await make_databases(targets)))

    return make


@asynccontextmanager
async def scheduled(registry: Registry, clock: Clock, **settings: Any) -> AsyncIterator[Engine]:
    """The engine with its scheduler, which looks at the clock all the time."""
    async with engine.running_by(clock, registry, **settings) as running, anyio.create_task_group() as tasks:
        scheduler = schedulers[id(running)] = Scheduler(running.parts, running.service)

        async def look() -> None:
            await scheduler.run(look_seconds=0.02)

        tasks.start_soon(look)
        yield running
        tasks.cancel_scope.cancel()


# Those of engines that run, by the engine's identity.
schedulers: dict[int, Scheduler] = {}
