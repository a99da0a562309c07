"""Replay through the whole product against the same SQL by bare asyncpg."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import asyncpg
from anyio.abc import SocketStream
from sqlalchemy.engine import make_url

from orchestrator.databases.embedded import EmbeddedServer, create_databases
from orchestrator.events import MigrationFinished
from orchestrator.registry.model import Execution, Registry, Shard, Track
from orchestrator.rollout.state import Request
from tests import engine
from tests.servers import drop_databases

IN_FLIGHT = 8
PAIRS = 3
OURS_ALONE = (
    "SELECT CASE WHEN heads",
    "SELECT CASE WHEN EXISTS (SELECT 1 FROM pg_catalog.pg_locks",
    "    AND database = (SELECT oid",
    "    AND classid::bigint",
    "SELECT pg_catalog.set_config",
    "    AND pg_catalog.strpos",
    "    THEN pg_catalog.set",
)
# How sessions call themselves that come by the clock and not by the target: for head-room, and of the survey. And where
# a session's name stands in its first message.
BY_THE_CLOCK = "orchestrator count ", "orchestrator read "
_NAME = re.compile(rb"application_name\0([^\0]*)\0")


@dataclass(frozen=True)
class Result:
    """Seconds for all targets (medians), ratios of pairs, seconds of the daemon's processor per replayed target."""

    bare: float
    proved: float
    trusted: float
    proved_ratio: float
    trusted_ratio: float
    cpu: float
    round_trips: int


async def measure(server: EmbeddedServer, folder: Path, config: Path, targets: int) -> Result:
    """`proved`: a rollout that compiles its plan and proves it on its first targets; `trusted`: one that only compiles
    it (`execution: replay`)."""
    messages = await bare_messages(server, config)
    alone: list[float] = []
    proved: list[float] = []
    trusted: list[float] = []
    cpu: list[float] = []
    for pair in range(PAIRS):
        sets = [[f"r{pair}_{kind}_{number:04}" for number in range(targets)] for kind in ("bare", "proved", "trusted")]
        for names in sets:
            await create_databases(server, names)
        alone.append(await bare(server, sets[0], messages))
        ways: list[tuple[list[str], Execution, list[float]]] = [
            (sets[1], "auto", proved),
            (sets[2], "replay", trusted),
        ]
        for names, execution, found in ways:
            store = f"sqlite:///{folder}/replay_{execution}_{pair}.db"
            async with engine.running(registry_of(server, config, names, execution), store_url=store) as running:
                await running.service.survey.once()
                began = time.process_time()
                found.append(await rolled_out(running, targets))
                if execution == "replay":
                    cpu.append((time.process_time() - began) / targets)
                    assert {event.execution for event in running.of(MigrationFinished)} == {"replay"}
        for names in sets:
            await drop_databases(server, names)
    return Result(
        statistics.median(alone),
        statistics.median(proved),
        statistics.median(trusted),
        statistics.median(one / other for one, other in zip(proved, alone, strict=True)),
        statistics.median(one / other for one, other in zip(trusted, alone, strict=True)),
        statistics.median(cpu),
        await round_trips(server, folder, config),
    )


def registry_of(server: EmbeddedServer, config: Path, names: Sequence[str], execution: Execution = "auto") -> Registry:
    shard = engine.shard_of(server, max_concurrent=IN_FLIGHT)
    return engine.registry_of([Track("app", config=config, execution=execution)], [shard], engine.targets_of(names))


async def rolled_out(running: engine.Engine, targets: int) -> float:
    began = time.perf_counter()
    view = await running.rollout()
    seconds = time.perf_counter() - began
    assert view.counts == {"succeeded": targets}, view.failures
    return seconds


async def bare_messages(server: EmbeddedServer, config: Path) -> list[str]:
    """What replay sends, without what it asks for its own safety."""
    await create_databases(server, ["bare_template"])
    async with engine.running(registry_of(server, config, ["bare_template"])) as running:
        (group,) = (await running.service.plan(Request("app", "head"))).groups
    await drop_databases(server, ["bare_template"])
    sent = [part for part in group.script if isinstance(part, str)]
    texts = ["\n".join(line for line in text.split("\n") if not line.startswith(OURS_ALONE)) for text in sent]
    return [text for text in texts if text.strip()]


async def bare(server: EmbeddedServer, names: Sequence[str], messages: Sequence[str]) -> float:
    waiting = iter(names)

    async def some() -> None:
        for name in waiting:
            connection = await asyncpg.connect(server.url(name), statement_cache_size=0)
            for message in messages:
                await connection.execute(message)
            await connection.close()

    began = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for _ in range(IN_FLIGHT):
            tasks.start_soon(some)
    return time.perf_counter() - began


async def round_trips(server: EmbeddedServer, folder: Path, config: Path) -> int:
    """Turns of the conversation for one target, without those of a session that only connects, and without the sessions
    that ask for a server's head-room, one in three seconds for however many targets, and for where targets are."""
    await create_databases(server, ["turns"])
    async with _counting(server) as (port, turns):
        url = make_url(server.url("postgres")).set(port=port, database=None)
        registry = engine.registry_of(
            [Track("app", config=config, execution="replay")], [Shard("pg", url)], engine.targets_of(["turns"])
        )
        async with engine.running(registry) as running:
            await running.service.survey.once()  # so that what a first connection asks is known
            turns.clear()
            connection = await asyncpg.connect(
                url.set(database="turns").render_as_string(hide_password=False).replace("+asyncpg", ""), ssl=False
            )
            await connection.close()
            connecting = len(turns)
            turns.clear()
            assert (await running.rollout()).counts == {"succeeded": 1}
            found = sum(not name.startswith(BY_THE_CLOCK) for name in turns) - connecting
    await drop_databases(server, ["turns"])
    return found


@asynccontextmanager
async def _counting(server: EmbeddedServer) -> AsyncIterator[tuple[int, list[str]]]:
    """A relay to the server; its list grows by the session's name whenever a client speaks after it was spoken to."""
    turns: list[str] = []

    async def relay(client: SocketStream) -> None:
        speaker = {"last": "server", "name": ""}
        async with client, await anyio.connect_tcp(server.host, server.port) as upstream:

            async def forth(source: SocketStream, to: SocketStream, who: str) -> None:
                try:
                    async for data in source:
                        if named := _NAME.search(data) if who == "client" and not speaker["name"] else None:
                            speaker["name"] = named[1].decode()
                        if who == "client" and speaker["last"] == "server":
                            turns.append(speaker["name"])
                        speaker["last"] = who
                        await to.send(data)
                except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                    pass
                tasks.cancel_scope.cancel()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(forth, client, upstream, "client")
                tasks.start_soon(forth, upstream, client, "server")

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, relay)
        yield listener.extra_attributes[anyio.abc.SocketAttribute.local_port](), turns
        tasks.cancel_scope.cancel()
