"""What a person chooses counts on every panel whose metrics know of it, and the others say that it does not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.grafana import generate, panels
from orchestrator import events
from orchestrator.observe.fleet import Fleet
from orchestrator.observe.metrics import Metrics
from tests import documents
from tests.unit.observe import samples

Json = dict[str, Any]
METRICS = documents.metrics()
DASHBOARDS = generate.dashboards()
# A metric, and what is selected of it; `by (…)` and functions are no metrics of ours.
_SELECTOR = re.compile(r"\b((?:orchestrator|process)_[a-z0-9_]+)\b(\{[^}]*\})?")
OF_TARGET = ("job", "instance")  # labels that Prometheus gives to all that it scrapes
PANELS = [(name, panel) for name, dashboard in DASHBOARDS.items() for panel in dashboard["panels"]]
IDS = [f"{name}: {panel['title']}" for name, panel in PANELS]


def labels(metric: str) -> tuple[str, ...]:
    return METRICS[re.sub(r"_bucket$", "", metric)].labels


def choices(dashboard: Json) -> list[str]:
    return [one["name"] for one in dashboard["templating"]["list"] if one["type"] != "datasource"]


def selectors(promql: str) -> list[tuple[str, str]]:
    """Without those that only ask who leads: they are joined by job and instance."""
    return _SELECTOR.findall(promql.replace(panels.LEADER, ""))


def told_of(panel: Json) -> set[str]:
    """The variables that a panel says to leave out."""
    found = re.search(r"Not narrowed by the chosen (.+)\.$", panel["description"])
    return set(found[1].split(" or ")) if found else set()


@pytest.mark.parametrize(("name", "panel"), PANELS, ids=IDS)
def test_every_query_goes_by_each_choice_that_its_metrics_know_of(name: str, panel: Json) -> None:
    for target in panel["targets"]:
        found = selectors(target["expr"])
        assert found
        for metric, matchers in found:
            for choice in set(choices(DASHBOARDS[name])) - {"instance"}:
                if choice in (*labels(metric), "job"):
                    assert re.search(rf'\b{choice}=~?"\${choice}\b', matchers), (metric, choice)


@pytest.mark.parametrize(("name", "panel"), PANELS, ids=IDS)
def test_a_panel_says_which_choices_make_no_difference(name: str, panel: Json) -> None:
    queries = [target["expr"] for target in panel["targets"]]
    left_out = {choice for choice in choices(DASHBOARDS[name]) if not all(f"${choice}" in one for one in queries)}
    assert told_of(panel) == left_out


def test_only_who_leads_is_asked_of_all_daemons_whichever_are_chosen() -> None:
    left_out = {panel["title"] for name, panel in PANELS if "instance" in told_of(panel)}
    assert left_out == {"Leaders", "Daemons"}


@pytest.mark.parametrize("name", DASHBOARDS)
def test_marks_of_rollouts_are_those_of_the_choice(name: str) -> None:
    dashboard = DASHBOARDS[name]
    for annotation in dashboard["annotations"]["list"]:
        for metric, matchers in selectors(annotation["expr"]):
            for choice in {"job", "track"} & set(choices(dashboard)) & {"job", *labels(metric)}:
                assert f"${choice}" in matchers, (annotation["name"], choice)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_one_installation_is_chosen_first_and_the_rest_is_of_it(name: str) -> None:
    first, *others = [one for one in DASHBOARDS[name]["templating"]["list"] if one["type"] != "datasource"]
    assert (first["name"], first["multi"], first["includeAll"]) == ("job", False, False)
    assert first["query"]["query"] == "label_values(orchestrator_leader, job)"
    assert others
    for variable in others:
        [(metric, matchers)] = selectors(variable["query"]["query"])
        assert 'job="$job"' in matchers
        assert variable["name"] in (*labels(metric), *OF_TARGET)
    assert DASHBOARDS[name]["links"][0]["includeVars"], "who goes to another dashboard means the same installation"


def traced() -> Iterator[str]:
    """The histograms that may have exemplars, as the code makes them."""
    metrics = Metrics(Fleet(), exemplar=lambda event: {"trace_id": "4bf92f35"})
    waited = events.LockWaited(rollout="r1", tenant="acme", track="app", shard="pg-1", seconds=1.0, acquired=True)
    for event in (samples.started(), samples.finished(), waited):
        metrics.apply(event)
    content, _ = metrics.render("application/openmetrics-text; version=1.0.0")
    yield from set(re.findall(r"^(\w+)_bucket\{.*# \{trace_id=", content.decode(), re.MULTILINE))


def test_graphs_over_what_has_exemplars_ask_for_them_and_no_others_do() -> None:
    assert set(panels.EXEMPLARS) == set(traced())
    asking = [target["expr"] for _, panel in PANELS for target in panel["targets"] if target.get("exemplar")]
    having = [
        target["expr"]
        for _, panel in PANELS
        for target in panel["targets"]
        for metric, _ in selectors(target["expr"])
        if metric.removesuffix("_bucket") in panels.EXEMPLARS
    ]
    assert asking == having
    assert len(asking) == len(panels.EXEMPLARS)
