"""What lies in deploy/ and docs/ besides code: rules, runbooks and dashboards are right, and of this code."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana import generate
from tests import documents, prometheus

ROOT = Path(__file__).parents[3]
RULES = ROOT / "deploy" / "prometheus"
RUNBOOKS = ROOT / "docs" / "runbooks"


def rules() -> list[dict[str, Any]]:
    content = yaml.safe_load((RULES / "rules.yml").read_text())
    return [rule for group in content["groups"] for rule in group["rules"]]


COMMANDS, METRICS = documents.commands(), documents.metrics()
ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}
QUERIES = {
    **{str(rule.get("alert") or rule.get("record")): str(rule["expr"]) for rule in rules()},
    **{
        f"{name} {panel['title']} {target['refId']}": target["expr"]
        for name, dashboard in generate.dashboards().items()
        for panel in dashboard["panels"]
        for target in panel["targets"]
    },
}


TESTS = sorted(RULES.glob("*_test.yml"))
CHECKED = [["check", "rules", "rules.yml"], *(["test", "rules", file.name] for file in TESTS)]


@pytest.mark.parametrize("arguments", CHECKED, ids=lambda words: words[-1])
def test_promtool_finds_nothing(arguments: list[str]) -> None:
    done = subprocess.run([prometheus.program("promtool"), *arguments], cwd=RULES, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_made_to_fire_by_the_rules_own_tests() -> None:
    tests = [test for file in TESTS for test in yaml.safe_load(file.read_text())["tests"]]
    fired = {one["alertname"] for test in tests for one in test.get("alert_rule_test", ()) if one["exp_alerts"]}
    assert fired == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_what_a_person_needs_at_night(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["runbook_url"] == f"{{{{ $externalURL }}}}/consoles/runbooks/{name}.md"
    text = (RUNBOOKS / f"{name}.md").read_text()
    assert "{{" not in text, "Prometheus, which shows the page, would take it for a template"
    assert f"Severity: {rule['labels']['severity']}." in text
    assert "## What to look at" in text
    assert "## What to do" in text
    assert f"[{name}]({name}.md) | {rule['labels']['severity']} |" in (RUNBOOKS / "README.md").read_text()


def test_there_is_no_runbook_without_an_alert() -> None:
    assert {page.stem for page in RUNBOOKS.glob("*.md")} - {"README"} == set(ALERTS)


def test_runbooks_name_dashboards_and_panels_that_there_are() -> None:
    made = generate.dashboards()
    titles = {panel["title"] for dashboard in made.values() for panel in dashboard["panels"]}
    known = titles | {name.removesuffix(".json").capitalize() for name in made}
    lines = [line for page in RUNBOOKS.glob("*.md") for line in page.read_text().splitlines() if "dashboard *" in line]
    named = {name for line in lines for name in re.findall(r"(?<!\*)\*([^*]+)\*(?!\*)", line)}
    assert named <= known
    assert named & titles


def said_commands() -> Iterator[tuple[str, str]]:
    for page in sorted(RUNBOOKS.glob("*.md")):
        text = page.read_text()
        quoted = re.findall(r"`(orchestrator [^`]+)`", text) + re.findall(r"^ *(orchestrator .+)$", text, re.MULTILINE)
        yield from ((page.stem, line) for line in dict.fromkeys(quoted))


@pytest.mark.parametrize(("page", "line"), list(said_commands()))
def test_a_command_of_a_runbook_is_one_of_ours(page: str, line: str) -> None:
    words = shlex.split(line)[1:]
    name = next(name for n in (2, 1) if (name := " ".join(words[:n])) in COMMANDS)
    ours = words[: words.index("--")] if "--" in words else words
    assert {word for word in ours if word.startswith("-")} <= documents.options(COMMANDS[name])


@pytest.mark.parametrize("where", [name for name in QUERIES if "shard_concurrency" in QUERIES[name]])
def test_how_much_a_shard_may_is_asked_of_the_leader_only(where: str) -> None:
    """One that stands by may have another registry, and gives other shards a name."""
    assert "orchestrator_leader" in QUERIES[where]


def test_the_dashboards_are_those_that_the_code_makes() -> None:
    made = {name: generate.text(dashboard) for name, dashboard in generate.dashboards().items()}
    there = {file.name: file.read_text() for file in generate.FOLDER.glob("*.json")}
    assert there == made, "write them anew: make dashboards"


def test_dashboards_have_what_grafana_needs() -> None:
    uids = [dashboard["uid"] for dashboard in generate.dashboards().values()]
    assert len(set(uids)) == len(uids)
    for dashboard in generate.dashboards().values():
        variables = {variable["name"] for variable in dashboard["templating"]["list"]} | {"__rate_interval", "__range"}
        assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
        for panel in dashboard["panels"]:
            assert panel["fieldConfig"]["defaults"]["noValue"]
            assert panel["description"]
            assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
            for target in panel["targets"]:
                assert set(re.findall(r"\$(\w+)", target["expr"])) <= variables
                assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= set(
                    re.findall(r"\w+", target["expr"])
                )


def test_queries_ask_for_metrics_that_there_are() -> None:
    known = {rule["record"] for rule in rules() if "record" in rule} | METRICS.keys()
    for where, promql in QUERIES.items():
        named = set(re.findall(r"\b(?:orchestrator|process)_\w+|\borchestrator:[\w:]+", promql))
        assert {re.sub(r"_bucket$", "", name) for name in named} <= known, where


def test_the_document_of_metrics_is_what_the_code_says() -> None:
    text = documents.METRICS.read_text()
    assert documents.made(text) == text, "write it anew: python -m tests.documents"
