"""Work in threads that can be told to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread
from anyio.lowlevel import checkpoint_if_cancelled

from orchestrator.errors import TargetError

_T = TypeVar("_T")


async def interruptible(work: Callable[[threading.Event], _T], limiter: anyio.CapacityLimiter | None = None) -> _T:
    """Run `work` in a thread. It is given an event to look at now and then, which is set when we are cancelled; its
    end is waited for in any case. Raises the TargetError that it raises."""
    gone = threading.Event()
    found: list[_T] = []
    failure: TargetError | None = None
    async with anyio.create_task_group() as tasks:

        async def tell() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                gone.set()

        tasks.start_soon(tell)
        try:
            found.append(await anyio.to_thread.run_sync(work, gone, limiter=limiter))
        except TargetError as exc:
            failure = exc
        tasks.cancel_scope.cancel()
    await checkpoint_if_cancelled()  # the thread's end hides a cancellation until the next wait
    if failure is not None:
        raise failure
    return found[0]
