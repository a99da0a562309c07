"""Targets whose hours have not come are passed over, and keep their places."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.execute.gate import Gate, Group
from orchestrator.execute.gated import Gated, OnlyOpen
from orchestrator.execute.predictions import Predictions, Stretch
from orchestrator.rollout.state import Migration

SHARES = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), max_size=25)


def make(share: list[tuple[str, str]], shut: set[str], version: list[str] | None = None) -> Gated:
    """Migrations named by their place, each with a group and a database; `shut` may change."""
    at = version or ["a"]
    migrations = [(Migration("r", str(n), group, "pg"), database) for n, (group, database) in enumerate(share)]
    return Gated(migrations, lambda one: Group((one.track,)), lambda group: group.windows[0] not in shut, lambda: at[0])


@given(SHARES, st.lists(st.tuples(st.sets(st.sampled_from("abc")), st.sets(st.sampled_from("xyz")), st.booleans())))
def test_the_first_that_may_start_is_the_one_and_each_is_taken_once(
    share: list[tuple[str, str]], moments: list[tuple[set[str], set[str], bool]]
) -> None:
    shut, version = set[str](), ["a"]
    gated, left = make(share, shut, version), list(enumerate(share))
    everything: list[tuple[set[str], set[str], bool]] = [(set(), set(), False)] * len(share)
    for closed, full, again in [*moments, *everything]:
        shut.clear()
        shut.update(closed)
        if again:
            version[0] += "b"
        may = [(n, database) for n, (group, database) in left if group not in closed and database not in full]
        found = gated.first(lambda name, full=full: name not in full)  # type: ignore[misc]
        assert found == (may[0][1] if may else None)
        if found is not None:
            taken = gated.take(found)
            assert taken is not None
            assert taken.tenant == str(may[0][0])
            left = [one for one in left if one[0] != may[0][0]]
        assert sum(number for _, number in gated.counts()) == len(left)
    assert not left
    assert not gated


def test_what_shuts_before_it_is_taken_is_not_taken() -> None:
    shut: set[str] = set()
    gated = make([("a", "x"), ("b", "x"), ("a", "y")], shut)
    assert gated.first(lambda name: True) == "x"
    shut.add("a")
    second = gated.take("x")  # the other one of that database may
    assert second is not None
    assert second.tenant == "1"
    assert gated.take("x") is None
    assert gated.first(lambda name: True) is None
    assert gated


def test_one_that_started_before_waits_for_its_hours_too() -> None:
    open_ones: set[Group] = set()
    wanted = OnlyOpen("x", lambda: Group(("a",)), lambda group: group in open_ones)
    assert wanted.first(lambda name: True) is None
    open_ones.add(Group(("a",)))
    assert wanted.first(lambda name: True) == "x"
    assert wanted.first(lambda name: False) is None


def test_a_prediction_is_a_high_quantile_of_the_nearest() -> None:
    known = Predictions()
    way = Stretch("app", "pg", ("a",), ("b",))
    assert known.of(way, 600.0) == 600.0
    for seconds in range(1, 101):
        known.note(way, float(seconds))
    assert known.of(way, 600.0) == 95.0
    assert known.of(Stretch("app", "other", ("a",), ("b",)), 600.0) == 95.0  # another shard, where nothing is known
    known.note(Stretch("app", "other", ("a",), ("b",)), 3.0)
    assert known.of(Stretch("app", "other", ("a",), ("b",)), 600.0) == 3.0
    assert known.of(Stretch("app", "pg", None, ("b",)), 600.0) == 95.0  # heads that are not known yet
    assert known.of(Stretch("app", "pg", ("0",), ("b",)), 600.0) == 600.0  # from further back: no less than expected
    assert known.of(Stretch("app", "pg", ("0",), ("b",)), 10.0) == 95.0
    assert known.of(Stretch("app", "pg", ("b",), ("c",)), 600.0) == 600.0


async def test_a_gate_that_knows_no_store_is_never_frozen() -> None:
    gate = Gate()
    await gate.refresh()
    assert gate.freeze is None
