"""What may still run on a target of a bound rollout, whatever its heads are by then."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.history import scripts
from orchestrator.history.revisions import History
from orchestrator.plan.bound import BoundPlanner, Planned
from orchestrator.plan.steps import Direction, Planner
from orchestrator.registry.model import Track
from tests import environments

Heads = tuple[str, ...]


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    """one - two - three - four
    \\- side
    """
    folder: Path = tmp_path_factory.mktemp("project")
    environments.make_project(folder)
    for revision, down in (("one", None), ("two", "one"), ("three", "two"), ("four", "three"), ("side", "one")):
        environments.add_revision(folder, revision, down, "pass")
    return History(
        Track("app", config=folder / "alembic.ini"), scripts.read(Track("app", config=folder / "alembic.ini"))[0]
    )


UP: Direction = "upgrade"
DOWN: Direction = "downgrade"
STAMP: Direction = "stamp"


@pytest.mark.parametrize(
    ("planned", "heads", "goal", "direction", "left"),
    [
        (("one",), ("one",), ("four",), UP, "two three four"),
        (("one",), ("two",), ("four",), UP, "three four"),  # an attempt before came so far
        (("one",), ("four",), ("four",), UP, ""),
        (("two",), ("one",), ("four",), UP, None),  # `two` was not planned
        (("two",), (), ("four",), UP, None),
        (("two",), None, ("four",), UP, None),  # the version table is gone
        (("one",), ("side",), ("four",), UP, None),
        (("one",), ("side", "two"), ("four",), UP, None),
        ((), None, ("three",), UP, "one two three"),
        ((), ("one",), ("three",), UP, "two three"),  # adopted, say
        (("two",), ("two",), ("+1",), UP, "three"),
        (("two",), ("three",), ("+1",), UP, ""),  # never a second one
        (("two",), ("four",), ("+1",), UP, ""),
        (("two",), ("one",), ("+1",), UP, None),
        (("four",), ("four",), ("two",), DOWN, "four three"),
        (("four",), ("three",), ("two",), DOWN, "three"),
        (("three",), ("four",), ("two",), DOWN, None),
        (("four",), ("one",), ("two",), DOWN, ""),
        (("two",), ("two",), ("four",), STAMP, "four"),
        (("two",), ("four",), ("four",), STAMP, ""),
        (("two",), ("three",), ("four",), STAMP, None),
        (("four",), ("four",), ("four",), UP, ""),
        (("four",), ("three",), ("four",), UP, None),  # it was planned to be left alone
    ],
)
def test_only_planned_steps(
    history: History, planned: Heads, heads: Heads | None, goal: Heads, direction: Direction, left: str | None
) -> None:
    steps = len(history.steps(planned, goal, direction))
    found = BoundPlanner(history, goal, direction, Planned(planned, steps)).plan(heads, ("ignored",))
    assert (found.problem is not None) == (left is None)
    assert found.steps == tuple((left or "").split())
    if left is None:
        assert (found.problem or "").endswith("Nothing was run")


@pytest.mark.parametrize(("heads", "goal"), [(("one",), ("four",)), (None, ("two",)), (("side",), ("heads",))])
def test_a_target_where_it_was_planned_has_the_ordinary_plan(
    history: History, heads: Heads | None, goal: Heads
) -> None:
    if goal == ("heads",):
        goal = history.heads
    ordinary = Planner(history, goal).plan(heads)
    bound = BoundPlanner(history, goal, "upgrade", Planned(ordinary.heads, len(ordinary.steps)))
    assert bound.plan(heads) == ordinary  # so that both are compiled and certified as one


def test_nothing_is_planned_for_a_target_that_could_not_be_read(history: History) -> None:
    found = BoundPlanner(history, ("four",), "upgrade", None).plan(("one",))
    assert found.steps == ()
    assert "nothing was planned for it" in (found.problem or "")


def test_a_target_that_was_to_be_left_alone_is(history: History) -> None:
    """Its track said so of targets without a version table; by now it has one."""
    planner = BoundPlanner(history, ("four",), "upgrade", Planned((), 0))
    assert planner.plan(()).problem == "the plan was to leave it alone. Nothing was run"
    assert planner.plan(None).steps  # the policy refuses it, under the lock


def test_a_target_ahead_stays_ahead(history: History) -> None:
    planner = BoundPlanner(history, ("four",), "upgrade", Planned(("zzz",), 0))
    assert planner.plan(("zzz",)).state == "ahead"
    assert planner.plan(("one",)).steps == ()
