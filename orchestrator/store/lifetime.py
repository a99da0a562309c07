"""A task that runs beside a block and ends with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import anyio


@asynccontextmanager
async def beside(
    task: Callable[[], Coroutine[Any, Any, None]], stop: Callable[[], Awaitable[None]]
) -> AsyncIterator[None]:
    """Run `task`, which handles its own errors, while the block runs; then `stop` is called to end it.

    The block's exception comes out as it is: a task group would wrap it, and the operator would read of a group.
    """
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(task)
            try:
                yield
            finally:
                await stop()
    except BaseExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        raise group.exceptions[0] from group.exceptions[0].__cause__
