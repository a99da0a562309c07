"""Migrations start in order, but for those whose database has no room."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.execute.pending import Pending
from orchestrator.rollout.state import Migration


def _pending(databases: str) -> Pending:
    """One migration for each letter, named by its place."""
    return Pending((Migration("r", str(n), "app", "pg"), database) for n, database in enumerate(databases))


def test_the_first_one_comes_first_and_passes_nobody_over() -> None:
    pending = _pending("xyx")
    taken = []
    while (database := pending.first(lambda name: True)) is not None:
        taken.append((database, pending.take(database).tenant))
    assert taken == [("x", "0"), ("y", "1"), ("x", "2")]
    assert not pending


def test_one_whose_database_is_full_keeps_its_place() -> None:
    pending = _pending("xxyz")
    assert pending.first(lambda name: name != "x") == "y"
    assert pending.take("y").tenant == "2"
    assert pending.first(lambda name: False) is None
    assert pending.first(lambda name: True) == "x"
    assert [pending.take("x").tenant for _ in range(2)] == ["0", "1"]
    assert pending.first(lambda name: True) == "z"


def test_what_is_not_there_cannot_be_taken() -> None:
    with pytest.raises(KeyError):
        _pending("x").take("y")


@given(st.text("vwxyz", max_size=30), st.lists(st.sets(st.sampled_from("vwxyz"))))
def test_whatever_is_full_each_is_taken_once_and_the_first_that_may_is_the_one(
    databases: str, full: list[set[str]]
) -> None:
    pending, left = _pending(databases), list(enumerate(databases))
    for closed in [*full, *([set[str]()] * len(databases))]:
        expected = next(((str(n), name) for n, name in left if name not in closed), None)
        found = pending.first(lambda name, closed=closed: name not in closed)  # type: ignore[misc]
        assert found == (expected[1] if expected else None)
        if expected is not None and found is not None:
            assert pending.take(found).tenant == expected[0]
            left.remove((int(expected[0]), found))
    assert not left
    assert not pending
