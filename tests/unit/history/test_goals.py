"""Goals of histories with branches: each target's own heads say what the relative ones mean."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.errors import HistoryError
from orchestrator.history import scripts
from orchestrator.history.revisions import History
from orchestrator.plan.back import Return
from orchestrator.plan.steps import Direction, Planner
from orchestrator.registry.model import Track
from tests import environments

Heads = tuple[str, ...]


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    """one - two - three - four     main
                  \\- r1 - r2        reporting
    x1 - x2 (x2 depends on two)     extra
    """
    folder = tmp_path_factory.mktemp("project")
    environments.make_project(folder)
    for revision, down, options in (
        ("one", None, {}),
        ("two", "one", {}),
        ("three", "two", {"label": "main"}),
        ("four", "three", {}),
        ("r1", "two", {"label": "reporting"}),
        ("r2", "r1", {}),
        ("x1", None, {"label": "extra"}),
        ("x2", "x1", {"depends_on": "two"}),
    ):
        more: dict[str, Any] = dict(options)
        environments.add_revision(folder, revision, down, "pass", **more)
    track = Track("app", config=folder / "alembic.ini")
    return History(track, scripts.read(track)[0])


@pytest.mark.parametrize(
    ("heads", "goal", "direction", "steps"),
    [
        (None, "+1", "upgrade", "ambiguous"),
        (("one",), "+1", "upgrade", "two"),
        (("one",), "main@+2", "upgrade", "two three"),
        (("three",), "+5", "upgrade", "four"),
        (("four",), "+1", "upgrade", ""),
        (("two",), "reporting@+1", "upgrade", "r1"),
        (("four",), "reporting@+1", "upgrade", "r1"),
        (("four", "r1"), "reporting@+1", "upgrade", "r2"),
        (("four", "r1"), "+1", "upgrade", "ambiguous"),
        (("x1",), "extra@+1", "upgrade", "one two x2"),
        (("four",), "-1", "downgrade", "four"),
        (("four",), "-9", "downgrade", "four three two one"),
        ((), "-1", "downgrade", ""),
        (None, "-1", "downgrade", ""),
        (("four", "r2"), "-1", "downgrade", "ambiguous"),
        (("four", "r2"), "reporting@-1", "downgrade", "r2"),
        (("four", "r2"), "reporting@-2", "downgrade", "r2 r1"),
        (("four", "r2"), "reporting@two", "downgrade", "r2 r1"),
        (("four",), "reporting@two", "downgrade", ""),
        (("four", "x1"), "extra@base", "downgrade", "x1"),
        (("four",), "extra@base", "downgrade", ""),
    ],
)
def test_open_goals(history: History, heads: Heads | None, goal: str, direction: Direction, steps: str) -> None:
    plan = Planner(history, history.resolve(goal, direction), direction).plan(heads)
    if steps == "ambiguous":
        assert plan.problem is not None
        assert "mbiguous" in plan.problem
        assert (plan.state, plan.steps) == ("unknown", ())
    else:
        assert plan.problem is None
        assert plan.steps == tuple(steps.split())


@pytest.mark.parametrize(
    ("goal", "direction", "meant"),
    [
        ("one+1", "upgrade", ("two",)),
        ("reporting@two+1", "upgrade", ("r1",)),
        ("four-1", "downgrade", ("three",)),
        ("one-1", "downgrade", ()),
        ("reporting@head", "upgrade", ("r2",)),
        ("heads", "upgrade", ("four", "r2", "x2")),
        ("three", "stamp", ("three",)),
        ("base", "stamp", ()),
    ],
)
def test_goals_that_name_a_revision_are_resolved_at_once(
    history: History, goal: str, direction: Direction, meant: Heads
) -> None:
    assert history.resolve(goal, direction) == meant


@pytest.mark.parametrize(
    ("goal", "direction", "message", "remedy"),
    [
        ("-1", "upgrade", "an upgrade cannot go to '-1'", "--direction downgrade"),
        ("+1", "downgrade", "a downgrade cannot go to '+1'", "--direction upgrade"),
        ("+1", "stamp", "a stamp cannot go to '+1'", "name the revision"),
        ("+0", "upgrade", "goes nowhere", "count from 1"),
        ("nobody@+1", "upgrade", "there is no branch 'nobody'", "the branch labels are: extra, main, reporting"),
        ("nobody@head", "upgrade", "there is no revision 'nobody@head'", "heads of this build"),
        ("nobody+9", "upgrade", "there is no revision 'nobody+9'", "heads of this build"),
        ("one+9", "upgrade", "'one+9' leads nowhere: Ambiguous walk", "name a revision"),
        ("four+1", "upgrade", "'four+1' leads nowhere: the history ends before", "name a revision"),
        ("three+5", "upgrade", "'three+5' leads nowhere: the history ends before", "name a revision"),
        ("four+1", "stamp", "'four+1' leads nowhere: the history ends before", "name a revision"),
        ("one-1", "upgrade", "'one-1' leads nowhere: the history ends before", "name a revision"),
        ("head", "upgrade", "'head' is ambiguous, there are 3 heads", "`heads` (all) or `<label>@head` (one)"),
        ("head-1", "upgrade", "'head' is ambiguous, there are 3 heads", "`heads` (all) or `<label>@head` (one)"),
    ],
)
def test_goals_that_cannot_be_are_refused(
    history: History, goal: str, direction: Direction, message: str, remedy: str
) -> None:
    with pytest.raises(HistoryError) as refused:
        history.resolve(goal, direction)
    assert message in refused.value.message
    assert remedy in str(refused.value.remedy)


def test_a_second_attempt_goes_no_further_than_the_first_was_to(history: History) -> None:
    upwards = Planner(history, ("+1",))
    assert upwards.plan(("two",)).problem is not None
    assert upwards.plan(("three",), ("three",)).steps == ("four",)
    assert upwards.plan(("two",), ("one",)).steps == ()
    down = Planner(history, ("-2",), "downgrade")
    assert down.plan(("four",), ("four",)).steps == ("four", "three")
    assert down.plan(("three",), ("four",)).steps == ("three",)
    assert down.plan(("two",), ("four",)).steps == ()


def test_a_target_that_somebody_else_moved_is_left_alone(history: History) -> None:
    upwards, down = Planner(history, ("main@+1",)), Planner(history, ("-1",), "downgrade")
    for planner, heads, since in (
        (upwards, ("one",), ("three",)),  # restored from an older backup
        (upwards, None, ("three",)),  # made anew
        (upwards, ("three", "x1"), ("three",)),
        (down, ("four", "x1"), ("four",)),
        (down, ("four",), ("three",)),  # brought on meanwhile
    ):
        plan = planner.plan(heads, since)
        assert plan.steps == ()
        assert plan.problem is not None
        assert "somebody else has changed it. Nothing was run" in plan.problem
    assert upwards.plan(("four",), ("three",)).state == "up_to_date"


def test_heads_that_cannot_be_are_a_problem_of_their_target(history: History) -> None:
    plan = Planner(history, ("four",)).plan(("one", "two"))
    assert (plan.state, plan.steps) == ("unknown", ())
    assert "no steps lead from one, two to four: " in str(plan.problem)
    assert "look at what the version table holds" in str(plan.problem)


def test_the_heads_after_steps(history: History) -> None:
    assert history.after(("two",), ("r1",), "upgrade") == ("r1",)
    assert history.after(("four", "r2"), ("r2",), "downgrade") == ("four", "r1")
    assert history.after(("four", "r2"), ("r2", "r1"), "downgrade") == ("four",)


def test_what_of_a_goal_a_build_does_not_have(history: History) -> None:
    assert history.missing(("+1",)) == ()
    assert history.missing(("reporting@-1",)) == ()
    assert history.missing(("gone@base",)) == ("gone",)
    assert history.missing(("reporting@gone",)) == ("gone",)
    assert history.missing(("four", "gone")) == ("gone",)


@pytest.mark.parametrize(
    ("since", "goal", "direction"),
    [
        ((), "main@head", "upgrade"),
        (("two",), "heads", "upgrade"),
        (("x1",), "extra@+1", "upgrade"),
        (("four", "x1"), "heads", "upgrade"),
        (("four",), "reporting@+1", "upgrade"),
        (("four", "r2"), "reporting@two", "downgrade"),
        (("four",), "base", "downgrade"),
        (("four", "r2", "x2"), "one", "downgrade"),
    ],
)
def test_the_way_back_takes_back_what_was_run_and_nothing_else(
    history: History, since: Heads, goal: str, direction: Direction
) -> None:
    meant = history.resolve(goal, direction)
    steps = Planner(history, meant, direction).plan(since, since).steps
    assert steps
    opposite: Direction = "downgrade" if direction == "upgrade" else "upgrade"
    for done in range(len(steps) + 1):
        heads = history.after(since, steps[:done], direction)
        back = Return(history, meant, direction).plan(heads, since)
        assert (back.problem, back.direction, back.goal) == (None, opposite, tuple(sorted(since)))
        assert back.steps == tuple(reversed(steps[:done]))
        assert history.after(heads, back.steps, opposite) == tuple(sorted(since))


def test_the_way_back_is_not_gone_from_elsewhere(history: History) -> None:
    way = Return(history, ("three",), "upgrade")
    beyond = way.plan(("four",), ("one",))
    assert beyond.steps == ()
    assert "somebody else has changed it. Nothing was taken back" in str(beyond.problem)
    beside = way.plan(("three", "r1"), ("one",))
    assert beside.problem is not None
    before = way.plan((), ("one",))
    assert before.problem is not None
    unknown = way.plan(("zz",), ("one",))
    assert (unknown.unknown, unknown.steps) == (("zz",), ())
    assert way.plan(None, ()).steps == ()


def test_a_stamp_is_taken_back_by_a_stamp(history: History) -> None:
    way = Return(history, ("three",), "stamp")
    assert way.plan(("three",), ("one",)).steps == ("one",)
    assert way.plan(("three",), ()).steps == ("base",)
    assert way.plan(("one",), ("one",)).steps == ()
    assert way.plan(("two",), ("one",)).problem is not None
