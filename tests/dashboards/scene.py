"""What happens to the fleet while Prometheus looks on: some minutes that have something for each graph."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import asyncpg

from orchestrator.databases.embedded import EmbeddedServer
from tests import engine
from tests.daemon import Daemon
from tests.dashboards import fleet
from tests.dashboards.fleet import Fleet
from tests.dashboards.questions import Window
from tests.engine import until

SCRAPE_SECONDS = 1.0
_ONE_AFTER_ANOTHER, _CALM, _LOCKED, _UNTIL_BUSY, _BUSY, _AFTER = 6.0, 8.0, 12.0, 8.0, 20.0, 15.0
Tell = Callable[[str], None]


async def played(made: Fleet, leader: Daemon, standby: Daemon, tell: Tell) -> dict[str, Window]:
    """What each picture is to show."""
    began = time.time()
    await anyio.sleep(_CALM)
    windows = {"empty": _since(began - 60)}
    tell("a rollout of the second history")
    first = (await leader.post_rollout(track="analytics")).json()["id"]
    await leader.ended(first)
    await anyio.sleep(_ONE_AFTER_ANOTHER)
    tell("a rollout in waves, with failures, retries and a throttled backfill")
    windows |= await _careful(made, leader, began)
    tell("the standby takes over")
    await leader.stop()
    await anyio.sleep(_AFTER)
    windows["daemon"] = _since(began)
    return windows


def _since(began: float) -> Window:
    return Window(began, time.time(), SCRAPE_SECONDS)


async def _careful(made: Fleet, leader: Daemon, began: float) -> dict[str, Window]:
    async with AsyncExitStack() as stack:
        await _make_trouble(made, stack)
        rollout = (await leader.post_rollout(track="app", strategy="careful")).json()["id"]
        await until(lambda: _is(leader, rollout, "awaiting_approval"), 180)
        await anyio.sleep(_CALM)
        assert (await leader.call("POST", f"/api/v1/rollouts/{rollout}/approve", json={})).status_code == 200
        windows = {}
        async with anyio.create_task_group() as tasks:
            await until(lambda: _finished(leader, rollout, fleet.CANARIES + fleet.EARLY), 300)
            await anyio.sleep(_UNTIL_BUSY)
            tasks.start_soon(_busy, made.servers["eu-2"])
            await anyio.sleep(_BUSY * 0.75)
            windows["backfills"] = _since(began)
            await until(lambda: _finished(leader, rollout, fleet.TENANTS * 0.8), 300)
            windows["rollout"] = _since(began)
        await leader.ended(rollout, 300)
    await anyio.sleep(_CALM)
    return {**windows, "fleet": _since(began)}


async def _make_trouble(made: Fleet, stack: AsyncExitStack) -> None:
    """One database is gone, and somebody's transactions lock tables of others for a while."""
    server = made.servers[fleet.shard_of(fleet.GONE)]
    await engine.execute(server, "postgres", f"DROP DATABASE {fleet.database_of(fleet.GONE)} WITH (FORCE)")
    tasks = await stack.enter_async_context(anyio.create_task_group())
    for tenant in fleet.LOCKED:
        tasks.start_soon(_hold, made.servers[fleet.shard_of(tenant)], fleet.database_of(tenant))


async def _hold(server: EmbeddedServer, database: str) -> None:
    """Lock the table as soon as somebody migrates it, for some seconds."""
    connection = await asyncpg.connect(server.url(database))
    busy = (
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = $1 AND query LIKE '%pg_sleep%' "
        "AND pid <> pg_backend_pid()"
    )

    async def migrated() -> bool:
        return bool(await connection.fetchval(busy, database))

    try:
        await until(migrated, 240)
        async with connection.transaction():
            await connection.execute("LOCK TABLE tickets IN ACCESS SHARE MODE")
            await anyio.sleep(_LOCKED)
    finally:
        await connection.close()


async def _busy(server: EmbeddedServer) -> None:
    """Sessions that do something, so many that backfills are held; and then they end."""
    async with anyio.create_task_group() as tasks:
        for _ in range(fleet.BUSY_SESSIONS + 6):
            tasks.start_soon(engine.execute, server, "postgres", f"SELECT pg_sleep({_BUSY})")


async def _is(daemon: Daemon, rollout: str, *states: str) -> bool:
    return (await daemon.rollout(rollout))["state"] in states


async def _finished(daemon: Daemon, rollout: str, count: float) -> bool:
    told = await daemon.rollout(rollout)
    open_ = sum(told["counts"].get(state, 0) for state in ("pending", "running"))
    return bool(sum(told["counts"].values()) - open_ >= count)


@asynccontextmanager
async def daemons(made: Fleet) -> AsyncIterator[Sequence[Daemon]]:
    """One that leads, and one that stands by."""
    async with made.daemon() as leader, made.daemon() as standby:
        yield leader, standby
