"""What the product itself costs per target, and whether it grows: databases that are simulated, or used again."""

from __future__ import annotations

import resource
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.lowlevel
import anyio.to_process
from sqlalchemy.engine import make_url

from orchestrator.cli.application import look_for_garbage_seldom
from orchestrator.databases.base import Place
from orchestrator.databases.embedded import EmbeddedServer, create_databases
from orchestrator.events import Statement
from orchestrator.observe import logs
from orchestrator.plan.compiled import Compiled, Script
from orchestrator.registry.model import Shard, Track
from orchestrator.rollout.state import Direction
from tests import engine, environments

ROUNDS = 12


@dataclass(frozen=True)
class Simulated:
    """Seconds of the processor per target for a tenth of the targets and for all; the process's peak in bytes."""

    few: float
    many: float
    peak: int


class _Guard:
    """Holds no lock and sends nothing; remembers the heads."""

    version, server = 18, "18.0"

    def __init__(self, heads: dict[str, tuple[str, ...]], place: Place) -> None:
        self._heads, self._name = heads, place.target.database
        self.lost = anyio.Event()

    @property
    def replayer(self) -> _Guard:
        return self

    async def is_for_env_py(self) -> bool:
        return False

    async def heads(self) -> tuple[str, ...] | None:
        return self._heads.get(self._name)

    async def tables(self) -> tuple[str, ...]:
        return ()

    async def make_schema(self) -> None:
        return None

    async def replay(
        self,
        scripts: tuple[Script, ...],
        create_version: str | None,
        on_done: Callable[[tuple[str, ...], float], None],
        on_lasting: Callable[[str], Awaitable[None]],
        on_sent: Callable[[Statement], None] | None = None,
    ) -> None:
        await anyio.lowlevel.checkpoint()
        self._heads[self._name] = scripts[-1].after
        on_done(tuple(revision for script in scripts for revision in script.revisions), 0.0)


class _Database:
    def __init__(self) -> None:
        self._heads: dict[str, tuple[str, ...]] = {}

    def script(self, place: Place, compiled: Compiled) -> tuple[str, ...]:
        return ()

    async def read_heads(self, place: Place) -> tuple[str, ...] | None:
        await anyio.lowlevel.checkpoint()
        return self._heads.get(place.target.database)

    async def occupancy(self, place: Place) -> None:
        return None

    @asynccontextmanager
    async def guard(self, place: Place) -> AsyncIterator[_Guard]:
        await anyio.lowlevel.checkpoint()
        yield _Guard(self._heads, place)


async def simulated(folder: Path, config: Path, targets: int) -> Simulated:
    """A rollout over databases that answer at once: engine, ledger on disk, events and metrics are the real ones. In a
    process of its own, as a daemon is: what other measures have left in this one would count as the rollout's."""
    return await anyio.to_process.run_sync(_simulated, folder, config, targets)


def _simulated(folder: Path, config: Path, targets: int) -> Simulated:
    logs.configure("json", "error")
    look_for_garbage_seldom()
    return anyio.run(_costs, folder, config, targets)


async def _costs(folder: Path, config: Path, targets: int) -> Simulated:
    few, many = [await cost(folder, config, count) for count in (targets // 10, targets)]
    return Simulated(few, many, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


async def cost(folder: Path, config: Path, targets: int) -> float:
    """Seconds of the processor per target."""
    names = [f"sim_{number:06}" for number in range(targets)]
    shards = [Shard(f"s{n}", make_url(f"postgresql://u@s{n}"), max_concurrent=64) for n in range(4)]
    placed = [
        target for n, shard in enumerate(shards) for target in engine.targets_of(names[n :: len(shards)], shard.name)
    ]
    named = [replace(target, tenant=f"t_{target.database}") for target in placed]
    registry = engine.registry_of([Track("app", config=config, execution="replay")], shards, named)
    async with engine.running(
        registry, store_url=f"sqlite:///{folder}/sim_{targets}.db", max_concurrent=128
    ) as running:
        running.parts.bus.subscribe(lambda event: running.events.clear())
        cast(dict[str, Any], running.parts.databases)["postgresql"] = _Database()
        await running.service.survey.once()
        began = time.process_time()
        view, _ = await running.service.start_rollout(engine.head())
        await running.service.finished(view.rollout.id)
        spent = time.process_time() - began
        after = await running.service.rollout(view.rollout.id)
        assert after.counts == {"succeeded": targets}, after.failures
    return spent / targets


async def growth(server: EmbeddedServer, folder: Path, targets: int) -> int:
    """Bytes by which the process has grown over replayed rollouts up and down again, after the first two of them."""
    config = environments.make_project(folder / "grow", "async")
    environments.add_tables(folder / "grow", [f"t{number}" for number in range(10)])
    names = [f"grow_{number:04}" for number in range(targets)]
    await create_databases(server, names)
    track = Track("app", config=config, execution="auto")
    registry = engine.registry_of([track], [engine.shard_of(server)], engine.targets_of(names))
    async with engine.running(registry, store_url=f"sqlite:///{folder}/grow.db") as running:
        running.parts.bus.subscribe(lambda event: running.events.clear())
        before = 0
        for number in range(ROUNDS):
            down = number % 2 == 1
            way: dict[str, Any] = {"direction": Direction.DOWNGRADE} if down else {}
            view = await running.rollout("base" if down else "head", **way)
            assert view.counts == {"succeeded": targets}, view.failures
            if number == 1:  # both plans are proved, all code is loaded
                before = _resident()
        return _resident() - before


def _resident() -> int:
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * resource.getpagesize()
