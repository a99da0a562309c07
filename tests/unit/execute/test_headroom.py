"""What a server bears, and why it is no more."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from orchestrator.databases.occupancy import Filling, Occupancy
from orchestrator.execute import headroom
from orchestrator.execute.headroom import SESSIONS, Room, room
from orchestrator.registry.model import Shard

SHARD = Shard("pg", make_url("postgresql://h"), max_concurrent=8)


@pytest.mark.parametrize(
    ("occupancy", "running", "expected"),
    [
        (Occupancy(97, 0), {}, 46),
        (Occupancy(97, 90), {}, 1),  # 7 left, 5 of them reserved
        (Occupancy(97, 94), {}, 1),  # one may go on, though it takes what is reserved
        (Occupancy(97, 96), {}, 0),  # the server would refuse its second session
        (Occupancy(97, 99), {}, 0),
        # what is our own does not count against us
        (Occupancy(27, 20, databases={"a": Filling(2, 2), "b": Filling(2, 2)}), {"a": 1, "b": 1}, 3),
        (Occupancy(27, 20, databases={"a": Filling(2, 2), "b": Filling(2, 2)}), {"a": 1}, 2),
        # what only looks like ours does
        (Occupancy(27, 20, databases={"a": Filling(9, 9)}), {"a": 1}, 2),
        # one that has just begun will have two
        (Occupancy(27, 20, databases={"a": Filling(1, 1)}), {"a": 1}, 1),
        # the account's own limit: nothing of it is left to others, but one for the next question
        (Occupancy(97, 0, 6, 0), {}, 2),
        (Occupancy(97, 4, 7, 4, {"a": Filling(4, 4)}), {"a": 2}, 3),
        (Occupancy(97, 5, 6, 5), {}, 0),
    ],
)
def test_what_a_server_bears(occupancy: Occupancy, running: Mapping[str, int], expected: int) -> None:
    found = room(occupancy, 5, running)
    assert found.migrations == expected
    assert found.reason


def test_a_database_with_a_limit_of_its_own_bears_less() -> None:
    databases = {"a": Filling(6, 2, 15), "b": Filling(10, 0, 11), "c": Filling(3, 0), "d": Filling(7, 0, 10)}
    assert room(Occupancy(97, 26, databases=databases), 5, {"a": 1}).databases == {"a": 3, "b": 0, "d": 1}


@given(
    most=st.integers(0, 60),
    others=st.integers(0, 60),
    reserve=st.integers(0, 20),
    running=st.integers(0, 20),
    missing=st.integers(0, 40),
)
def test_what_may_run_never_needs_more_than_the_server_has(
    most: int, others: int, reserve: int, running: int, missing: int
) -> None:
    """Whichever of our sessions are open at the moment of asking: when all are, others have theirs and the reserve."""
    opened = max(0, SESSIONS * running - missing)
    found = room(Occupancy(most, others + opened, databases={"a": Filling(opened, opened)}), reserve, {"a": running})
    assert found.migrations is not None
    if found.migrations > 1:
        assert others + SESSIONS * found.migrations + max(reserve, 1) <= most
    if found.migrations == 1:
        assert others + min(SESSIONS, most) <= most
    if found.migrations == 0:
        assert others + SESSIONS > most


@pytest.mark.parametrize(
    ("found", "limit", "cause"),
    [
        (headroom.UNKNOWN, 8, ""),
        (Room(8, cause="connections"), 8, ""),
        (Room(50, cause="connections"), 8, ""),
        (Room(7, cause="connections", reason="x"), 7, "connections"),
        (Room(50, {"a": 1}, "connections"), 8, ""),
        (Room(50, {"a": 0}, "connections"), 8, "database"),
        (headroom.refused("sorry, too many clients already"), 0, "full"),
    ],
)
def test_a_shard_is_throttled_when_fewer_run_than_the_registry_allows(found: Room, limit: int, cause: str) -> None:
    assert found.limits(SHARD).shard == limit
    assert headroom.throttled(found, SHARD)[0] == cause


def test_many_full_databases_are_told_in_few_words() -> None:
    _, reason = headroom.throttled(Room(50, dict.fromkeys("abcdef", 0), "connections"), SHARD)
    assert reason.endswith("allowed to database a, b, c and 3 more")
