"""What a rollout that is being driven waits for besides commands and gates: windows, or the end of a freeze."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from orchestrator.rollout import windows
from orchestrator.rollout.standing import Standing
from orchestrator.rollout.state import RolloutState
from orchestrator.rollout.windows import Freeze, Held


class Waiting:
    """What the rollout's shares say, told as one: it is written when it changes."""

    def __init__(self, standing: Standing) -> None:
        self._standing = standing
        self._held: dict[str, Sequence[Held]] = {}
        self._frozen: dict[str, Freeze | None] = {}

    async def note(self, shard: str, held: Sequence[Held], freeze: Freeze | None) -> None:
        self._held[shard], self._frozen[shard] = held, freeze
        await self._tell()

    async def forget(self) -> None:
        """Nothing is driven any more."""
        self._held, self._frozen = {}, {}
        await self._tell()

    @property
    def _said(self) -> str | None:
        frozen = next((freeze for freeze in self._frozen.values() if freeze is not None), None)
        if frozen is not None:
            return f"waiting: {frozen}"
        return windows.told(one for held in self._held.values() for one in held)

    async def _tell(self) -> None:
        if self._standing.rollout.waiting == self._said:
            return
        async with self._standing.lock:
            rollout, said = self._standing.rollout, self._said
            if rollout.state is RolloutState.RUNNING and not rollout.aborting and rollout.waiting != said:
                with anyio.CancelScope(shield=True):  # or the store would know what this process does not
                    await self._standing.move(rollout.state, rollout.reason, waiting=said)
