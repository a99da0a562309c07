"""Traces joined with logs, metrics and requests; and one that a daemon leaves and the next goes on with."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from deploy.grafana import generate
from orchestrator.databases.embedded import Server
from orchestrator.observe import trace_ids
from tests import environments, live
from tests.collector import Collector, collecting
from tests.daemon import Daemon, write_registry
from tests.engine import until
from tests.prometheus import scraping
from tests.servers import MakeDatabases

SOURCES = Path(__file__).parents[3] / "deploy" / "grafana" / "provisioning" / "datasources" / "prometheus.yaml"
OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
ASKER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting() as one:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", one.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        yield one


async def _registry(tmp_path: Path, pg: Server, make_databases: MakeDatabases, body: str = "") -> Path:
    environments.make_project(tmp_path / "project")
    environments.add_tables(tmp_path / "project", ["alpha", "beta"], before_each=body)
    track = {"config": "project/alembic.ini", "execution": "online"}
    config, environ = write_registry(tmp_path, pg, await make_databases(2), {"app": track})
    (tmp_path / "environ.json").write_text(json.dumps(environ))
    return config


async def test_logs_exemplars_and_the_api_name_the_same_trace(
    tmp_path: Path,
    pg: Server,
    make_databases: MakeDatabases,
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    config = await _registry(tmp_path, pg, make_databases)
    monkeypatch.setenv("PG_PASSWORD", json.loads((tmp_path / "environ.json").read_text())["PG_PASSWORD"])
    with capture_logs() as said:
        async with live.running(config, traces="otlp") as running, running.client() as client:
            headers = {"traceparent": f"00-{ASKER[0]}-{ASKER[1]}-01"}
            body = {"track": "app", "to": "head"}
            made = (await client.post("/api/v1/rollouts", json=body, headers=headers)).json()
            rollout = made["id"]
            trace = trace_ids.shown_trace(trace_ids.of_rollout(rollout))
            assert made["trace_id"] == trace
            await running.service.finished(rollout)
            answer = await client.get("/metrics", headers={"Accept": OPENMETRICS})
            plain = await client.get("/metrics")
            await _scraped(running.url, trace)
    spans = {span.id: span for span in collector.spans if span.name == "migration"}
    assert len(spans) == 2

    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.headers["vary"] == "Accept"
    parsed = text_string_to_metric_families(answer.text)  # type: ignore[no-untyped-call]
    families = {family.name: family for family in parsed}
    for name in ("orchestrator_migration_duration_seconds", "orchestrator_lock_wait_seconds"):
        exemplars = [sample.exemplar for sample in families[name].samples if sample.exemplar]
        assert exemplars, name
        for exemplar in exemplars:
            assert exemplar.labels["trace_id"] == trace
            assert exemplar.labels["span_id"] in spans
    assert plain.headers["content-type"].startswith("text/plain")
    assert trace not in plain.text

    for name in ("rollout_created", "rollout_state_changed", "migration_finished"):
        lines = [line for line in said if line["event"] == name]
        assert lines, name
        assert {line["trace_id"] for line in lines} == {trace}
    ends = [line for line in said if line["event"] == "migration_finished"]
    assert {line["span_id"] for line in ends} == set(spans)
    top = next(span for span in collector.spans if span.parent is None)
    assert {line["span_id"] for line in said if line["event"] == "rollout_state_changed"} == {top.id}

    asked = collector.one("rollout requested")
    assert asked.links == [ASKER]
    assert asked.parent == top.id
    assert top.trace == trace != ASKER[0], "a link, and no parent"


async def _scraped(url: str, trace: str) -> None:
    """A Prometheus that scrapes the daemon has exemplars for the graphs that ask for them, with the label by which
    Grafana's data source finds the trace."""
    [source] = yaml.safe_load(SOURCES.read_text())["datasources"]
    [destination] = source["jsonData"]["exemplarTraceIdDestinations"]
    panels = [panel for dashboard in generate.dashboards().values() for panel in dashboard["panels"]]
    asking = [target["expr"] for panel in panels for target in panel["targets"] if target.get("exemplar")]
    assert asking
    async with scraping("groups: []", "--enable-feature=exemplar-storage") as prometheus:
        prometheus.aim(url)

        async def kept(promql: str) -> bool:
            asked = {"query": promql, "start": "0", "end": "9999999999"}
            answer = await prometheus.client.post(f"{prometheus.url}/api/v1/query_exemplars", data=asked)
            found = [one for series in answer.json()["data"] for one in series["exemplars"]]
            return any(one["labels"][destination["name"]] == trace for one in found)

        for promql in asking:
            await until(partial(kept, re.sub(r"\$\w+", ".*", promql.replace("$job", "orchestrator"))))


async def test_a_request_whose_traceparent_is_none_is_answered_all_the_same(
    tmp_path: Path, pg: Server, make_databases: MakeDatabases, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = await _registry(tmp_path, pg, make_databases)
    monkeypatch.setenv("PG_PASSWORD", json.loads((tmp_path / "environ.json").read_text())["PG_PASSWORD"])
    async with live.running(config, traces="otlp") as running, running.client() as client:
        headers = {"traceparent": "00-" + "x" * 500}
        made = await client.post("/api/v1/rollouts", json={"track": "app", "to": "head"}, headers=headers)
        assert made.status_code == 201
        await running.service.finished(made.json()["id"])
    assert not collector.named("rollout requested")


async def test_a_daemon_that_is_killed_leaves_its_trace_to_the_next_which_sends_the_rest_at_sigterm(
    tmp_path: Path, pg: Server, make_databases: MakeDatabases, collector: Collector
) -> None:
    gate = tmp_path / "gate"
    config = await _registry(
        tmp_path,
        pg,
        make_databases,
        f"while not os.path.exists({str(gate)!r}): time.sleep(0.02)",
    )
    environ = json.loads((tmp_path / "environ.json").read_text())
    # The second one sends nothing before its end.
    environ |= {"ORCHESTRATOR_TRACES": "otlp", "OTEL_BSP_SCHEDULE_DELAY": "600000"}
    daemon = Daemon(config, f"sqlite:///{tmp_path}/store.db", environ)
    await daemon.start()
    headers = {"traceparent": f"00-{ASKER[0]}-{ASKER[1]}-01"}
    made = await daemon.call("POST", "/api/v1/rollouts", json={"track": "app", "to": "head"}, headers=headers)
    rollout = made.json()["id"]

    async def runs() -> bool:
        return bool((await daemon.rollout(rollout))["counts"]["running"] == 2)

    await until(runs)
    daemon.kill()
    assert not collector.spans
    gate.touch()
    await daemon.start()
    assert (await daemon.ended(rollout))["state"] == "succeeded"
    assert not collector.spans
    assert await daemon.stop() == 0
    trace = trace_ids.shown_trace(trace_ids.of_rollout(rollout))
    assert {span.trace for span in collector.spans} == {trace}
    assert made.json()["trace_id"] == trace
    top, wave = collector.one("rollout"), collector.one("wave")
    assert (top.parent, wave.parent) == (None, top.id)
    migrations = collector.named("migration")
    assert [one.parent for one in migrations] == [wave.id] * 2
    assert {one.attributes["orchestrator.attempts"] for one in migrations} == {2}
    killed = min(one.began for one in migrations)
    assert wave.began < killed, "it began in the process before"
    assert top.began < wave.began
    assert not [line for line in daemon.log if line.get("event") == "traces_undelivered"]
