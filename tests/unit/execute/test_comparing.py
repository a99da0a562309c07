"""Thousands of schemas: at most a quarter of a shard's limit at once, and never more than a few in memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from sqlalchemy.engine import make_url

from orchestrator.errors import TargetUnreachableError
from orchestrator.execute.comparing import AT_ONCE, Comparer
from orchestrator.execute.slots import Slots
from orchestrator.plan import roles
from orchestrator.plan.catalog import Catalog, Line, read
from orchestrator.plan.drift import Standing
from orchestrator.registry.model import Registry, Shard, Target, TargetKey, Track

pytestmark = pytest.mark.anyio

LINES = tuple(Line(f"column | {n}", f"t{n}", space="public") for n in range(50))
OWN = Line("column | by hand", "t0", "by_hand", "public")


@dataclass
class FakeReader:
    """`odd`: tenants with a line of their own; `gone`: shards whose server is down; `crashing`: tenants whose reading
    is a bug; `moved`: those that are at the next revision."""

    odd: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()
    crashing: frozenset[str] = frozenset()
    moved: frozenset[str] = frozenset()
    now: Counter[str] = field(default_factory=Counter)
    most: Counter[str] = field(default_factory=Counter)
    most_of_all: int = 0
    reads: Counter[str] = field(default_factory=Counter)

    async def catalog(self, registry: Registry, target: Target) -> Catalog:
        self.now[target.shard] += 1
        self.most[target.shard] = max(self.most[target.shard], self.now[target.shard])
        self.most_of_all = max(self.most_of_all, self.now.total())
        self.reads[target.tenant] += 1
        try:
            await anyio.lowlevel.checkpoint()
            if target.shard in self.gone:
                raise TargetUnreachableError("no answer", kind="unreachable", retriable=True)
            if target.tenant in self.crashing:
                raise ValueError("a surprise")
            heads = ("c3",) if target.tenant in self.moved else ("b2",)
            return Catalog("fake", heads, (*LINES, OWN) if target.tenant in self.odd else LINES)
        finally:
            self.now[target.shard] -= 1


def registry(count: int, shards: int, limit: int) -> Registry:
    names = [f"s{n}" for n in range(shards)]
    url = make_url("postgresql://h")
    return Registry(
        Path("/tenants.yaml"),
        "test",
        {"app": Track("app", script_location=Path("/"))},
        {name: Shard(name, url, limit) for name in names},
        tuple(Target(f"t{n:04}", "app", names[n % shards], f"d{n}") for n in range(count)),
    )


async def test_the_thousandth_tenant_is_found_within_the_limits() -> None:
    fleet, reader = registry(1500, 30, 16), FakeReader(odd=frozenset({"t0999"}))
    comparer = Comparer(reader, Slots(1000))
    verdicts = await comparer.judge(fleet, fleet.targets)
    assert [one.key.tenant for one in verdicts if one.standing is Standing.DRIFTED] == ["t0999"]
    assert len(verdicts) == 1500
    assert max(reader.most.values()) <= 4
    assert reader.most_of_all <= AT_ONCE

    differences = await comparer.differences(fleet, verdicts, 20)
    assert list(differences) == [TargetKey("t0999", "app")]
    assert differences[TargetKey("t0999", "app")].total == 1
    again = {tenant: n for tenant, n in reader.reads.items() if n > 1}
    assert again == {"t0000": 2, "t0999": 2}  # only the outlier and one that it should be like


async def test_a_server_that_is_down_does_not_hold_up_the_look() -> None:
    fleet, reader = registry(200, 2, 4), FakeReader(gone=frozenset({"s1"}), crashing=frozenset({"t0000"}))
    verdicts = await Comparer(reader, Slots(1000)).judge(fleet, fleet.targets)
    standings = Counter(one.standing for one in verdicts)
    assert standings == {Standing.EQUAL: 99, Standing.UNREAD: 101}
    assert sum(reader.reads[one.tenant] for one in fleet.targets if one.shard == "s1") < 10
    assert "this is a bug" not in str(verdicts[0].why)
    assert "ValueError" in str(verdicts[0].why)


@pytest.mark.parametrize("moved", ["t0000", "t0002"], ids=["the reference", "the one that drifted"])
async def test_schemas_of_two_revisions_are_not_shown_as_drift(moved: str) -> None:
    """A rollout has come between the look and the reading of the lines."""
    fleet, reader = registry(5, 1, 4), FakeReader(odd=frozenset({"t0002"}))
    comparer = Comparer(reader, Slots(1000))
    verdicts = await comparer.judge(fleet, fleet.targets)
    reader.moved = frozenset({moved})
    assert await comparer.differences(fleet, verdicts, 20) == {}


async def test_what_was_mended_before_its_lines_were_read_has_no_difference() -> None:
    fleet, reader = registry(5, 1, 4), FakeReader(odd=frozenset({"t0002"}))
    comparer = Comparer(reader, Slots(1000))
    verdicts = await comparer.judge(fleet, fleet.targets)
    reader.odd = frozenset()
    assert await comparer.differences(fleet, verdicts, 20) == {}


@dataclass
class GrantedReader(FakeReader):
    """Each tenant has a role of its own, and all have one that is named as if it were t0001's; `without`: but these."""

    without: frozenset[str] = frozenset()

    async def catalog(self, registry: Registry, target: Target) -> Catalog:
        await super().catalog(registry, target)
        own = roles.marked(f"app_{target.tenant}", "app_<tenant>")
        short = "<tenant>_ro" if target.tenant == "t0001" else "t0001_ro"
        common = "" if target.tenant in self.without else f"{roles.BETWEEN}{roles.marked('t0001_ro', short)}"
        granted = f"relation | orders | {roles.FIRST}{own}{common}{roles.LAST}"
        return read([granted, *LINES], "fake", ("b2",))


async def test_only_who_was_mistaken_for_the_owner_of_a_common_role_is_read_again() -> None:
    fleet, reader = registry(100, 4, 16), GrantedReader()
    verdicts = await Comparer(reader, Slots(1000)).judge(fleet, fleet.targets)
    assert {one.standing for one in verdicts} == {Standing.EQUAL}
    assert {tenant: n for tenant, n in reader.reads.items() if n > 1} == {"t0001": 2}


async def test_who_lacks_a_common_role_has_drifted_and_its_name_is_shown() -> None:
    fleet, reader = registry(20, 1, 16), GrantedReader(without=frozenset({"t0001", "t0007"}))
    comparer = Comparer(reader, Slots(1000))
    verdicts = await comparer.judge(fleet, fleet.targets)
    assert [one.key.tenant for one in verdicts if one.standing is Standing.DRIFTED] == ["t0001", "t0007"]
    for difference in (await comparer.differences(fleet, verdicts, 20)).values():
        assert [str(line) for line in difference.lines] == [
            "- relation | orders | app_<tenant>, t0001_ro",
            "+ relation | orders | app_<tenant>",
        ]


async def test_a_role_of_another_tenant_makes_only_that_target_drift_that_has_it() -> None:
    """Few have it, so it is not common, and its owner stays as all are."""
    fleet = registry(20, 1, 16)
    reader = GrantedReader(without=frozenset(one.tenant for one in fleet.targets if one.tenant != "t0003"))
    verdicts = await Comparer(reader, Slots(1000)).judge(fleet, fleet.targets)
    assert [one.key.tenant for one in verdicts if one.standing is Standing.DRIFTED] == ["t0003"]
    assert max(reader.reads.values()) == 1
