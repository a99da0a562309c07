"""Which databases are asked for sizes: the largest, few of them, and what becomes of those that do not answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import anyio
import pytest
from sqlalchemy.engine import make_url

from orchestrator.databases.base import Limits, Place
from orchestrator.databases.sizes import Wanted
from orchestrator.errors import TargetUnreachableError
from orchestrator.execute import measuring
from orchestrator.execute.measuring import Asked, Measurer, chosen
from orchestrator.execute.slots import Slots
from orchestrator.plan.parts import Size, Sized
from orchestrator.plan.tokens import Table
from orchestrator.registry.model import Registry, Shard, Target
from tests import engine

ORDERS = Table("orders")
WANTED: Wanted = {ORDERS: frozenset()}


@dataclass
class Fake:
    """Databases `d<n>` of which `orders` has n rows; those in `down` do not answer, those in `silent` never do."""

    down: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()
    unknown: bool = False
    asked: list[str] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    async def databases(self, place: Place, names: Sequence[str]) -> Mapping[str, int]:
        if self.unknown:
            raise TargetUnreachableError("cannot use database 'd0' on h: permission denied")
        return {name: int(name[1:]) for name in names}

    async def tables(self, places: Sequence[Place], wanted: Wanted) -> Sized:
        name = places[0].target.database
        self.asked.append(name)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await anyio.sleep(3600 if name in self.silent else 0)
        self.at_once -= 1
        if name in self.down:
            raise TargetUnreachableError(f"cannot use database {name!r} on h: no answer in time")
        rows = float(name[1:])
        return Sized(16, [(table, Size(place.target.tenant, rows, 0)) for place in places for table in wanted])


def fleet(count: int, shards: int = 1, kind: str = "postgresql") -> tuple[Registry, list[Target]]:
    targets = [Target(f"t{n}", "app", f"s{n % shards}", f"d{n}") for n in range(count)]
    made = [Shard(f"s{n}", make_url(f"{kind}://u:hunter2@h{n}")) for n in range(shards)]
    return engine.registry_of([], made, targets), targets


def measurer(fake: Fake) -> Measurer:
    return Measurer(Slots(8), Limits(), {"postgresql": fake})


async def test_only_the_largest_databases_are_asked() -> None:
    fake = Fake()
    registry, targets = fleet(500)
    [found] = await measurer(fake).measure(registry, [Asked(targets, WANTED)])
    assert sorted(fake.asked) == ["d497", "d498", "d499"]
    assert (found.sizes[ORDERS].tenant, found.sizes[ORDERS].rows) == ("t499", 499)
    assert (found.version, found.problem) == (16, None)
    assert fake.most_at_once <= 2  # a quarter of the shard's limit


async def test_each_group_has_its_own_largest_and_a_database_is_asked_once() -> None:
    fake = Fake()
    registry, targets = fleet(40)
    asked = [Asked(targets[:20], WANTED), Asked(targets[15:], WANTED), Asked([], {})]
    small, large, nothing = await measurer(fake).measure(registry, asked)
    assert (small.sizes[ORDERS].tenant, large.sizes[ORDERS].tenant) == ("t19", "t39")
    assert len(fake.asked) == len(set(fake.asked)) == 6
    assert (nothing.sizes, nothing.problem) == ({}, None)


async def test_all_shards_together_are_bounded_too() -> None:
    fake = Fake()
    registry, targets = fleet(400, shards=40)
    await measurer(fake).measure(registry, [Asked(targets, WANTED)])
    assert len(fake.asked) == measuring.MOST
    assert len({int(name[1:]) % 40 for name in fake.asked}) == measuring.MOST  # one of each before a second of any


async def test_one_that_does_not_answer_is_told_of_and_the_others_count() -> None:
    registry, targets = fleet(3)
    [found] = await measurer(Fake(frozenset({"d2"}))).measure(registry, [Asked(targets, WANTED)])
    assert found.sizes[ORDERS].tenant == "t1"
    assert found.problem == "cannot use database 'd2' on h: no answer in time"


async def test_where_sizes_of_databases_are_not_told_some_are_asked_all_the_same() -> None:
    fake = Fake(unknown=True)
    registry, targets = fleet(9)
    [found] = await measurer(fake).measure(registry, [Asked(targets, WANTED)])
    assert sorted(fake.asked) == ["d0", "d1", "d2"]
    assert found.sizes[ORDERS].rows == 2


async def test_a_silent_server_ends_it_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "LONGEST_SECONDS", 0.2)
    registry, targets = fleet(2)
    with anyio.fail_after(60):
        [found] = await measurer(Fake(silent=frozenset({"d1"}))).measure(registry, [Asked(targets, WANTED)])
    assert found.sizes[ORDERS].tenant == "t0"
    assert found.problem == "the databases gave no answer within 0.2 s"


async def test_other_kinds_of_databases_are_left_alone() -> None:
    registry, targets = fleet(2, kind="mysql")
    [found] = await measurer(Fake()).measure(registry, [Asked(targets, WANTED)])
    assert (found.sizes, found.problem) == ({}, None)


def test_those_of_unknown_size_come_last() -> None:
    _, targets = fleet(5)
    assert chosen([Asked(targets, WANTED)], {("s0", "d3"): 9, ("s0", "d4"): 1}) == [
        ("s0", "d3"),
        ("s0", "d4"),
        ("s0", "d0"),
    ]
