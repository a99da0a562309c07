"""Limits hold and are shared fairly, whoever comes, goes, is cancelled, or changes them."""

from __future__ import annotations

import random
from collections import Counter

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.execute.pending import Pending
from orchestrator.execute.slots import Claim, Limits, Only, Part, Slots, Use, next_claim
from orchestrator.rollout.state import Migration

ONE, TWO = Part(), Part(2)


def _use(*slots: tuple[Part, str, str]) -> Use:
    use = Use()
    for slot in slots:
        use.add(*slot)
    return use


def _next(waiting: list[tuple[Part, str, str]], use: Use, limits: dict[str, Limits], total: int) -> int | None:
    """The place of the claim that comes next."""
    claims = [
        Claim(part, shard, Only(database), number=number) for number, (part, shard, database) in enumerate(waiting)
    ]
    found = next_claim(claims, use, total, limits)
    return found[0].number if found is not None else None


@pytest.mark.parametrize(
    ("waiting", "in_use", "limits", "total", "expected"),
    [
        ([], [], {}, 4, None),
        ([(ONE, "a", "x")], [], {"a": Limits(1)}, 4, 0),
        ([(ONE, "a", "x")], [(ONE, "a", "y")], {"a": Limits(1)}, 4, None),
        ([(ONE, "a", "x")], [], {"a": Limits(0)}, 4, None),
        ([(ONE, "a", "x"), (ONE, "b", "x")], [(ONE, "a", "x")], {"a": Limits(2), "b": Limits(2)}, 4, 1),
        ([(ONE, "b", "x"), (ONE, "a", "x")], [(ONE, "a", "x"), (ONE, "b", "x")], dict.fromkeys("ab", Limits(2)), 4, 0),
        ([(ONE, "a", "x")], [(ONE, "a", "x"), (ONE, "b", "y")], dict.fromkeys("ab", Limits(8)), 2, None),
        # a database at its limit, and the next of its shard
        ([(ONE, "a", "x"), (ONE, "a", "y")], [(ONE, "a", "x")], {"a": Limits(8, 1)}, 4, 1),
        ([(ONE, "a", "x")], [(ONE, "b", "x")], dict.fromkeys("ab", Limits(8, 1)), 4, 0),
        ([(ONE, "a", "x")], [(ONE, "a", "x")], {"a": Limits(8, 4, {"x": 1})}, 4, None),
        # a rollout at its limit, and another one; of two, who uses fewer
        ([(TWO, "a", "x"), (ONE, "a", "x")], [(TWO, "a", "x"), (TWO, "b", "x")], dict.fromkeys("ab", Limits(8)), 9, 1),
        ([(ONE, "a", "x"), (TWO, "a", "x")], [(ONE, "a", "x")], {"a": Limits(8)}, 9, 1),
        # its own shard where it uses fewer counts before what others do there
        (
            [(ONE, "a", "x"), (ONE, "b", "x")],
            [(ONE, "a", "x"), (TWO, "b", "x"), (TWO, "b", "x")],
            dict.fromkeys("ab", Limits(8)),
            9,
            1,
        ),
    ],
)
def test_the_next_claim_is_that_of_the_rollout_and_shard_that_use_fewest(
    waiting: list[tuple[Part, str, str]],
    in_use: list[tuple[Part, str, str]],
    limits: dict[str, Limits],
    total: int,
    expected: int | None,
) -> None:
    assert _next(waiting, _use(*in_use), limits, total) == expected


async def test_a_slow_shard_leaves_the_others_their_share() -> None:
    slots, order = Slots(4), []
    for shard in ("slow", "fast"):
        slots.limit(shard, Limits(8))
    for _ in range(4):
        await slots.acquire(ONE, "slow", Only("x"))
    async with anyio.create_task_group() as tasks:

        async def want(shard: str) -> None:
            await slots.acquire(ONE, shard, Only("x"))
            order.append(shard)

        for shard in ["slow", "slow", "slow", "fast", "fast"]:
            tasks.start_soon(want, shard)
        await anyio.wait_all_tasks_blocked()
        for _ in range(3):
            slots.release(ONE, "slow", "x")
            await anyio.wait_all_tasks_blocked()
        assert order == ["fast", "fast", "slow"]
        tasks.cancel_scope.cancel()


async def test_a_database_at_its_limit_holds_up_nobody_else() -> None:
    slots, order = Slots(8), []
    slots.limit("a", Limits(8, 1))
    async with anyio.create_task_group() as tasks:

        async def want(database: str) -> None:
            await slots.acquire(ONE, "a", Only(database))
            order.append(database)

        for database in ["x", "x", "x", "y", "z"]:
            tasks.start_soon(want, database)
            await anyio.wait_all_tasks_blocked()
        assert order == ["x", "y", "z"]
        slots.release(ONE, "a", "y")
        await anyio.wait_all_tasks_blocked()
        assert order == ["x", "y", "z"]
        slots.release(ONE, "a", "x")
        await anyio.wait_all_tasks_blocked()
        assert order == ["x", "y", "z", "x"]
        tasks.cancel_scope.cancel()


async def test_a_new_limit_counts_at_once_for_who_waits_and_takes_from_nobody() -> None:
    slots, part, started = Slots(2), Part(2), 0
    slots.limit("a", Limits(9))
    async with anyio.create_task_group() as tasks:

        async def want() -> None:
            nonlocal started
            await slots.acquire(part, "a", Only("x"))
            started += 1

        async def becomes(number: int) -> None:
            await anyio.wait_all_tasks_blocked()
            assert started == number

        for _ in range(9):
            tasks.start_soon(want)
        await becomes(2)
        slots.resize(6)
        await becomes(2)
        slots.allow(part, 4)
        await becomes(4)
        slots.allow(part, 1)  # fewer than run
        slots.release(part, "a", "x")
        await becomes(4)
        slots.allow(part, None)
        await becomes(7)
        slots.limit("a", Limits(0))
        slots.release(part, "a", "x")
        await becomes(7)
        slots.limit("a", Limits(9))
        await becomes(8)
        assert slots.running("a") == {"x": 6}
        tasks.cancel_scope.cancel()


async def test_a_cancelled_waiter_takes_nothing_with_it() -> None:
    slots = Slots(1)
    slots.limit("a", Limits(1))
    await slots.acquire(ONE, "a", Only("x"))
    with anyio.move_on_after(0.01):
        await slots.acquire(ONE, "a", Only("x"))
    slots.release(ONE, "a", "x")
    with anyio.fail_after(60):
        async with slots.slot("a", 1):
            pass
    assert slots.use == Use()


async def test_one_cancelled_at_the_moment_it_was_granted_gives_the_slot_back() -> None:
    slots = Slots(1)
    slots.limit("a", Limits(1))
    await slots.acquire(ONE, "a", Only("x"))

    async def want() -> None:
        async with slots.slot("a", 1):
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(want)
        await anyio.wait_all_tasks_blocked()
        slots.release(ONE, "a", "x")  # grants it, before the waiter has run
        tasks.cancel_scope.cancel()
    assert slots.use == Use()


@given(seed=st.integers(0, 100_000))
def test_limits_are_never_exceeded_and_everybody_is_served(seed: int) -> None:
    """Also while they change: a start never makes more run than the limits of its moment allow."""
    drawn = random.Random(seed)
    limits = {
        shard: Limits(drawn.randint(1, 5), drawn.choice([None, 1, 2]), {"x": drawn.randint(1, 3)}) for shard in "abc"
    }

    async def run() -> int:
        slots, served = Slots(4), 0
        parts = [Part(drawn.choice([None, 1, 3])) for _ in range(2)]
        at: Counter[object] = Counter()
        for shard in limits:
            slots.limit(shard, limits[shard])

        def check(part: Part, shard: str, database: str) -> None:
            now = limits[shard]
            assert at["all"] <= slots.total
            assert at[part] <= (part.most or slots.total)
            assert at[shard] <= now.shard
            assert at[shard, database] <= now.of(database)

        async def one(part: Part, shard: str, database: str) -> None:
            nonlocal served
            places: list[object] = ["all", part, shard, (shard, database)]
            cancelled = drawn.random() < 0.1
            with anyio.CancelScope() as scope:
                if cancelled:
                    scope.cancel()
                assert await slots.acquire(part, shard, Only(database)) == database
                at.update(places)
                try:
                    if not changing:
                        check(part, shard, database)
                    for _ in range(drawn.randrange(3)):
                        await anyio.lowlevel.checkpoint()
                finally:
                    at.subtract(places)
                    slots.release(part, shard, database)
            served += 1

        changing = drawn.random() < 0.5
        async with anyio.create_task_group() as tasks:
            for _ in range(30):
                tasks.start_soon(one, drawn.choice(parts), drawn.choice("abc"), drawn.choice("xyz"))
            for _ in range(10 if changing else 0):
                await anyio.lowlevel.checkpoint()
                slots.resize(drawn.randint(1, 6))
                slots.allow(drawn.choice(parts), drawn.choice([None, 1, 2]))
                shard = drawn.choice("abc")
                slots.limit(shard, Limits(drawn.randint(0, 4), drawn.choice([None, 1])))
            for shard in limits:
                slots.limit(shard, limits[shard])
        assert slots.use == Use()
        return served

    assert anyio.run(run) == 30


@given(seed=st.integers(0, 100_000))
def test_shares_are_served_whole_and_in_order_whatever_their_databases_bear(seed: int) -> None:
    """Several rollouts on several shards, each driven as `Driver.run` does."""
    drawn = random.Random(seed)
    limits = {shard: Limits(drawn.randint(1, 4), drawn.choice([None, 1, 2])) for shard in "ab"}
    shares = [
        (part, shard, "".join(drawn.choice("xyz") for _ in range(drawn.randrange(12))))
        for part in (Part(), Part(drawn.randint(1, 3)))
        for shard in limits
    ]

    async def run() -> None:
        slots = Slots(drawn.randint(1, 6))
        for shard in limits:
            slots.limit(shard, limits[shard])

        async def one(part: Part, shard: str, database: str) -> None:
            for _ in range(drawn.randrange(4)):
                await anyio.lowlevel.checkpoint()
            slots.release(part, shard, database)

        async def drive(part: Part, shard: str, databases: str) -> None:
            pending = Pending((Migration("r", str(n), "app", shard), name) for n, name in enumerate(databases))
            started: dict[str, list[int]] = {}
            async with anyio.create_task_group() as tasks:
                while pending:
                    database = await slots.acquire(part, shard, pending)
                    assert slots.use.total <= slots.total
                    assert slots.use.parts[part] <= (part.most or slots.total)
                    assert slots.use.shards[shard] <= limits[shard].shard
                    assert slots.use.databases[shard, database] <= limits[shard].of(database)
                    started.setdefault(database, []).append(int(pending.take(database).tenant))
                    tasks.start_soon(one, part, shard, database)
            assert {name: sorted(numbers) for name, numbers in started.items()} == started
            assert sum(map(len, started.values())) == len(databases)

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                for share in shares:
                    tasks.start_soon(drive, *share)
        assert slots.use == Use()

    anyio.run(run)
