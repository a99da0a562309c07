"""What is done again and again, whatever becomes of the store meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from orchestrator.errors import StoreError


async def again_and_again(
    once: Callable[[], Awaitable[object]], tell: Callable[[StoreError], object], seconds: float
) -> None:
    """Do it for ever, with so many seconds between. An outage of the store is told once, and anew after it has
    answered; other errors are raised."""
    told = False
    while True:
        try:
            await once()
            told = False
        except StoreError as exc:
            if not told:
                tell(exc)
            told = True
        await anyio.sleep(seconds)
