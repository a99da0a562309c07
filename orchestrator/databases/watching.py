"""How long a session is looked after from another one, and when it is held for lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio

from orchestrator.databases.base import Guard
from orchestrator.errors import TargetError

WATCH_SECONDS = 1.0
ABANDON_SECONDS = 10.0
# So many looks in a row without an answer, and the guard is held for lost: the server is frozen, or the way to it gone.
MISSED_LOOKS = 2


async def lost(
    guard: Guard, backends: Sequence[int], seen: Callable[[str | None], None] = lambda blocker: None
) -> None:
    """Return when the guard is lost. It is asked all the while: some servers end a session that says nothing, and some
    drivers tell of an end only when asked. `seen` is told who blocks the backends, at each look."""
    missed = 0
    while not guard.lost.is_set():
        with anyio.move_on_after(WATCH_SECONDS):
            await guard.lost.wait()
            return
        with anyio.CancelScope(shield=True):
            try:
                seen(await guard.blockers(backends))
            except TargetError:
                missed += 1
            else:
                missed = 0
        if missed >= MISSED_LOOKS:
            guard.lost.set()
