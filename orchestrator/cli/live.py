"""A rollout while it runs: a live view on a terminal, a line every few seconds anywhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import anyio
from rich.console import Console
from rich.live import Live

from orchestrator.cli import screen, view
from orchestrator.cli.tally import Tally
from orchestrator.client.shapes import Backfill

REFRESH_SECONDS = 0.1
LINE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Shown:
    """What is shown; where there is no live view, what is new is said in a line of its own."""

    tally: Tally
    drawn: bool

    def hear(self, name: str, data: Mapping[str, Any]) -> None:
        """Let the tally take account of an event, and tell at once of what is new and wrong."""
        self._say(self.tally.apply(name, data))

    def throttle(self, shard: str, limit: int, allowed: int, reason: str | None) -> None:
        self._say(self.tally.throttle(shard, limit, allowed, reason))

    def backfills(self, found: Iterable[Backfill]) -> None:
        """Take account of those that are underway."""
        self.tally.backfills.put(found)

    def link(self, reason: str | None) -> None:
        """The daemon is not heard any more, and why; or it is again."""
        self.tally.heard(reason, _now())
        said = "connected again; nothing was missed" if reason is None else f"connection lost, trying again: {reason}"
        self._say(said)

    def _say(self, text: str | None) -> None:
        if text is not None and not self.drawn:
            screen.remark(text)


def following(tally: Tally) -> AbstractAsyncContextManager[Shown]:
    """Show `tally` on standard error while the block runs, and once more as it ends."""
    console = screen.err()
    return _view(console, tally) if console.is_terminal and not console.is_dumb_terminal else _lines(tally)


@asynccontextmanager
async def nobody(tally: Tally) -> AsyncIterator[Shown]:
    """Show nothing: log lines tell of it."""
    yield Shown(tally, drawn=True)


@asynccontextmanager
async def _view(console: Console, tally: Tally) -> AsyncIterator[Shown]:
    # Live prints what is written meanwhile above the view. Drawn by a task and not by Live's own thread, which would
    # read the tally while it changes.
    with Live(console=console, auto_refresh=False) as live:

        async def draw() -> None:
            while True:
                live.update(view.View(tally.moment(_now())), refresh=True)
                await anyio.sleep(REFRESH_SECONDS)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(draw)
            try:
                yield Shown(tally, drawn=True)
            finally:
                tasks.cancel_scope.cancel()
                live.transient = not tally.rollout  # a bar that never started is of no interest
                # What follows tells of waves and causes, with more room.
                live.update(view.Bar(tally.moment(_now())), refresh=True)


@asynccontextmanager
async def _lines(tally: Tally) -> AsyncIterator[Shown]:
    async def tell() -> None:
        while True:
            await anyio.sleep(LINE_SECONDS)
            if tally.link is None:
                screen.remark(view.line(tally.moment(_now())))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tell)
        try:
            yield Shown(tally, drawn=False)
        finally:
            tasks.cancel_scope.cancel()
            if tally.rollout:
                screen.remark(view.line(tally.moment(_now())))


def _now() -> datetime:
    return datetime.now(UTC)
