"""A rollout with nothing to do against the least that could tell so."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
import asyncpg

from orchestrator.databases.embedded import EmbeddedServer, create_databases
from orchestrator.registry.model import Track
from tests import engine

IN_FLIGHT = 8
PAIRS = 7


@dataclass(frozen=True)
class Result:
    """Medians, in seconds for all targets; `ratio` is the median of the pairs' ratios."""

    ours: float
    bare: float
    ratio: float
    pairs: int = PAIRS


async def measure(server: EmbeddedServer, folder: Path, environment: Path, targets: int) -> Result:
    names = [f"noop_{number:04}" for number in range(targets)]
    track = Track("app", config=environment / "alembic.ini")
    await create_databases(server, ["noop_template"])
    template = engine.registry_of([track], [engine.shard_of(server)], engine.targets_of(["noop_template"]))
    async with engine.running(template) as running:
        assert (await running.rollout()).counts == {"succeeded": 1}
    await create_databases(server, names, "noop_template")
    registry = engine.registry_of(
        [track], [engine.shard_of(server, max_concurrent=IN_FLIGHT)], engine.targets_of(names)
    )
    ours, bare = [], []
    async with engine.running(registry, store_url=f"sqlite:///{folder}/noop.db") as running:
        await running.rollout()
        for _ in range(PAIRS):
            began = time.perf_counter()
            view = await running.rollout()
            ours.append(time.perf_counter() - began)
            assert view.counts == {"up_to_date": targets}
            began = time.perf_counter()
            await _bare(server, names)
            bare.append(time.perf_counter() - began)
    ratios = [one / other for one, other in zip(ours, bare, strict=True)]
    return Result(statistics.median(ours), statistics.median(bare), statistics.median(ratios))


async def _bare(server: EmbeddedServer, names: Sequence[str]) -> None:
    """Connect, select, close: nothing more, with as many in flight."""
    waiting = iter(names)

    async def some() -> None:
        for name in waiting:
            connection = await asyncpg.connect(server.url(name), statement_cache_size=0)
            await connection.fetch("SELECT version_num FROM alembic_version")
            await connection.close()

    async with anyio.create_task_group() as tasks:
        for _ in range(IN_FLIGHT):
            tasks.start_soon(some)
