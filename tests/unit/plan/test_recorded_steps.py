"""How what was recorded takes the place of what could not be rendered."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.plan.compiled import (
    Begun,
    Mark,
    Move,
    Online,
    RenderedStep,
    Rendering,
    Script,
    agreed,
    compiled,
    stretches,
)
from orchestrator.plan.recorded import RecordedStep, Recording, digest, filled
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
        (
            RenderedStep("a", ("a",), (BEGIN, "CREATE EXTENSION x", COMMIT)),
            "may do otherwise where the data is another",
        ),
        (RenderedStep("a", ("a",), (BEGIN, "ALTER EXTENSION x UPDATE", COMMIT)), "may do otherwise where the data is"),
        (RenderedStep("a", ("a",), (BEGIN, "IMPORT FOREIGN SCHEMA x", COMMIT)), "may do otherwise where the data is"),
    ],
)
def test_what_comes_after_something_that_makes_schemas_differ_stays_online(first: RenderedStep, said: str) -> None:
    found = filled(steps(a=first), [recording("B")] * 2)
    assert said in (reason(found) or "")


def test_what_comes_after_statements_that_functions_make_more_of_stays_online() -> None:
    made = {**recording("B"), "a": RecordedStep(("A",), at_will=True)}
    assert "may do otherwise where the data is another" in str(reason(filled(steps(), [made] * 2)))
    known = {**made, "b": RecordedStep(("B",), schema=("table t",))}
    assert gates(filled(steps(), [known] * 2))[1] == (("b",), digest(["table t"]))


@pytest.mark.parametrize("each", [True, False])
def test_what_comes_after_it_is_sent_as_it_was_seen(each: bool) -> None:
    """A rendering ends where a revision asks, and does not know which types it would have made."""
    rendered = ("CREATE TYPE t AS …", "C", "CREATE TYPE u AS …", "D", "DROP TYPE t")
    last = RenderedStep("c", ("c",), (BEGIN, *rendered, COMMIT) if each else rendered)
    seen = {**recording("CREATE TYPE t AS …"), "c": RecordedStep(("C", "CREATE TYPE u AS …", "D"))}
    odd = RecordedStep((), "it is odd")
    others = (odd, RecordedStep(rendered), RecordedStep(("C", "D", "E")), RecordedStep(("CREATE TYPE u AS …", "D")))
    for after, sent in ((seen["c"], seen["c"].items), *((other, rendered) for other in others)):
        found = filled(steps(each=each, c=last), [{**seen, "c": after}] * 2)
        items = [item for one in found.steps for item in one.items if not isinstance(item, Mark)]
        assert items == ["A", "CREATE TYPE t AS …", *sent]
        assert cut_alike(found, each)
        assert (found.steps[2].wire is None) == (sent != rendered), "what it is held against"
    unasked = filled(steps(each=each, c=last), [{**seen, "b": RecordedStep((), "it reads users")}] * 2)
    assert "CREATE TYPE t AS …" in unasked.steps[2].items


def cut_alike(rendering: Rendering, each: bool) -> bool:
    scripts = compiled(PLAN, rendering).segments
    return [one.revisions for one in scripts if isinstance(one, Script)] == (
        [("a",), ("b",), ("c",)] if each else [("a", "b", "c")]
    )


CLOCK = RenderedStep("a", ("a",), (BEGIN, COMMIT), "it reads the clock")


def gates(rendering: Rendering, plan: Plan = PLAN) -> list[tuple[tuple[str, ...], str | None]]:
    return [(one.revisions, one.gate) for one in compiled(plan, rendering).segments if isinstance(one, Script)]


def test_what_comes_after_it_is_recorded_with_the_schema_that_it_found_for_a_gate() -> None:
    lines = ("table t", "table u")
    found = filled(steps(a=CLOCK), [{**recording("B"), "b": RecordedStep(("B",), schema=lines)}] * 2)
    assert gates(found) == [(("b",), digest(lines)), (("c",), None)]
    online, *scripts = compiled(PLAN, found).segments
    assert list(stretches([online, *scripts])) == [online, tuple(scripts)]


def test_the_gate_is_where_the_schema_is_known_and_only_if_something_recorded_follows() -> None:
    plan = Plan((), ("d",), "upgrade", ("a", "b", "c", "d"))
    sql = RenderedStep("b", ("b",), (BEGIN, "B", COMMIT))
    asks = RenderedStep("c", ("c",), (BEGIN, COMMIT), ASKED, asks=True)
    last = RenderedStep("d", ("d",), (BEGIN, "SELECT f()", COMMIT))
    rendering = Rendering((CLOCK, sql, asks, last))
    known = {"b": RecordedStep(("B",), schema=("t",)), "c": RecordedStep(("C",)), "d": RecordedStep(())}
    assert gates(filled(rendering, [known] * 2), plan) == [(("b",), digest(["t"])), (("c",), None), (("d",), None)]
    unlike = [known, {**known, "b": RecordedStep(("B",), schema=("u",))}]
    assert "it comes after a" in str(reason(filled(rendering, unlike), "c"))
    assert all(gate is None for _, gate in gates(filled(rendering, unlike), plan))
    without = {**known, "c": RecordedStep((), "it reads users")}
    assert all(gate is None for _, gate in gates(filled(rendering, [without] * 2), plan))


def test_a_gate_parts_scripts_that_would_be_sent_together() -> None:
    first = RenderedStep("a", ("a",), (BEGIN, "DO $$ $$", COMMIT))
    found = filled(steps(a=first), [{**recording("B"), "b": RecordedStep(("B",), schema=("t",))}] * 2)
    one, *rest = compiled(PLAN, found).segments
    assert list(stretches([one, *rest])) == [(one,), tuple(rest)]


def test_in_one_transaction_nobody_looks_in_the_middle() -> None:
    first = RenderedStep("a", ("a",), ("DO $$ $$",))
    found = filled(steps(each=False, a=first), [{**recording("B"), "b": RecordedStep(("B",), schema=("t",))}] * 2)
    assert "may do otherwise" in str(reason(found))


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
        assert (whole.asks, whole.rendering) == (True, steps(each=each))
        assert (whole.recorded, whole.per_migration) == ((), each)
    assert not compiled(PLAN, steps(b=RenderedStep("b", ("b",), (BEGIN, "B", COMMIT)))).asks


def test_two_renderings_agree_that_it_asks_or_it_is_not_recorded() -> None:
    asks = steps()
    assert agreed(asks, asks) == asks
    other = replace(asks.steps[1], reason="it reads the clock", asks=False)
    for first, second in ((asks, steps(b=other)), (steps(b=other), asks)):
        assert not any(step.asks for step in agreed(first, second).steps)
