"""Limits hold and are shared fairly, whoever comes, goes, or is cancelled."""

from __future__ import annotations

import random

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.execute.slots import Slots, next_shard


@pytest.mark.parametrize(
    ("waiting", "in_use", "limits", "total", "expected"),
    [
        ([], {}, {}, 4, None),
        (["a"], {}, {"a": 1}, 4, "a"),
        (["a"], {"a": 1}, {"a": 1}, 4, None),
        (["a", "b"], {"a": 1}, {"a": 2, "b": 2}, 4, "b"),
        (["a", "b"], {"a": 2, "b": 2}, {"a": 8, "b": 8}, 4, None),
        (["b", "a"], {"a": 1, "b": 1}, {"a": 2, "b": 2}, 4, "b"),
    ],
)
def test_the_waiting_shard_that_uses_fewest_comes_next(
    waiting: list[str], in_use: dict[str, int], limits: dict[str, int], total: int, expected: str | None
) -> None:
    assert next_shard(waiting, in_use, limits, total) == expected


async def test_a_slow_shard_leaves_the_others_their_share() -> None:
    slots, order = Slots(4), []
    for _ in range(4):
        await slots.acquire("slow", 8)
    async with anyio.create_task_group() as tasks:

        async def want(shard: str) -> None:
            await slots.acquire(shard, 8)
            order.append(shard)

        for shard in ["slow", "slow", "slow", "fast", "fast"]:
            tasks.start_soon(want, shard)
        await anyio.wait_all_tasks_blocked()
        for _ in range(3):
            slots.release("slow")
            await anyio.wait_all_tasks_blocked()
        assert order == ["fast", "fast", "slow"]
        tasks.cancel_scope.cancel()


async def test_a_cancelled_waiter_takes_nothing_with_it() -> None:
    slots = Slots(1)
    await slots.acquire("a", 1)
    with anyio.move_on_after(0.01):
        await slots.acquire("a", 1)
    slots.release("a")
    with anyio.fail_after(1):
        async with slots.slot("a", 1):
            pass
    assert slots.in_use == {}


async def test_one_cancelled_at_the_moment_it_was_granted_gives_the_slot_back() -> None:
    slots = Slots(1)
    await slots.acquire("a", 1)

    async def want() -> None:
        async with slots.slot("a", 1):
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(want)
        await anyio.wait_all_tasks_blocked()
        slots.release("a")  # grants it, before the waiter has run
        tasks.cancel_scope.cancel()
    assert slots.in_use == {}


@given(seed=st.integers(0, 10_000))
def test_limits_are_never_exceeded_and_everybody_is_served(seed: int) -> None:
    drawn = random.Random(seed)
    limits = {"a": 1, "b": 3, "c": 5}

    async def run() -> int:
        slots, served = Slots(4), 0

        async def one(shard: str) -> None:
            nonlocal served
            async with slots.slot(shard, limits[shard]):
                assert sum(slots.in_use.values()) <= 4
                assert all(slots.in_use[name] <= limit for name, limit in limits.items())
                for _ in range(drawn.randrange(3)):
                    await anyio.lowlevel.checkpoint()
                served += 1

        async with anyio.create_task_group() as tasks:
            for _ in range(30):
                tasks.start_soon(one, drawn.choice("abc"))
        assert slots.in_use == {}
        return served

    assert anyio.run(run) == 30
