"""compose.yaml: nothing to click, nothing open to others, and everything it mounts is there."""

from __future__ import annotations

import re
from typing import Any

from orchestrator.service.daemon import CLOSING_SECONDS, HARD_EXIT_SECONDS
from orchestrator.settings import Settings
from tests.unit.deploy import deployment
from tests.unit.deploy.deployment import DEPLOY

COMPOSE: dict[str, Any] = deployment.load("compose.yaml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if service["image"].startswith("migration-orchestrator")]


def test_it_is_a_compose_file() -> None:
    try:
        import compose_spec
    except ImportError:
        deployment.missing("compose-spec")
        return
    read = compose_spec.PyOptions(apply_merge=True).from_yaml((DEPLOY / "compose.yaml").read_text())
    read.validate()
    assert set(read.service_names()) == set(SERVICES)


def test_what_is_mounted_is_there() -> None:
    volumes = [volume.split(":") for service in SERVICES.values() for volume in service.get("volumes", [])]
    for source, _target, *_ in volumes:
        if source.startswith("."):
            assert (DEPLOY / source).exists(), source
        else:
            assert source in COMPOSE["volumes"], source


def test_every_service_is_reached_and_waited_for_by_its_name() -> None:
    for service in SERVICES.values():
        assert set(service.get("networks", [])) <= set(COMPOSE["networks"])
        needed = service.get("depends_on", {})
        for name in needed:
            assert name in SERVICES
            if isinstance(needed, dict) and needed[name]["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[name] or name in OURS


def test_ours_run_without_rights_and_change_nothing_of_their_file_system() -> None:
    assert len(OURS) == 4
    for service in (SERVICES[name] for name in OURS):
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["user"] == "10001:10001"
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_only_this_machine_reaches_it() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 4
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert COMPOSE["networks"]["databases"]["internal"]


def test_what_runs_has_its_time() -> None:
    grace = Settings.model_fields["shutdown_grace_seconds"].default
    stop = float(SERVICES["orchestrator"]["stop_grace_period"].removesuffix("s"))
    assert stop > grace + HARD_EXIT_SECONDS + CLOSING_SECONDS


def test_prometheus_and_grafana_find_what_they_are_given() -> None:
    config = deployment.load("prometheus/prometheus.yml")
    [job] = config["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["orchestrator:8080"]}]
    assert all((DEPLOY / "prometheus" / name).is_file() for name in config["rule_files"])
    [source] = deployment.load("grafana/provisioning/datasources/prometheus.yaml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    [provider] = deployment.load("grafana/provisioning/dashboards/orchestrator.yaml")["providers"]
    mounts = dict(volume.split(":")[:2][::-1] for volume in SERVICES["grafana"]["volumes"])
    assert (DEPLOY / mounts["/etc/grafana/provisioning"] / "datasources" / "prometheus.yaml").is_file()
    dashboards = DEPLOY / mounts[provider["options"]["path"]]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].rpartition("/")[2]
    assert (dashboards / home).is_file()


def test_exemplars_lead_to_the_trace() -> None:
    """`${NAME}` is an environment variable to Grafana, and `$$` a dollar sign, where it reads provisioning files."""
    [source] = deployment.load("grafana/provisioning/datasources/prometheus.yaml")["datasources"]
    [destination] = source["jsonData"]["exemplarTraceIdDestinations"]
    assert destination["name"] == "trace_id"
    environment = SERVICES["grafana"]["environment"]
    read = re.sub(r"(?<!\$)\$\{(\w+)\}", lambda found: environment[found[1]], destination["url"]).replace("$$", "$")
    assert read == "http://localhost:16686/trace/${__value.raw}"
    assert SERVICES["jaeger"]["ports"] == ["127.0.0.1:16686:16686"]
    assert "--enable-feature=exemplar-storage" in SERVICES["prometheus"]["command"]


def test_traces_are_off_unless_somebody_asks_for_them() -> None:
    environment = SERVICES["orchestrator"]["environment"]
    assert environment["ORCHESTRATOR_TRACES"] == "${TRACES:-off}"
    assert environment["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://jaeger:4318"
    assert SERVICES["jaeger"]["profiles"] == ["traces"]
    assert set(SERVICES["jaeger"]["networks"]) & set(SERVICES["orchestrator"]["networks"])
    for value in ("off", "otlp"):
        assert Settings.model_validate_strings({"traces": value}).traces == value
