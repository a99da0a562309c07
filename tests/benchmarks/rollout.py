"""The main job against the tool that everybody has."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread

from orchestrator.databases.embedded import EmbeddedServer, create_databases
from orchestrator.registry.model import Track
from tests import engine


@dataclass(frozen=True)
class Result:
    """Seconds for all targets."""

    ours: float
    command_line: float
    revisions: int


async def measure(server: EmbeddedServer, folder: Path, environment: Path, targets: int) -> Result:
    """Ours, the command line, ours again: the mean of ours meets a machine that drifts half way."""
    batches = [[f"bench_{batch}_{number:04}" for number in range(targets)] for batch in range(3)]
    for names in batches:
        await create_databases(server, names)
    first = await ours(server, folder / "first.db", environment, batches[0])
    command_line = await anyio.to_thread.run_sync(by_command_line, server, environment, batches[1])
    second = await ours(server, folder / "second.db", environment, batches[2])
    return Result((first + second) / 2, command_line, len(list((environment / "versions").glob("*.py"))))


async def ours(server: EmbeddedServer, store: Path, environment: Path, names: Sequence[str]) -> float:
    """Through the whole product: registry, store on disk, locks, ledger, metrics."""
    track = Track("app", config=environment / "alembic.ini")
    registry = engine.registry_of([track], [engine.shard_of(server)], engine.targets_of(names))
    async with engine.running(registry, store_url=f"sqlite:///{store}") as running:
        began = time.perf_counter()
        view = await running.rollout()
        seconds = time.perf_counter() - began
    assert view.counts == {"succeeded": len(names)}, view.failures
    return seconds


def by_command_line(server: EmbeddedServer, environment: Path, names: Sequence[str]) -> float:
    """`alembic upgrade head` once for each database, four at a time."""
    urls = "\n".join(server.url(name) for name in names)
    alembic = [sys.executable, "-m", "alembic", "-c", str(environment / "alembic.ini")]
    began = time.perf_counter()
    subprocess.run(
        ["xargs", "-P4", "-I{}", *alembic, "-x", "url={}", "upgrade", "head"],
        input=urls,
        text=True,
        check=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - began
