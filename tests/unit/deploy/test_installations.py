"""Installations beside each other under one Prometheus: releases of the chart, and their rules."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import prometheus
from tests.unit.deploy import deployment
from tests.unit.deploy.deployment import DEPLOY
from tests.unit.deploy.rendering import MONITORED, kind, rendered

RULES = DEPLOY / "prometheus" / "rules.yml"
ANY = 'job=~".*orchestrator.*"'
# Of one name in two namespaces, and of two names in one.
RELEASES = [(("shop", "eu"), ("shop", "us")), (("green", "prod"), ("blue", "prod"))]
# A metric of ours, a rule's record, or what Prometheus itself tells of a scrape, and what is selected of it.
_SELECTED = re.compile(r"\b(orchestrator[_:][a-z0-9_:]+|process_[a-z_]+|up)\b(\{[^}]*\})?")

Release = tuple[str, str]


def release(name: str, namespace: str, **values: Any) -> tuple[str, dict[str, Any]]:
    """The job that Prometheus scrapes, and the rules."""
    manifests = rendered(name, namespace, **{**MONITORED, **values})
    [endpoint] = kind(manifests, "ServiceMonitor")["spec"]["endpoints"]
    [relabeling] = endpoint["relabelings"]
    assert (relabeling["action"], relabeling["targetLabel"]) == ("replace", "job")
    return relabeling["replacement"], kind(manifests, "PrometheusRule")["spec"]


def expressions(rules: Mapping[str, Any]) -> list[str]:
    return [rule["expr"] for group in rules["groups"] for rule in group["rules"]]


def alerts(rules: Mapping[str, Any]) -> dict[str, Any]:
    return {rule["alert"]: rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule}


def missed(job: str) -> dict[str, Any]:
    """The alert that an installation has no leader, as promtool is told to expect it."""
    said = {"summary": f"No daemon of {job} drives rollouts", "runbook": "docs/runbooks/OrchestratorNoLeader.md"}
    return {"exp_labels": {"severity": "critical", "job": job}, "exp_annotations": said}


def test_rules_look_only_at_jobs_of_ours() -> None:
    written = expressions(yaml.safe_load(RULES.read_text()))
    selected = [found for promql in written for found in _SELECTED.findall(promql)]
    assert len(selected) > 30
    for metric, labels in selected:
        assert ANY in labels, metric


@pytest.mark.parametrize("releases", RELEASES)
def test_each_release_is_a_job_of_its_own_and_its_rules_look_at_no_other(releases: tuple[Release, Release]) -> None:
    jobs = set()
    for name, namespace in releases:
        job, rules = release(name, namespace)
        jobs.add(job)
        for promql in expressions(rules):
            assert set(re.findall(r'job=~?"[^"]*"', promql)) == {f'job="{job}"'}
            assert all(f'job="{job}"' in labels for _, labels in _SELECTED.findall(promql))
    assert len(jobs) == 2


def test_a_job_of_another_name_is_that_of_the_rules_too() -> None:
    job, rules = release("shop", "eu", serviceMonitor={"enabled": True, "job": "eu"})
    assert job == "eu"
    assert '{job="eu"}' in alerts(rules)["OrchestratorDown"]["expr"]
    for unfit in ('a"b', "a\\b", "$1"):
        with pytest.raises(Exception, match="job"):
            release("shop", "eu", serviceMonitor={"enabled": True, "job": unfit})


def test_besides_job_and_runbooks_the_rules_of_a_release_are_those_of_the_file() -> None:
    job, rules = release("shop", "eu")
    text = RULES.read_text().replace(ANY, f'job="{job}"')
    text = text.replace('runbook_url: "{{ $externalURL }}/consoles/runbooks/', 'runbook: "docs/runbooks/')
    assert rules == yaml.safe_load(text)


@pytest.mark.parametrize("releases", RELEASES)
def test_prometheus_takes_the_rules_of_both_and_mixes_up_nothing(
    releases: tuple[Release, Release], tmp_path: Path
) -> None:
    """Both have a leader, and one loses it; both have two targets that are behind, which one brings to their goal."""
    (lost, _), (kept, _) = both = [release(*one) for one in releases]
    for number, (_, rules) in enumerate(both):
        (tmp_path / f"{number}.yml").write_text(yaml.safe_dump(rules))
    input_series = [
        {"series": f'up{{job="{lost}", instance="a"}}', "values": "1x10 stale"},
        {"series": f'up{{job="{kept}", instance="a"}}', "values": "1x20"},
        {"series": f'orchestrator_leader{{job="{lost}", instance="a"}}', "values": "1x10 stale"},
        {"series": f'orchestrator_leader{{job="{kept}", instance="a"}}', "values": "1x20"},
        *(
            {
                "series": f'orchestrator_targets{{job="{job}", instance="a", track="t", shard="s", state="behind"}}',
                "values": "2x20",
            }
            for job in (lost, kept)
        ),
    ]
    sums = [
        {"labels": f'orchestrator:targets:sum{{job="{job}", track="t", shard="s", state="behind"}}', "value": 2}
        for job in (lost, kept)
    ]
    test = {
        "interval": "1m",
        "input_series": input_series,
        "promql_expr_test": [{"expr": "orchestrator:targets:sum", "eval_time": "5m", "exp_samples": sums}],
        "alert_rule_test": [
            {"eval_time": "5m", "alertname": "OrchestratorTwoLeaders", "exp_alerts": []},
            {"eval_time": "5m", "alertname": "OrchestratorNoLeader", "exp_alerts": []},
            {"eval_time": "15m", "alertname": "OrchestratorNoLeader", "exp_alerts": [missed(lost)]},
            # Long after the last scrape of both.
            {"eval_time": "8h", "alertname": "OrchestratorNoLeader", "exp_alerts": [missed(lost), missed(kept)]},
        ],
    }
    content = {"rule_files": ["0.yml", "1.yml"], "evaluation_interval": "1m", "tests": [test]}
    (tmp_path / "test.yml").write_text(json.dumps(content))
    command = [prometheus.program("promtool"), "test", "rules", "test.yml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("given", ["https://runbooks.invalid/orchestrator", "https://runbooks.invalid/orchestrator/"])
def test_alerts_lead_to_where_runbooks_are_published(given: str) -> None:
    _, rules = release("shop", "eu", prometheusRule={"enabled": True, "runbookBaseUrl": given})
    for name, rule in alerts(rules).items():
        assert rule["annotations"]["runbook_url"] == f"https://runbooks.invalid/orchestrator/{name}.md"
        assert "runbook" not in rule["annotations"]


def test_alerts_name_the_page_where_nobody_has_said_where_it_is_published() -> None:
    _, rules = release("shop", "eu")
    for name, rule in alerts(rules).items():
        assert "runbook_url" not in rule["annotations"], "a link that leads nowhere is worse than none"
        page = deployment.ROOT / rule["annotations"]["runbook"]
        assert page == deployment.ROOT / "docs" / "runbooks" / f"{name}.md"


@pytest.mark.parametrize("unfit", ["docs/runbooks", 'https://a.invalid/"', "https://a.invalid/ b"])
def test_a_base_that_is_no_address_is_refused(unfit: str) -> None:
    with pytest.raises(Exception, match="runbookBaseUrl"):
        release("shop", "eu", prometheusRule={"enabled": True, "runbookBaseUrl": unfit})
