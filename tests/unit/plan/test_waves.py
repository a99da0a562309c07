"""Which wave takes which target."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import ConfigurationError
from orchestrator.plan import waves
from orchestrator.registry.model import EVERYONE, Strategy, Target, Wave

CANARY = Wave("canary", select="canary=true")


def _target(number: int, shard: str = "pg", track: str = "app", **labels: str) -> Target:
    return Target(f"t{number:04}", track, shard, f"d{number}", labels=labels)


def _names(part: waves.Part) -> set[str]:
    return {target.tenant for target in part.targets}


def test_a_canary_a_tenth_and_everyone() -> None:
    targets = [_target(n, canary=str(n < 5).lower()) for n in range(100)]
    strategy = Strategy("s", waves=(CANARY, Wave("tenth", percent=10), EVERYONE))
    canary, tenth, everyone = waves.assign(strategy, targets, "r1")
    assert _names(canary) == {f"t{n:04}" for n in range(5)}
    assert len(tenth.targets) == 10
    assert _names(tenth) | _names(canary) | _names(everyone) == {target.tenant for target in targets}
    assert len(everyone.targets) == 85


def test_a_share_is_spread_over_shards_and_labels() -> None:
    targets = [_target(n, shard=f"pg{n % 4}", tier="free" if n % 8 < 4 else "paid") for n in range(400)]
    part, _ = waves.assign(Strategy("s", waves=(Wave("tenth", percent=10), EVERYONE)), targets, "r1")
    counted = Counter((target.shard, target.labels["tier"]) for target in part.targets)
    assert set(counted.values()) == {5}
    assert len(counted) == 8


def test_a_share_stays_for_one_rollout_and_changes_with_the_next() -> None:
    targets = [_target(n) for n in range(100)]
    strategy = Strategy("s", waves=(Wave("few", count=10), EVERYONE))
    first = waves.assign(strategy, targets, "r1")
    assert waves.assign(strategy, list(reversed(targets)), "r1")[0].targets != ()
    assert _names(waves.assign(strategy, list(reversed(targets)), "r1")[0]) == _names(first[0])
    assert _names(waves.assign(strategy, targets, "r2")[0]) != _names(first[0])


def test_the_targets_of_a_tenant_stay_together() -> None:
    targets = [_target(n, track=track) for n in range(50) for track in ("app", "warehouse")]
    few, everyone = waves.assign(Strategy("s", waves=(Wave("few", count=7), EVERYONE)), targets, "r1")
    assert len(few.targets) == 14
    assert not _names(few) & _names(everyone)


def test_an_empty_canary_is_refused_unless_it_may_be_empty() -> None:
    targets = [_target(1)]
    with pytest.raises(ConfigurationError, match="wave 'canary' of strategy 's' would be empty"):
        waves.assign(Strategy("s", waves=(CANARY, EVERYONE)), targets, "r1")
    optional = Wave("canary", select="canary=true", optional=True)
    empty, everyone = waves.assign(Strategy("s", waves=(optional, EVERYONE)), targets, "r1")
    assert (len(empty.targets), len(everyone.targets)) == (0, 1)


def test_later_waves_may_be_empty_when_nothing_is_left() -> None:
    parts = waves.assign(Strategy("s", waves=(Wave("few", count=3), CANARY, EVERYONE)), [_target(1), _target(2)], "r1")
    assert [len(part.targets) for part in parts] == [2, 0, 0]


def test_a_percentage_is_of_all_and_never_nobody() -> None:
    targets = [_target(n, canary="true") for n in range(10)] + [_target(n) for n in range(10, 30)]
    strategy = Strategy("s", waves=(CANARY, Wave("share", percent=10), EVERYONE))
    assert [len(part.targets) for part in waves.assign(strategy, targets, "r1")] == [10, 3, 17]
    one = Strategy("s", waves=(Wave("share", percent=0.01), EVERYONE))
    assert [len(part.targets) for part in waves.assign(one, targets, "r1")] == [1, 29]


def test_targets_follow_the_order_that_is_asked_for() -> None:
    targets = [_target(1, size="10"), _target(2, size="9"), _target(3), _target(4, size="big"), _target(5, size="nan")]
    by_size = Strategy("s", order=("size",))
    assert [t.tenant[-1] for t in waves.assign(by_size, targets, "r")[0].targets] == ["2", "1", "4", "5", "3"]
    descending = Strategy("s", order=("-tenant",))
    assert [t.tenant[-1] for t in waves.assign(descending, targets, "r")[0].targets] == ["5", "4", "3", "2", "1"]


@given(
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from(["a", "b", "c"]), st.sampled_from(["x", "y"])), max_size=60),
    st.floats(0.1, 100),
    st.integers(1, 50),
    st.text(max_size=5),
)
def test_every_target_is_in_exactly_one_wave(
    found: list[tuple[int, str, str]], percent: float, count: int, salt: str
) -> None:
    targets = list({(n, track): _target(n, shard=shard, track=track) for n, shard, track in found}.values())
    strategy = Strategy("s", waves=(Wave("a", percent=percent), Wave("b", count=count), EVERYONE), order=("-shard",))
    parts = waves.assign(strategy, targets, salt)
    taken = Counter(target.key for part in parts for target in part.targets)
    assert taken == Counter(target.key for target in targets)
    tenants = len({target.tenant for target in targets})
    assert len(_names(parts[0])) == min(tenants, max(1, -(-round(tenants * percent / 100, 6) // 1)))
