"""What was sent, held against what was compiled: statements, and the transactions around them."""

from __future__ import annotations

import pytest

from orchestrator.plan.compiled import Mark, RenderedStep, Rendering
from orchestrator.plan.sent import MOVE, Line, Lines, difference, expected, objection, rendered

B, C = Mark.BEGIN, Mark.COMMIT
ALONE = Rendering(
    (
        RenderedStep("a", ("a",), (B, C), wire=(B, "1", "2", C)),
        RenderedStep("b", ("b",), wire=(B, "3", C, "4", B, "5", C)),
        RenderedStep("c", ("c",), (B, C), "it asks", wire=(B, C)),
        RenderedStep("d", ("d",), wire=(B, C)),
    )
)
TOGETHER = Rendering((RenderedStep("a", ("a",), wire=("1",)), RenderedStep("b", ("b",), wire=("2", C))), (B,))


def lines(*found: tuple[str, str, int | None]) -> Lines:
    return tuple(Line(*one) for one in found)


SENT = lines(
    ("a", "1", 4),
    ("a", "2", 4),
    ("a", MOVE, 4),
    ("b", "3", 5),
    ("b", "4", None),
    ("b", "5", 9),
    ("b", MOVE, 9),
    ("c", "whatever", 10),
    ("c", MOVE, 10),
    ("d", MOVE, 11),
)


def test_numbers_of_transactions_do_not_count_and_what_runs_online_is_left_out() -> None:
    assert rendered(ALONE) == {"a", "b", "d"}
    assert difference(SENT, expected(ALONE), rendered(ALONE)) is None
    one = lines(("a", "1", 0), ("a", MOVE, 0), ("a", MOVE, 0), ("b", "2", 0), ("b", MOVE, 0))
    assert difference(one, expected(TOGETHER), {"a", "b"}) is None, "a merge moves the table in two statements"


ELSEWHERE = ": the transaction around it begins or ends elsewhere"


@pytest.mark.parametrize(
    ("place", "instead", "said"),
    [
        (1, [("a", "other", 4)], "revision a, statement 2"),
        (1, [], "revision a, statement 2"),
        (1, [("a", "2", 4), ("a", "more", 4)], "revision a, statement 3"),
        (1, [("a", "2", None)], f"revision a, statement 2{ELSEWHERE}"),
        (1, [("a", "2", 5)], f"revision a, statement 2{ELSEWHERE}"),
        (2, [("a", MOVE, 5)], f"revision a, statement 3{ELSEWHERE}"),
        (2, [], "revision a, statement 3"),
        (3, [("b", "3", 4)], f"revision b, statement 1{ELSEWHERE}"),
        (4, [("b", "4", 5)], f"revision b, statement 2{ELSEWHERE}"),
        (9, [("d", MOVE, 9)], f"revision d, statement 1{ELSEWHERE}"),
        (9, [], "revision d, statement 1"),
    ],
)
def test_the_first_place_that_differs_is_named(
    place: int, instead: list[tuple[str, str, int | None]], said: str
) -> None:
    changed = (*SENT[:place], *lines(*instead), *SENT[place + 1 :])
    assert difference(changed, expected(ALONE), rendered(ALONE)) == said


def test_targets_are_held_against_each_other_first() -> None:
    other = (Line("a", "other", 4), *SENT[1:])
    assert objection(ALONE, []) is objection(ALONE, [SENT, SENT]) is None
    assert objection(ALONE, [other]) == "what env.py sent is not what was compiled (revision a, statement 1)"
    assert objection(ALONE, [SENT, other]) == (
        "targets that were migrated online were not sent the same (revision a, statement 1)"
    )


def test_transactions_do_not_count_where_ddl_is_committed_by_itself() -> None:
    rendering = Rendering((RenderedStep("a", ("a",), ("SQL",), wire=("1",)), RenderedStep("b", ("b",), wire=("2",))))
    assert objection(rendering, [lines(("a", "1", -1), ("a", MOVE, -1), ("b", "2", -1), ("b", MOVE, -1))]) is None
    assert objection(rendering, [lines(("a", "1", -1), ("a", MOVE, -1), ("b", "3", -1), ("b", MOVE, -1))]) is not None


def test_one_transaction_for_all_is_not_one_for_each() -> None:
    apart = lines(("a", "1", 0), ("a", MOVE, 0), ("b", "2", 1), ("b", MOVE, 1))
    assert difference(apart, expected(TOGETHER), {"a", "b"}) == f"revision b, statement 1{ELSEWHERE}"
    assert difference((), expected(TOGETHER), {"a", "b"}) == "revision a, statement 1"
