"""What is said of rows that a backfill has changed and no way back undoes."""

from __future__ import annotations

import pytest

from orchestrator.execute.leavings import Left, _failure


def left(state: str, rows: int = 30, table: str = "t", revision: str = "delta") -> Left:
    return Left(revision, state, table, table, None, rows)


@pytest.mark.parametrize(
    ("told", "said", "remedy"),
    [
        ([left("running")], "it was stopped before its end", "behind the last row"),
        ([left("finished"), left("running")], "it was stopped before its end", "behind the last row"),
        ([left("finished")], "it came to its end", "what is done is not done again"),
        ([left("doubted")], "it was stopped, before its end or right then", "behind the last row"),
    ],
)
def test_how_far_it_came_is_said_as_its_checkpoint_says_it(told: list[Left], said: str, remedy: str) -> None:
    failure = _failure(told, moved=False)
    assert f"has changed them: {said}, and what was never applied" in failure.message
    assert remedy in (failure.remedy or "")


def test_rows_of_a_table_are_summed_and_each_revision_is_named() -> None:
    told = [left("running", 1), left("running", 2), left("finished", 5, "u"), left("finished", 7, "v", "omega")]
    said = "3 rows of t, 5 rows of u and 7 rows of v stay as the backfill of revisions delta and omega"
    assert _failure(told, moved=True).message.startswith(said)
    assert _failure([left("running", 1)], moved=False).message.startswith("1 row of t stays as the backfill")
