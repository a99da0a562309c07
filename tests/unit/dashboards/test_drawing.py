"""What panels look like for given answers."""

from __future__ import annotations

import doctest
import importlib
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

import tests.dashboards
from deploy.grafana.overrides import COLOURS
from deploy.grafana.panels import Panel, graph, number, table, timeline
from tests.dashboards import colours, page
from tests.dashboards.questions import Sample
from tests.unit.dashboards.samples import answered, line, now

MODULES = sorted(file.stem for file in Path(tests.dashboards.__path__[0]).glob("*.py") if ">>> " in file.read_text())


def drawn(panel: Panel, *answers: Sequence[Sample]) -> str:
    return page.html(answered(panel, *answers)).split("</header>")[1]


@pytest.mark.parametrize("name", MODULES)
def test_examples_hold(name: str) -> None:
    found = doctest.testmod(importlib.import_module(f"tests.dashboards.{name}"))
    assert (found.attempted > 0, found.failed) == (True, 0)


@pytest.mark.parametrize("kind", ["timeseries", "stat", "table"])
def test_an_empty_answer_is_told_in_the_panels_words(kind: str) -> None:
    panel = Panel("title", kind, [("", "m")], "", empty="all is well & quiet")
    assert "all is well &amp; quiet" in drawn(panel, [])


def test_a_number_has_unit_and_the_colour_of_its_threshold() -> None:
    panel = number("n", "m", "", unit="percentunit", steps=[(None, "green"), (0.5, "red")])
    assert f"color:{colours.colour('red')}" in drawn(panel, [now(0.5)])
    assert f"color:{colours.colour('green')}" in (good := drawn(panel, [now(0.25)]))
    assert ">25%<" in good


def test_what_is_no_number_counts_as_no_answer() -> None:
    assert "none yet" in drawn(number("n", "m", "", empty="none yet"), [now(float("nan"))])


def test_a_gap_is_left_where_values_are_missing() -> None:
    values = {second: 1.0 for second in range(60) if not 20 <= second < 40}
    assert drawn(graph("g", [("x", "m")], ""), [line(values)]).count('fill="none"') == 2


def test_lines_are_named_by_their_legend() -> None:
    made = drawn(graph("g", [("{{shard}} <busy>", "m")], ""), [line({0: 1, 1: 2}, shard="eu-1")])
    assert "eu-1 &lt;busy&gt;</span>" in made


def test_states_have_their_own_colours_whatever_their_order() -> None:
    made = drawn(graph("g", [("{{state}}", "m")], ""), [line({0: 1, 1: 1}, state="failed")])
    assert f'stroke="{colours.colour("red")}"' in made


def test_stacked_lines_reach_as_high_as_their_sum() -> None:
    lines = [line({0: 30, 1: 30}, state="a"), line({0: 40, 1: 40}, state="b")]
    assert ">80</text>" in drawn(graph("g", [("{{state}}", "m")], "", stacked=True), lines)
    assert ">80</text>" not in drawn(graph("g", [("{{state}}", "m")], ""), lines)


def test_the_axis_has_the_unit() -> None:
    made = drawn(graph("g", [("x", "m")], "", unit="percentunit", largest=1), [line({0: 0.1, 1: 0.2})])
    assert ">100%</text>" in made


def test_a_table_has_the_columns_that_are_named_in_their_order() -> None:
    panel = table("t", "m", "", {"shard": "where", "Value": "for"}, unit="s")
    made = drawn(panel, [now(90, job="j", instance="i", shard="eu-1", __name__="m")])
    assert re.findall(r"<th>(.*?)</th>", made) == ["where", "for"]
    assert re.findall(r"<td.*?><span.*?>(.*?)</span></td>", made) == ["eu-1", "1.50 mins"]


def test_rollouts_are_marked_on_graphs_where_they_begin() -> None:
    one = answered(graph("g", [("x", "m")], ""), [line({0: 1, 1: 1})])
    begun = [line({10: 1_030_000, 20: 1_030_000}, rollout="r1", track="app"), line({10: 5_000}, rollout="old")]
    made = page.html(type(one)(**{**vars(one), "answers": {**one.answers, "Rollouts begun": begun}}))
    assert made.count('class="mark"') == 1
    assert "rollout r1: track app" in made


def test_values_in_a_row_are_one_mark() -> None:
    one = answered(graph("g", [("x", "m")], ""), [line({0: 1, 1: 1})])
    ended = [line({10: 1, 20: 1, 50: 1}, outcome="failed", track="app")]
    made = page.html(type(one)(**{**vars(one), "answers": {**one.answers, "Rollouts ended": ended}}))
    assert made.count("a rollout failed: track app") == 4  # a strip with its two edges, and a moment


def test_a_kind_of_panel_that_nobody_can_draw_is_refused() -> None:
    with pytest.raises(ValueError, match="panels of kind pie are not known"):
        drawn(Panel("p", "pie", [("", "m")], ""), [now(1)])


def test_panels_lie_where_the_dashboard_says() -> None:
    one = answered(graph("g", [("x", "m")], "told", width=12, height=8), [])
    made = page.html(one)
    assert re.search(r'<section style="left:12px;top:84px;width:684px;height:296px"><h2>g<abbr title="told">', made)
    assert page.height(one.dashboard) == 84 + 8 * 38 + 8


def test_rows_of_a_table_begin_with_the_largest_where_the_panel_says_so() -> None:
    answer = [now(1, shard="a"), now(30, shard="b"), now(4, shard="c")]
    headings = {"shard": "shard", "Value": "n"}
    made = drawn(table("t", "m", "", headings, largest_first=True), answer)
    assert re.findall(r">(\w+)</span></td>", made) == ["b", "30", "c", "4", "a", "1"]
    assert re.findall(r">(\w+)</span></td>", drawn(table("t", "m", "", headings), answer))[:2] == ["a", "1"]


def test_states_in_a_table_have_the_colours_that_graphs_give_them() -> None:
    made = drawn(table("t", "m", "", {"state": "state"}, states=COLOURS), [now(1, state="unreachable")])
    assert f'color:{colours.colour(COLOURS["unreachable"])}">unreachable<' in made


def test_a_value_that_means_something_is_said_in_words() -> None:
    panel = number("n", "m", "", words={0: ("has mistakes", "red"), 1: ("valid", "green")})
    assert f"color:{colours.colour('red')}" in (made := drawn(panel, [now(0)]))
    assert ">has mistakes<" in made
    assert ">2<" in drawn(panel, [now(2)])


def test_a_timeline_has_a_bar_for_each_time_of_one_value() -> None:
    words = {0: ("stands by", "#8e8e8e"), 1: ("leads", "green")}
    values = {second: float(second >= 40) for second in range(60)}
    made = drawn(timeline("t", ("{{instance}}", "m"), "", words), [line(values, instance="here:1")])
    assert re.findall(r">(here:1|stands by|leads)</text>", made) == ["here:1", "stands by", "leads"]
    assert made.count("<rect") == 2


def test_limits_are_dashed() -> None:
    panel = graph("g", [("{{shard}}", "m"), ("{{shard}} limit", "n")], "")
    made = drawn(panel, [line({0: 1, 1: 1}, shard="a")], [line({0: 4, 1: 4}, shard="a")])
    lines = re.findall(r'<path d="[^"]*" fill="none"[^>]*>', made)
    assert ["stroke-dasharray" in one for one in lines] == [False, True]
