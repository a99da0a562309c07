"""What dashboards ask, with variables and times filled in as Grafana does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from deploy.grafana.panels import dashboard, graph, number
from deploy.grafana.variables import variable
from tests.dashboards import questions, variables
from tests.dashboards.questions import Window
from tests.dashboards.variables import Choice

TRACK = Choice("track", "Track", "track", "m", ".*", values=("app", "a.b"))


def asked(promql: str, chosen: variables.Chosen, window: Window, **options: Any) -> questions.Question:
    made = dashboard("u", "t", "", [variable("track", "m")], [graph("g", [("", promql)], "", **options)])
    return questions.of_dashboard(made, [TRACK], chosen, window)["1 A"]


@pytest.mark.parametrize(
    ("chosen", "written"),
    [
        ({}, ".*"),
        ({"track": ["app"]}, "app"),
        ({"track": ["a.b"]}, r"a\\.b"),
        ({"track": ["app", "a.b"]}, r"(app|a\\.b)"),
        ({"track": ["a\\b"]}, r"a\\\\b"),
    ],
)
def test_a_variable_becomes_a_part_of_a_regular_expression(chosen: variables.Chosen, written: str) -> None:
    promql = asked('m{track=~"$track"} + n{track=~"${track:regex}"}', chosen, Window(0, 60)).promql
    assert promql == f'm{{track=~"{written}"}} + n{{track=~"{written}"}}'


@pytest.mark.parametrize(("chosen", "written"), [({}, "eu/a.b"), ({"job": ["us/a.b"]}, "us/a.b")])
def test_a_choice_of_one_at_a_time_is_the_first_and_stands_as_it_is(chosen: variables.Chosen, written: str) -> None:
    [found] = variables.choices(dashboard("u", "t", "", [], []))
    job = replace(found, values=("eu/a.b", "us/a.b"))
    assert (job.name, variables.written(job, chosen), variables.shown(job, chosen)) == ("job", written, written)
    assert variables.written(found, {}) == "", "nothing was ever scraped"


def test_without_a_word_for_all_every_value_is_named() -> None:
    assert variables.written(Choice("track", "Track", "track", "m", values=("a", "b")), {}) == "(a|b)"


def test_a_variable_that_is_not_known_stays_where_people_see_it() -> None:
    assert asked("m{a=~'$nobody'}", {}, Window(0, 60)).promql == "m{a=~'$nobody'}"


def test_a_rate_covers_four_scrapes_and_more_where_points_are_further_apart() -> None:
    assert asked("rate(m[$__rate_interval])", {}, Window(0, 60, 15)).promql == "rate(m[60s])"
    assert asked("rate(m[$__rate_interval])", {}, Window(0, 86400, 15)).promql == "rate(m[315s])"


def test_the_range_is_that_of_the_dashboard() -> None:
    assert asked("increase(m[$__range])", {}, Window(10, 100.5)).promql == "increase(m[91s])"


def test_points_of_a_graph_are_never_closer_than_scrapes() -> None:
    assert asked("m", {}, Window(0, 60, 15)).step == 15
    assert asked("m", {}, Window(0, 86400, 15), width=24).step == 120


def test_numbers_are_asked_for_at_the_end() -> None:
    made = dashboard("u", "t", "", [], [number("n", "m", "")])
    assert questions.of_dashboard(made, [], {}, Window(0, 60))["1 A"].step is None


def test_annotations_are_asked_as_often_as_they_say() -> None:
    found = questions.of_dashboard(dashboard("u", "t", "", [], []), [], {}, Window(0, 60, 1))
    assert {question.step for question in found.values()} == {10}


def test_a_kind_of_variable_that_cannot_be_asked_for_is_refused() -> None:
    made = dashboard("u", "t", "", [{"name": "x", "type": "query", "query": {"query": "metrics(.*)"}}], [])
    with pytest.raises(ValueError, match="variable x: not known how to ask"):
        variables.choices(made)
