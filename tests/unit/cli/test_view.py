"""The live view, as wide as the terminal is."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from orchestrator.cli import view
from orchestrator.cli.moments import CauseMoment, Moment, Throttle, WaveMoment
from tests.unit.cli.samples import plain

RUNNING = Moment("app to head", "running", None, 200, 8, {"succeeded": 120, "failed": 2}, 61, 2.0)


def test_wide_it_tells_everything() -> None:
    bar, facts = plain(view.Bar(RUNNING), width=100).splitlines()
    assert bar.startswith("app to head ━━━")
    assert bar.endswith("122/200")
    assert len(bar) == 100
    assert facts == "8 running · 2 failed · 2.0 targets/s · 1:01 · about 0:39 left"


@pytest.mark.parametrize("width", [30, 40, 60, 80])
def test_narrow_it_keeps_two_lines_and_the_most_important(width: int) -> None:
    lines = plain(view.Bar(RUNNING), width=width).splitlines()
    assert len(lines) == 2
    assert all(len(line) <= width for line in lines)
    assert "122/200" in lines[0]
    assert lines[1].startswith("8 running · 2 failed")


def test_a_pause_is_told_with_its_reason_first() -> None:
    paused = Moment("app to head", "paused", "3 of 9 targets failed", 9, 0, {"failed": 3}, 5, None)
    assert view.facts(paused)[0] == "paused: 3 of 9 targets failed"
    assert view.facts(Moment("", "paused", "paused by http", 9, 0, {}, 5, None))[0] == "paused by http"


def test_at_the_end_nothing_is_said_to_run() -> None:
    ended = Moment("app to head", "succeeded", None, 2, 0, {"succeeded": 2}, 4, 0.5)
    assert view.line(ended) == "app to head: 2 of 2 done · 0.5 targets/s · 0:04"


def test_an_empty_rollout_can_be_drawn() -> None:
    assert "0/0" in plain(view.Bar(Moment("starting", "pending", None, 0, 0, {}, 0, None)))


BUSY = Moment(
    "app to head",
    "running",
    None,
    200,
    8,
    {"succeeded": 120, "failed": 41},
    61,
    2.0,
    waves=(
        WaveMoment("canary", "passed", 5, 5, 0, 0),
        WaveMoment("tenth", "ended", 20, 20, 0, 1),
        WaveMoment("everyone else there is", "started", 175, 136, 8, 40),
    ),
    causes=(
        CauseMoment("1a2b 23505 #a1b2c3", 40, ("t001", "t002", "t003", "t004", "t005"), "duplicate key\n  value"),
        CauseMoment("lock_timeout", 1, ("t007",), "held by session 4711"),
    ),
    throttled=(Throttle("pg-1", 2, 8, "others use 90 of the server's 100 connections"),),
)


def test_wide_it_shows_waves_throttled_shards_and_causes() -> None:
    assert plain(view.View(BUSY), width=100).splitlines()[2:] == [
        "  canary                5/5  passed",
        "  tenth               20/20  soaking · 1 failed",
        "  everyone else th  136/175  running · 40 failed · 8 running",
        "  throttled pg-1: 2 of 8 at once; others use 90 of the server's 100 connections",
        "2 causes, 41 targets:",
        "  40 1a2b 23505 #a1b2c3  t001, t002, t003, t004, t005 and 35 more",
        "    duplicate key value",
        "  1 lock_timeout  t007",
        "    held by session 4711",
    ]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
@pytest.mark.parametrize("link", [None, "peer closed connection without sending complete message body"])
def test_it_never_is_wider_than_the_terminal(width: int, link: str | None) -> None:
    lines = plain(view.View(replace(BUSY, link=link, unheard_seconds=3)), width=width).splitlines()
    assert all(len(line) <= width for line in lines)
    assert any(line.startswith("no connection for") for line in lines) == (link is not None)


@pytest.mark.parametrize("height", [4, 6, 10, 30])
def test_it_never_is_higher_than_the_terminal(height: int) -> None:
    console = Console(file=StringIO(), width=60, height=height, highlight=False)
    console.print(view.View(BUSY))
    assert isinstance(console.file, StringIO)
    lines = console.file.getvalue().splitlines()
    assert len(lines) <= max(2, height - 1)
    assert ("…" in lines[-1]) == (height < 13)


def test_it_has_no_colours_where_there_is_no_terminal() -> None:
    assert "\x1b" not in plain(view.View(BUSY))


def test_a_paused_rollout_has_no_running_wave_and_an_ended_one_no_throttled_shard() -> None:
    assert "paused · 40 failed" in plain(view.View(replace(BUSY, state="paused")))
    assert "throttled" not in plain(view.View(replace(BUSY, state="failed")))


def test_narrow_a_long_reason_has_lines_of_its_own() -> None:
    paused = replace(BUSY, state="paused", reason="wave everyone: 41 of 175 targets failed, more than are allowed")
    lines = plain(view.View(paused), width=40).splitlines()
    assert lines[1:4] == [
        "8 running · 41 failed · 2.0 targets/s",
        "paused: wave everyone: 41 of 175 targets",
        "failed, more than are allowed",
    ]
