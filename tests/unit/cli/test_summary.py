"""What became of a rollout, in words."""

from __future__ import annotations

import pytest

from orchestrator.cli import summary
from orchestrator.cli.rollout import advised
from orchestrator.rollout.state import RolloutState
from tests.unit.cli.samples import group, plain, rollout


@pytest.mark.parametrize(
    ("state", "code"), [("succeeded", 0), ("failed", 3), ("aborted", 4), ("paused", 4), ("rolled_back", 4)]
)
def test_exit_codes(state: str, code: int) -> None:
    assert RolloutState(state)
    assert summary.exit_code(rollout(state)) == code


def test_all_at_the_goal_is_one_line() -> None:
    said = plain(*summary.summary(rollout(succeeded=200)))
    assert said == "rollout 20260102-030405-abcd succeeded: 200 of 200 at head in 4.0 s (50.0 targets/s)"


def test_nothing_to_do_is_said_so() -> None:
    said = plain(*summary.summary(rollout(up_to_date=7)))
    assert said.endswith("7 of 7 at head already; nothing had to be done")


def test_a_rollout_that_goes_on_is_not_timed() -> None:
    said = plain(*summary.summary(rollout("running", succeeded=3, running=2)))
    assert said.splitlines()[0] == "rollout 20260102-030405-abcd is running: 3 of 5 at head"


def test_failures_are_grouped_by_cause_with_examples_and_remedies() -> None:
    failures = [
        group("r2 42P07", 40, *(f"t{n}" for n in range(20)), message="revision r2: exists", remedy="drop it"),
        group("unreachable", 1, "acme", message="no route [to] host"),
    ]
    said = plain(*summary.summary(rollout("failed", succeeded=1, failed=40, unreachable=1, failures=failures)))
    assert said.splitlines()[1:] == [
        "   1 succeeded",
        "  40 failed",
        "   1 unreachable",
        "  42 of 42 planned targets accounted for",
        "",
        "2 causes, 41 tenants:",
        "",
        "  r2 42P07  40 targets: t0, t1, t2, t3, t4 and 35 more",
        "    revision r2: exists",
        "    try: drop it",
        "",
        "  unreachable  1 target: acme",
        "    no route [to] host",
    ]


def test_long_messages_stay_indented_on_a_narrow_terminal() -> None:
    failures = [group("x", 1, "a", message="word " * 30)]
    said = plain(*summary.summary(rollout("failed", failed=1, failures=failures)), width=40)
    body = [line for line in said.splitlines() if "word" in line]
    assert len(body) > 3
    assert all(line.startswith("    word") and len(line) <= 40 for line in body)


def test_the_reason_of_a_stop_is_told() -> None:
    stopped = rollout("aborted", cancelled=2)
    stopped["reason"] = "interrupted from the terminal"
    assert "  interrupted from the terminal" in plain(*summary.summary(stopped)).splitlines()


@pytest.mark.parametrize(
    ("state", "word"), [("paused", "resume"), ("failed", "retry"), ("aborted", "retry"), ("running", "watch")]
)
def test_the_next_step_is_named(state: str, word: str) -> None:
    assert f"orchestrator rollout {word} 20260102-030405-abcd" in (advised(rollout(state)) or "")


def test_after_success_there_is_no_next_step() -> None:
    assert advised(rollout("succeeded")) is None


def test_how_targets_were_migrated_is_told_where_it_differs() -> None:
    told = rollout("succeeded", succeeded=5)
    told["executions"] = {"replay": 5}
    assert "replayed" not in plain(*summary.summary(told))
    told["executions"] = {"online": 2, "replay": 2, "fallback": 1}
    text = plain(*summary.summary(told))
    assert "2 replayed, 2 by env.py, 1 by env.py after the server had refused the SQL" in text
