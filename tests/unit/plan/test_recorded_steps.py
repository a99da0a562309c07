"""How what was recorded takes the place of what could not be rendered."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.plan.compiled import Begun, Mark, Move, Online, RenderedStep, Rendering, Script, agreed, compiled
from orchestrator.plan.recorded import RecordedStep, Recording, filled
from orchestrator.plan.steps import Plan

BEGIN, COMMIT = Mark.BEGIN, Mark.COMMIT
ASKED = "it asks the connection for an answer: inspect()"
PLAN = Plan((), ("c",), "upgrade", ("a", "b", "c"))


def steps(*, each: bool = True, **changed: RenderedStep) -> Rendering:
    """Three revisions, of which the second asks; each in a transaction of its own, or all in one."""
    around = (BEGIN, COMMIT) if each else ()
    made = {
        "a": RenderedStep("a", ("a",), (BEGIN, "A", COMMIT) if each else ("A",)),
        "b": RenderedStep("b", ("b",), around, ASKED, asks=True),
        "c": RenderedStep("c", ("c",), (BEGIN, "C", COMMIT) if each else ("C",)),
    }
    return Rendering(tuple({**made, **changed}.values()), () if each else (BEGIN,))


def recording(*items: str | Mark, reason: str | None = None) -> Recording:
    return {"a": RecordedStep(("A",)), "b": RecordedStep(items, reason), "c": RecordedStep(("C",))}


def reason(rendering: Rendering, revision: str = "b") -> str | None:
    return next(step.reason for step in rendering.steps if step.revision == revision)


@pytest.mark.parametrize("each", [True, False])
def test_what_was_recorded_alike_on_two_targets_becomes_sql(each: bool) -> None:
    found = compiled(PLAN, filled(steps(each=each), [recording("B1", "B2")] * 2))
    assert (found.recorded, found.per_migration) == (("b",), each)
    scripts = found.segments
    assert all(isinstance(one, Script) and one.transactional for one in scripts)
    assert len(scripts) == (3 if each else 1)
    sent = [item for one in scripts if isinstance(one, Script) for item in one.items if isinstance(item, str)]
    assert sent == ["A", "B1", "B2", "C"]
    middle = next(one for one in scripts if isinstance(one, Script) and "b" in one.revisions)
    assert Move(("a",), ("b",)) in middle.items
    assert Begun("b") in middle.items


def test_autocommit_blocks_keep_their_boundaries() -> None:
    found = compiled(PLAN, filled(steps(), [recording("B1", COMMIT, "B2", BEGIN, "B3")] * 2))
    kinds = [(one.transactional, one.revisions) for one in found.segments if isinstance(one, Script)]
    assert kinds == [(True, ("a",)), (True, ()), (False, ()), (True, ("b",)), (True, ("c",))]


def test_a_revision_that_found_nothing_to_do_only_moves_the_version() -> None:
    found = compiled(PLAN, filled(steps(), [recording()] * 2))
    assert found.recorded == ("b",)
    (middle,) = (one for one in found.segments if isinstance(one, Script) and one.revisions == ("b",))
    assert middle.items == (Move(("a",), ("b",)),)


@pytest.mark.parametrize(
    ("recordings", "said"),
    [
        ([], "it was not recorded"),
        ([recording("B")], "it was not recorded"),
        ([recording("B"), {}], "it was not recorded"),
        ([recording("B"), recording("B of another")], "what was recorded of it on two targets differs"),
        ([recording("B"), recording("B"), recording()], "what was recorded of it on two targets differs"),
        ([recording("B"), recording(reason="it reads users")], "it reads users"),
    ],
)
def test_what_is_in_doubt_stays_online(recordings: list[Recording], said: str) -> None:
    found = filled(steps(), recordings)
    assert said in (reason(found) or "")
    whole = compiled(PLAN, found)
    assert whole.recorded == ()
    assert [type(one) for one in whole.segments] == [Script, Online, Script]


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (RenderedStep("a", ("a",), (BEGIN, COMMIT), "it reads the clock"), "it comes after a, which runs online"),
        (RenderedStep("a", ("a",), (BEGIN, "DO $$ $$", COMMIT)), "may do otherwise where the data is another"),
        (RenderedStep("a", ("a",), (BEGIN, "SELECT f()", COMMIT)), "may do otherwise where the data is another"),
    ],
)
def test_what_comes_after_something_that_makes_schemas_differ_stays_online(first: RenderedStep, said: str) -> None:
    found = filled(steps(a=first), [recording("B")] * 2)
    assert said in (reason(found) or "")


def test_only_a_revision_that_asks_and_nothing_else_is_filled() -> None:
    clock = RenderedStep("b", ("b",), (BEGIN, COMMIT), "it reads the clock")
    found = filled(steps(b=clock), [recording("B")] * 2)
    assert reason(found) == "it reads the clock"
    bare = RenderedStep("b", ("b",), (), ASKED, asks=True)
    assert reason(filled(steps(b=bare), [recording("B")] * 2)) == "env.py begins no transaction in offline mode"


def test_in_one_transaction_all_are_recorded_or_none_is() -> None:
    last = RenderedStep("c", ("c",), (), "it reads the clock")
    whole = compiled(PLAN, filled(steps(each=False, c=last), [recording("B")] * 2))
    assert (whole.recorded, whole.replayable) == ((), False)


def test_a_plan_that_asks_keeps_its_rendering_until_it_is_filled() -> None:
    for each in (True, False):
        whole = compiled(PLAN, steps(each=each))
        assert whole.asking == steps(each=each)
        assert (whole.recorded, whole.per_migration) == ((), each)
    assert compiled(PLAN, steps(b=RenderedStep("b", ("b",), (BEGIN, "B", COMMIT)))).asking is None


def test_two_renderings_agree_that_it_asks_or_it_is_not_recorded() -> None:
    asks = steps()
    assert agreed(asks, asks) == asks
    other = replace(asks.steps[1], reason="it reads the clock", asks=False)
    for first, second in ((asks, steps(b=other)), (steps(b=other), asks)):
        assert not any(step.asks for step in agreed(first, second).steps)
