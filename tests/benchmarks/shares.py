"""Where a replayed target's processor time goes: what the server takes, and in our process the loop and the rest."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio

from orchestrator.databases.embedded import EmbeddedServer, create_databases
from orchestrator.events import MigrationFinished
from tests import engine
from tests.benchmarks import replay
from tests.servers import drop_databases

TICKS = 100  # a second, on Linux


@dataclass(frozen=True)
class Spent:
    """Seconds of the processor for all targets: of the server, of our loop's thread, and of our other threads."""

    server: float
    loop: float
    others: float


@dataclass(frozen=True)
class Shares:
    """`first`: seconds of the clock until the first target was done, most of them for compiling the plan."""

    bare: Spent
    ours: Spent
    first: float


async def measure(server: EmbeddedServer, folder: Path, config: Path, targets: int) -> Shares:
    names = [[f"{kind}_{number:04}" for number in range(targets)] for kind in ("share_bare", "share_ours")]
    for some in names:
        await create_databases(server, some)
    postmaster = await _postmaster(server)
    messages = await replay.bare_messages(server, config)
    meter = _Meter(postmaster)
    await replay.bare(server, names[0], messages)
    bare = meter.spent()
    first = await _ours(server, folder, config, names[1], meter)
    ours = meter.spent()
    for some in names:
        await drop_databases(server, some)
    return Shares(bare, ours, first)


async def _ours(server: EmbeddedServer, folder: Path, config: Path, names: Sequence[str], meter: _Meter) -> float:
    registry = replay.registry_of(server, config, names, "replay")
    async with engine.running(registry, store_url=f"sqlite:///{folder}/shares.db") as running:
        await running.service.survey.once()
        ended: list[float] = []
        running.parts.bus.subscribe(
            lambda event: ended.append(time.perf_counter()) if isinstance(event, MigrationFinished) else None
        )
        meter.spent()
        began = time.perf_counter()
        await replay.rolled_out(running, len(names))
        return ended[0] - began


class _Meter:
    def __init__(self, postmaster: int) -> None:
        self._postmaster = postmaster
        self._before = self._read()

    def spent(self) -> Spent:
        """Since it was asked last."""
        before, self._before = self._before, self._read()
        server, loop, all_ = (now - then for now, then in zip(self._before, before, strict=True))
        return Spent(server, loop, all_ - loop)

    def _read(self) -> tuple[float, float, float]:
        return _of_server(self._postmaster), time.thread_time(), time.process_time()


def _of_server(postmaster: int) -> float:
    """Of the postmaster, of the processes that it has and of those that it had."""
    own = _stat(postmaster)
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    living = 0
    for child in children:
        try:
            living += sum(_stat(int(child))[:2])
        except OSError:  # it has ended meanwhile
            continue
    return (sum(own) + living) / TICKS


def _stat(process: int) -> list[int]:
    """User and system time of a process, and both of its children that have ended."""
    return [int(field) for field in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:15]]


async def _postmaster(server: EmbeddedServer) -> int:
    ((folder,),) = await engine.fetch(server, "postgres", "SHOW data_directory")
    return int((await anyio.Path(folder, "postmaster.pid").read_text()).split("\n", 1)[0])
