"""Following a daemon's rollout, also over a lost connection and a daemon that restarts."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import anyio

from orchestrator.cli import live
from orchestrator.cli.tally import FINISHED, Tally
from orchestrator.errors import DaemonError, NotFoundError, OrchestratorError

if TYPE_CHECKING:
    from orchestrator.client import shapes
    from orchestrator.client.daemon import Daemon

STOPPED = ("paused", "awaiting_approval")
# A daemon that is being replaced, its machine with it, may take its time.
PATIENCE_SECONDS = 600.0
AGAIN_SECONDS = 0.5
SHARDS_SECONDS = 3.0
BACKFILLS_SECONDS = 2.0
# Those that are shown, and some that are counted only.
BACKFILLS_ASKED = 100


async def followed(daemon: Daemon, rollout: shapes.Rollout, *, to_pause: bool = False) -> shapes.Rollout:
    """Show the rollout live until it has ended, with `to_pause` at most until it waits for a person; as it is then.

    Raises DaemonError when the daemon stays away for ten minutes.
    """
    if rollout["state"] in FINISHED:
        return rollout
    tally = Tally(rollout["id"], f"{rollout['track']} to {rollout['to']}", rollout["total"])
    async with live.following(tally) as shown, anyio.create_task_group() as tasks:
        tasks.start_soon(_watch_shards, daemon, shown)
        tasks.start_soon(_watch_backfills, daemon, rollout["id"], shown)
        events = daemon.events(rollout["id"], patience_seconds=PATIENCE_SECONDS, on_link=shown.link)
        async with aclosing(events):
            async for event in events:
                shown.hear(event.name, event.data)
                # Asked again, since the events of an earlier pause are told first.
                stopped = to_pause and tally.state in STOPPED
                if stopped and (await asked(daemon, rollout["id"], shown))["state"] in STOPPED:
                    break
        tasks.cancel_scope.cancel()
    return await asked(daemon, rollout["id"])


async def asked(daemon: Daemon, rollout_id: str, shown: live.Shown | None = None) -> shapes.Rollout:
    """The rollout as it is now; a daemon that is not there is waited for."""
    deadline, lost = anyio.current_time() + PATIENCE_SECONDS, False
    while True:
        try:
            found = await daemon.rollout(rollout_id)
            if lost and shown is not None:
                shown.link(None)
            return found
        except DaemonError as exc:
            if anyio.current_time() >= deadline:
                raise
            if not lost and shown is not None:
                shown.link(exc.message)
            lost = True
        await anyio.sleep(AGAIN_SECONDS)


async def _watch_shards(daemon: Daemon, shown: live.Shown) -> None:
    """Which shards bear less than they may: no rollout's events tell of that."""
    while True:
        try:
            shards = await daemon.shards()
        except OrchestratorError:  # the events tell when nobody answers, and an older daemon knows no shards
            shards = []
        for one in shards:
            shown.throttle(one["name"], one["limit"], one["max_concurrent"], one["throttled"])
        await anyio.sleep(SHARDS_SECONDS)


async def _watch_backfills(daemon: Daemon, rollout_id: str, shown: live.Shown) -> None:
    """How far those are that run: their progress is kept by nobody, so no event of a daemon's tells of it."""
    while True:
        try:
            found = await daemon.backfills(rollout=rollout_id, states=("running", "held"), limit=BACKFILLS_ASKED)
            shown.backfills(found)
        except NotFoundError:
            return  # an older daemon knows of none
        except OrchestratorError:
            pass  # the events tell when nobody answers
        await anyio.sleep(BACKFILLS_SECONDS)
