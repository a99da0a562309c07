"""The chart: rendered by Helm's own library, and held against the schemas of Kubernetes, where both are installed."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.registry import manifest
from orchestrator.service.daemon import CLOSING_SECONDS, HARD_EXIT_SECONDS
from orchestrator.settings import Settings
from tests.unit.deploy import deployment
from tests.unit.deploy.deployment import DEPLOY
from tests.unit.deploy.rendering import CHART, MONITORED, NEEDED, Rendered, kind, library, rendered

VERSIONS = ("1.25", "1.33")
LARGEST_BYTES = 1024 * 1024
# What the chart sets by itself; the rest of the daemon's settings go through `settings`.
SET = {"config", "store_url", "host", "port", "tokens_file", "tls_certificate", "tls_key", "tls_client_ca"}
EVERYTHING: dict[str, Any] = {
    **MONITORED,
    "image": {"digest": f"sha256:{'0' * 64}"},
    "imagePullSecrets": [{"name": "pull"}],
    "tokens": {"existingSecret": "tokens"},
    "tls": {"existingSecret": "tls", "clientCA": True},
    "secretFiles": ["pg-eu-1", "pg-us-1"],
    "env": [{"name": "A", "value": "b"}],
    "envFrom": [{"secretRef": {"name": "shards"}}],
    "podLabels": {"team": "db"},
    "podAnnotations": {"a": "b"},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "a", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "high",
    "networkPolicy": {"clients": [{"podSelector": {"matchLabels": {"a": "b"}}}]},
}


def pod(manifests: Rendered) -> dict[str, Any]:
    found: dict[str, Any] = kind(manifests, "Deployment")["spec"]["template"]["spec"]
    return found


def environment(manifests: Rendered) -> Mapping[str, Any]:
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in pod(manifests)["containers"][0]["env"]}


def test_helm_finds_nothing_to_complain_of() -> None:
    report = library().lint(CHART, NEEDED, strict=True)
    assert [one for one in report["messages"] if one["severity"] > 1] == []


@pytest.mark.parametrize(
    "values",
    [
        {},
        EVERYTHING,
        {"replicaCount": 1, "strategy": "RollingUpdate"},
        {"migrations": {"from": "image"}, "registry": {"existingConfigMap": "tenants", "content": ""}},
        {"serviceAccount": {"create": False}, "networkPolicy": {"enabled": False}, "topologySpread": False},
    ],
    ids=["defaults", "everything", "one", "application", "less"],
)
def test_what_is_rendered_is_what_kubernetes_takes(values: dict[str, Any]) -> None:
    manifests = rendered(**values)
    try:
        import kubernetes_validate
    except ImportError:
        deployment.missing("kubernetes-validate")
    for one in manifests:
        assert one["metadata"]["namespace"] == "migrations"
        if "monitoring" not in one["apiVersion"]:
            for version in VERSIONS:
                kubernetes_validate.validate(one, version, strict=True)


def test_every_pod_may_as_little_as_it_can() -> None:
    for values in ({}, EVERYTHING):
        manifests = rendered(**values)
        found = pod(manifests)
        assert found["automountServiceAccountToken"] is False
        assert kind(manifests, "ServiceAccount")["automountServiceAccountToken"] is False
        assert found["securityContext"]["runAsNonRoot"]
        for container in deployment.containers(kind(manifests, "Deployment")):
            context = container["securityContext"]
            assert (context["readOnlyRootFilesystem"], context["allowPrivilegeEscalation"]) == (True, False)
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]


def test_volumes_and_mounts_belong_together() -> None:
    for values in ({}, EVERYTHING, {"migrations": {"from": "image"}}):
        manifests = rendered(**values)
        mounted = {
            one["name"] for c in deployment.containers(kind(manifests, "Deployment")) for one in c["volumeMounts"]
        }
        assert mounted == {volume["name"] for volume in pod(manifests)["volumes"]}


def test_every_setting_can_be_given_and_no_other() -> None:
    others = {name.upper() for name in Settings.model_fields if name not in SET}
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())
    assert set(schema["properties"]["settings"]["properties"]) == others
    given = environment(rendered(settings=dict.fromkeys(others, "1")))
    names = {f"ORCHESTRATOR_{name.upper()}" for name in Settings.model_fields}
    assert {name for name in given if name.startswith("ORCHESTRATOR_")} <= names
    unset = ("TOKENS_FILE", "TLS_CERTIFICATE", "TLS_KEY", "TLS_CLIENT_CA")
    assert names - set(given) == {f"ORCHESTRATOR_{name}" for name in unset}
    with pytest.raises(Exception, match="SHUTDOWN_GRACE"):
        rendered(settings={"SHUTDOWN_GRACE": 1})


def test_the_defaults_are_settings_that_the_daemon_takes() -> None:
    given = {name.removeprefix("ORCHESTRATOR_").lower(): value for name, value in environment(rendered()).items()}
    texts = {name: value for name, value in given.items() if isinstance(value, str) and name in Settings.model_fields}
    assert Settings.model_validate_strings(texts).lease_seconds == 15


def test_secrets_are_references_and_stand_nowhere() -> None:
    manifests = rendered(**EVERYTHING)
    assert "Secret" not in {one["kind"] for one in manifests}
    assert environment(manifests)["ORCHESTRATOR_STORE_URL"] == {"secretKeyRef": {"name": "store", "key": "url"}}


@pytest.mark.parametrize("seconds", [0.5, 30, 3600])
def test_what_runs_has_its_time(seconds: float) -> None:
    found = pod(rendered(settings={"SHUTDOWN_GRACE_SECONDS": seconds}))["terminationGracePeriodSeconds"]
    assert found > math.ceil(seconds) + HARD_EXIT_SECONDS + CLOSING_SECONDS


def test_probes_speak_as_the_daemon_does() -> None:
    probes = ("startupProbe", "livenessProbe", "readinessProbe")

    def of(values: dict[str, Any]) -> list[dict[str, Any]]:
        container = pod(rendered(**values))["containers"][0]
        return [container[name] for name in probes]

    assert [one["httpGet"]["scheme"] for one in of({})] == ["HTTP"] * 3
    assert [one["httpGet"]["path"] for one in of({})] == ["/healthz", "/healthz", "/readyz"]
    assert [one["httpGet"]["scheme"] for one in of({"tls": {"existingSecret": "tls"}})] == ["HTTPS"] * 3
    assert ["tcpSocket" in one for one in of(EVERYTHING)] == [True] * 3


def test_one_replica_has_no_disruption_budget_that_would_hold_up_every_drain() -> None:
    assert kind(rendered(), "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert "PodDisruptionBudget" not in {one["kind"] for one in rendered(replicaCount=1)}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"store": {"existingSecret": ""}}, "store.existingSecret"),
        ({"migrations": {"image": ""}}, "migrations.image"),
        ({"registry": {"content": ""}}, "registry"),
        ({"replicas": 3}, "replicas"),
    ],
)
def test_what_is_missing_or_unknown_is_named(values: dict[str, Any], said: str) -> None:
    with pytest.raises(Exception, match=said):
        rendered(**values)


def test_dashboards_and_registry_come_as_they_are() -> None:
    manifests = rendered(**MONITORED)
    maps = {one["metadata"]["name"].rpartition("-")[2]: one["data"] for one in manifests if one["kind"] == "ConfigMap"}
    assert maps["registry"]["tenants.yaml"].strip() == NEEDED["registry"]["content"].strip()
    files = {path.name: path.read_text() for path in (DEPLOY / "grafana" / "dashboards").glob("*.json")}
    assert {name: text.strip() for name, text in maps["dashboards"].items()} == {
        name: text.strip() for name, text in files.items()
    }
    assert sum(map(len, files.values())) < LARGEST_BYTES


def test_every_value_is_explained_and_described() -> None:
    values, schema = deployment.load("helm/values.yaml"), deployment.load("helm/values.schema.json")
    assert set(values) | {"global"} == set(schema["properties"])
    text = (CHART / "values.yaml").read_text()
    used = "".join(path.read_text() for path in (CHART / "templates").iterdir())
    for name, value in values.items():
        assert f".Values.{name}" in used, name
        for inner in value if isinstance(value, dict) and name not in ("settings", "resources") else ():
            assert f".Values.{name}.{inner}" in used, (name, inner)
    assert text.count("#") > 40


def test_the_example_in_the_documentation_works(tmp_path: Path) -> None:
    [example] = re.findall(r"```yaml\n(.*?)```", (DEPLOY / "README.md").read_text(), re.DOTALL)
    values = yaml.safe_load(example)
    manifests = rendered(**values)
    mounts = {one["mountPath"] for one in pod(manifests)["containers"][0]["volumeMounts"]}
    [secret] = values["secretFiles"]
    assert f"/run/secrets/orchestrator/{secret}" in mounts
    (tmp_path / secret).mkdir()
    (tmp_path / secret / "password").write_text("secret\n")
    (tmp_path / "migrations").mkdir()
    text = values["registry"]["content"]
    text = text.replace("/run/secrets/orchestrator", str(tmp_path)).replace("/srv/migrations", "migrations")
    (tmp_path / "tenants.yaml").write_text(text)
    assert list(manifest.load(tmp_path / "tenants.yaml", {}).shards) == [secret]
