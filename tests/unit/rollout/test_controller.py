"""A controller whose world does not go as it should; its work with real databases is in the integration tests."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

import anyio
import anyio.lowlevel

from orchestrator.errors import HistoryError
from orchestrator.rollout.controller import Controller
from orchestrator.rollout.ports import Checks, Dispatcher, Ledger
from orchestrator.rollout.state import Request, Rollout, RolloutState

START = datetime(2026, 11, 25, tzinfo=UTC)


class _Ledger:
    def __init__(self) -> None:
        self.states: list[RolloutState] = []

    async def save_rollout(self, rollout: Rollout, event: object = None) -> None:
        self.states.append(rollout.state)
        await anyio.lowlevel.checkpoint()

    async def save_migrations(self, migrations: Sequence[Any], events: Sequence[Any] = ()) -> None:
        await anyio.lowlevel.checkpoint()

    async def migrations(self, rollout_id: str, **_: Any) -> Sequence[Any]:
        return ()

    async def failures(self, rollout_id: str, **_: Any) -> Sequence[Any]:
        return ()


class _Dispatcher:
    prepared = 0

    async def prepare(self, rollout: Rollout) -> Any:
        self.prepared += 1
        await anyio.lowlevel.checkpoint()
        raise HistoryError("the goal is gone", track="app")


async def test_a_way_back_whose_history_cannot_be_used_waits_for_a_person() -> None:
    rollout = Rollout("r", Request("app", "head"), ("b",), 0, START, state=RolloutState.RUNNING, rolling_back=True)
    ledger, dispatcher = _Ledger(), _Dispatcher()
    controller = Controller(rollout, cast(Ledger, ledger), cast(Dispatcher, dispatcher), cast(Checks, None))
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(controller.run)
            while controller.rollout.state is not RolloutState.PAUSED:
                await anyio.lowlevel.checkpoint()
            assert "the goal is gone" in str(controller.rollout.reason)
            for _ in range(20):
                await anyio.lowlevel.checkpoint()
            assert dispatcher.prepared == 1
            await controller.abort("enough")
    assert ledger.states == [RolloutState.PAUSED, RolloutState.RUNNING, RolloutState.ABORTED]
