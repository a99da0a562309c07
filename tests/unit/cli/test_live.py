"""The live view, as wide as the terminal is."""

from __future__ import annotations

import pytest

from orchestrator.cli import live
from orchestrator.cli.tally import Moment
from tests.unit.cli.samples import plain

RUNNING = Moment("app to head", "running", None, 200, 8, {"succeeded": 120, "failed": 2}, 61, 2.0)


def test_wide_it_tells_everything() -> None:
    bar, facts = plain(live.Bar(RUNNING), width=100).splitlines()
    assert bar.startswith("app to head ━━━")
    assert bar.endswith("122/200")
    assert len(bar) == 100
    assert facts == "8 running · 2 failed · 2.0 targets/s · 1:01 · about 0:39 left"


@pytest.mark.parametrize("width", [30, 40, 60, 80])
def test_narrow_it_keeps_two_lines_and_the_most_important(width: int) -> None:
    lines = plain(live.Bar(RUNNING), width=width).splitlines()
    assert len(lines) == 2
    assert all(len(line) <= width for line in lines)
    assert "122/200" in lines[0]
    assert lines[1].startswith("8 running · 2 failed")


def test_a_pause_is_told_with_its_reason_first() -> None:
    paused = Moment("app to head", "paused", "3 of 9 targets failed", 9, 0, {"failed": 3}, 5, None)
    assert live.facts(paused)[0] == "paused: 3 of 9 targets failed"
    assert live.facts(Moment("", "paused", "paused by http", 9, 0, {}, 5, None))[0] == "paused by http"


def test_at_the_end_nothing_is_said_to_run() -> None:
    ended = Moment("app to head", "succeeded", None, 2, 0, {"succeeded": 2}, 4, 0.5)
    assert live.line(ended) == "app to head: 2 of 2 done · 0.5 targets/s · 0:04"


def test_an_empty_rollout_can_be_drawn() -> None:
    assert "0/0" in plain(live.Bar(Moment("starting", "pending", None, 0, 0, {}, 0, None)))
