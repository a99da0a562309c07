"""Following a daemon's backfills: a live table on a terminal, a line every few seconds anywhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from rich.console import Group
from rich.live import Live
from rich.text import Text

from orchestrator.cli import backfill_lines, backfill_tables, screen, watching
from orchestrator.cli.backfill_tally import moment_of
from orchestrator.cli.live import LINE_SECONDS
from orchestrator.cli.tally import FINISHED
from orchestrator.errors import DaemonError

if TYPE_CHECKING:
    from orchestrator.client.daemon import Daemon
    from orchestrator.client.shapes import Backfill

UNDERWAY = ("running", "held")
ASK_SECONDS = 1.0
# Room for the prompt, the heads of the columns and the line below.
RESERVED = 4
# As many as a table has room for on the largest of screens; the line below it counts them all.
ASKED = 500
# Between two backfills of a target, none is underway for a moment.
QUIET = 3


async def followed(
    daemon: Daemon, *, rollout: str | None = None, shard: str | None = None, tenant: str | None = None
) -> list[Backfill]:
    """Show the backfills live until none is underway, or to the end of the rollout; those that were seen, as they are
    then. Raises DaemonError when the daemon stays away for ten minutes."""
    seen: dict[tuple[str, str, str, str, int], Backfill] = {}
    quiet = 0
    async with _shown() as show:
        while True:
            found = await _asked(daemon, rollout, shard, tenant)
            show.found = found
            seen |= {_key(one): one for one in found}
            quiet = 0 if found else quiet + 1
            if rollout is not None:
                if (await watching.asked(daemon, rollout))["state"] in FINISHED:
                    break
            elif quiet >= (QUIET if seen else 1):
                break
            await anyio.sleep(ASK_SECONDS)
    if not seen:
        return []
    rollouts = {one["rollout"] for one in seen.values()}
    ended = [one for name in sorted(rollouts) for one in await daemon.backfills(rollout=name)]
    return [one for one in ended if _key(one) in seen]


async def _asked(daemon: Daemon, rollout: str | None, shard: str | None, tenant: str | None) -> list[Backfill]:
    """A daemon that is not there is waited for."""
    deadline, lost = anyio.current_time() + watching.PATIENCE_SECONDS, False
    while True:
        try:
            return await daemon.backfills(rollout=rollout, shard=shard, tenant=tenant, states=UNDERWAY, limit=ASKED)
        except DaemonError as exc:
            if anyio.current_time() >= deadline:
                raise
            if not lost:
                screen.remark(f"connection lost, trying again: {exc.message}")
            lost = True
        await anyio.sleep(watching.AGAIN_SECONDS)


class Shown:
    """What is shown; `found` is put there as it comes."""

    def __init__(self) -> None:
        self.found: list[Backfill] = []

    def lines(self, height: int) -> Iterator[object]:
        room = max(1, height - RESERVED)
        if self.found:
            yield backfill_tables.listing(self.found[:room])
        yield Text(self.line(), "dim")

    def line(self) -> str:
        if not self.found:
            return "none is underway at this moment"
        return backfill_lines.together([moment_of(one) for one in self.found])


@asynccontextmanager
async def _shown() -> AsyncIterator[Shown]:
    console, shown = screen.err(), Shown()
    drawn = console.is_terminal and not console.is_dumb_terminal
    live = Live(console=console, auto_refresh=False, transient=True) if drawn else None

    async def tell() -> None:
        while True:
            if live is not None:
                live.update(Group(*shown.lines(console.size.height)), refresh=True)  # type: ignore[arg-type]
            elif shown.found:
                screen.remark(shown.line())
            await anyio.sleep(ASK_SECONDS if drawn else LINE_SECONDS)

    async with anyio.create_task_group() as tasks:
        if live is not None:
            live.start()
        tasks.start_soon(tell)
        try:
            yield shown
        finally:
            tasks.cancel_scope.cancel()
            if live is not None:
                live.stop()


def _key(one: Backfill) -> tuple[str, str, str, str, int]:
    return one["rollout"], one["tenant"], one["track"], one["revision"], one["ordinal"]
