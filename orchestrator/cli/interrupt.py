"""Ctrl-C, asked twice: the first time it ends things in order, the second time at once."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import anyio.abc

from orchestrator.cli import screen
from orchestrator.cli.boundary import INTERRUPTED


@asynccontextmanager
async def handled(first: Callable[[], object], *, leaving: str) -> AsyncIterator[None]:
    """Call `first` at the first SIGINT or SIGTERM while the block runs; the second one ends the process there.

    `leaving` says what becomes of what was left running.
    """
    async with anyio.create_task_group() as tasks:
        await tasks.start(_receive, first, leaving)
        try:
            yield
        finally:
            tasks.cancel_scope.cancel()


async def _receive(first: Callable[[], object], leaving: str, *, task_status: anyio.abc.TaskStatus[None]) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
        task_status.started()
        asked = False
        async for _number in received:
            if asked:
                leave(leaving)
            asked = True
            first()


def leave(leaving: str) -> None:
    """End the process without waiting for anything; threads that run revisions cannot be waited for."""
    screen.remark(f"left at once; {leaving}")
    console = screen.err()
    if console.is_terminal:
        console.show_cursor(True)
        console.print()  # the live view left the cursor at its end
    os._exit(INTERRUPTED)
