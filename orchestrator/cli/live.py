"""A rollout while it runs: a bar on a terminal, a line every few seconds anywhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import anyio
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrator.cli import screen
from orchestrator.cli.tally import FINISHED, Moment, Tally

REFRESH_SECONDS = 0.1
LINE_SECONDS = 5.0
SEPARATOR = " · "


def following(tally: Tally) -> AbstractAsyncContextManager[None]:
    """Show `tally` on standard error while the block runs, and once more as it ends."""
    console = screen.err()
    return _bar(console, tally) if console.is_terminal and not console.is_dumb_terminal else _lines(tally)


@asynccontextmanager
async def _bar(console: Console, tally: Tally) -> AsyncIterator[None]:
    # Live prints what is written meanwhile above the bar. Drawn by a task and not by Live's own thread, which would
    # read the tally while it changes.
    with Live(console=console, auto_refresh=False) as live:

        async def draw() -> None:
            while True:
                live.update(Bar(tally.moment(datetime.now(UTC))), refresh=True)
                await anyio.sleep(REFRESH_SECONDS)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(draw)
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()
                live.transient = not tally.rollout  # a bar that never started is of no interest
                live.update(Bar(tally.moment(datetime.now(UTC))), refresh=True)


@asynccontextmanager
async def _lines(tally: Tally) -> AsyncIterator[None]:
    async def tell() -> None:
        while True:
            await anyio.sleep(LINE_SECONDS)
            screen.remark(line(tally.moment(datetime.now(UTC))))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tell)
        try:
            yield
        finally:
            tasks.cancel_scope.cancel()
            if tally.rollout:
                screen.remark(line(tally.moment(datetime.now(UTC))))


def hear(tally: Tally, name: str, data: Mapping[str, Any]) -> None:
    """Let `tally` take account of an event, and tell at once of a cause of failure that is new."""
    if cause := tally.apply(name, data):
        screen.remark(cause)


class Bar:
    """Two lines, however wide the terminal: the bar, and below it as many facts as there is room for."""

    def __init__(self, moment: Moment) -> None:
        self._moment = moment

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        moment, width = self._moment, options.max_width
        style = "red" if moment.failures else "green"
        bar = ProgressBar(total=max(1, moment.total), completed=moment.done, complete_style=style, finished_style=style)
        grid = Table.grid(expand=True, padding=(0, 1, 0, 0))
        grid.add_column(no_wrap=True, max_width=max(8, width // 3))
        grid.add_column(ratio=1)
        grid.add_column(no_wrap=True)
        grid.add_row(Text(moment.title), bar, Text(f"{moment.done:,}/{moment.total:,}"))
        yield grid
        yield Text(fitted(facts(moment), width), style="dim", no_wrap=True)


def facts(moment: Moment) -> list[str]:
    """What there is to say, most important first."""
    said = [_state(moment)] if moment.state in ("planning", "paused", "awaiting_approval") or moment.waiting else []
    if moment.state not in FINISHED:
        said.append(f"{moment.running} running")
    if moment.failures:
        said.append(f"{moment.failures:,} failed")
    if moment.rate is not None:
        said.append(f"{moment.rate:.1f} targets/s")
    said.append(duration(moment.seconds))
    if moment.eta_seconds and moment.state == "running":
        said.append(f"about {duration(moment.eta_seconds)} left")
    return said


def line(moment: Moment) -> str:
    """
    >>> line(Moment("app to head", "running", None, 9, 2, {"succeeded": 3, "failed": 1}, 61.0, 0.5))
    'app to head: 4 of 9 done · 2 running · 1 failed · 0.5 targets/s · 1:01 · about 0:10 left'
    """
    return f"{moment.title}: {moment.done:,} of {moment.total:,} done{SEPARATOR}{SEPARATOR.join(facts(moment))}"


def fitted(parts: Iterable[str], width: int) -> str:
    """As many of `parts` as fit into `width` columns, at least one.

    >>> fitted(["8 running", "2 failed", "95.1 targets/s"], 25)
    '8 running · 2 failed'
    """
    first, *rest = parts
    for part in rest:
        if len(first) + len(SEPARATOR) + len(part) > width:
            break
        first += SEPARATOR + part
    return first


def duration(seconds: float) -> str:
    """
    >>> duration(9.4), duration(61), duration(3725)
    ('0:09', '1:01', '1:02:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _state(moment: Moment) -> str:
    if moment.waiting:
        return moment.waiting
    if moment.state != "paused" or not moment.reason:
        return moment.state.replace("_", " ")
    return moment.reason if moment.reason.startswith("paused") else f"paused: {moment.reason}"
