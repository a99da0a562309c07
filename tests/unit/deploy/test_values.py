"""Values that the chart's schema lets through: what is rendered of them is what Kubernetes takes."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.unit.deploy import deployment
from tests.unit.deploy.rendering import MONITORED, Rendered, kind, rendered

LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
LONG = "a" * 60
# By what is odd about them.
ODD: dict[str, dict[str, Any]] = {
    "secrets with dots, of one beginning, and of digits": {"secretFiles": ["pg.eu.1", f"{LONG}1", f"{LONG}2", "123"]},
    "names and keys of digits": {
        "store": {"existingSecret": "123", "key": "1"},
        "tokens": {"existingSecret": "007", "key": "1e3"},
        "tls": {"existingSecret": "12"},
        "registry": {"existingConfigMap": "123", "content": ""},
        "priorityClassName": "123",
        "serviceAccount": {"create": False, "name": "123"},
    },
    "words that YAML has for true": {
        "store": {"existingSecret": "yes", "key": "on"},
        "serviceAccount": {"create": True, "name": "true"},
    },
    "labels of numbers": {
        "podLabels": {"a": 1, "b": True, "c": 1000000},
        "podAnnotations": {"a": 1},
        "nodeSelector": {"cores": 8},
        "service": {"annotations": {"a": True}},
        "serviceAccount": {"annotations": {"a": 1}},
        "serviceMonitor": {"enabled": True, "labels": {"a": 1}},
        "prometheusRule": {"enabled": True, "labels": {"a": 1}},
        "dashboards": {"enabled": True, "labels": {"a": 1}, "annotations": {"a": 1}},
    },
    "sizes of digits": {"temporarySize": "1000", "migrations": {"image": "a:1", "sizeLimit": "1000"}},
    "a folder with a comma": {"migrations": {"image": "a:1", "mountPath": "/srv/a, b"}},
    "a job with a colon": {"serviceMonitor": {"enabled": True, "job": "eu:prod"}, "prometheusRule": {"enabled": True}},
}
UNFIT: list[tuple[dict[str, Any], str]] = [
    ({"secretFiles": ["a/b"]}, "secretFiles"),
    ({"secretFiles": ["a", "a"]}, "secretFiles"),
    ({"store": {"existingSecret": "a: b"}}, "existingSecret"),
    ({"tokens": {"existingSecret": "a", "key": "a,b"}}, "key"),
    ({"migrations": {"image": "a:1", "mountPath": "srv"}}, "mountPath"),
    ({"serviceMonitor": {"enabled": True, "job": "eu: prod"}}, "job"),
    ({"serviceMonitor": {"enabled": True, "job": "eu #1"}}, "job"),
    ({"prometheusRule": {"enabled": True, "runbookBaseUrl": "https://a.invalid/{{ $labels.job }}"}}, "runbookBaseUrl"),
    ({"prometheusRule": {"enabled": True, "runbookBaseUrl": "https://a.invalid/{{x"}}, "runbookBaseUrl"),
    ({"settings": {"SHUTDOWN_GRACE_SECONDS": "1m"}}, "SHUTDOWN_GRACE_SECONDS"),
    ({"settings": {"SHUTDOWN_GRACE_SECONDS": True}}, "SHUTDOWN_GRACE_SECONDS"),
    ({"podLabels": {"app.kubernetes.io/name": "x"}}, "app.kubernetes.io/name"),
    ({"podLabels": {"a": {}}}, "podLabels"),
    ({"env": [{"name": "A", "value": 1}]}, "env"),
    ({"service": {"type": "Nodeport"}}, "service"),
]


def texts(one: Any, path: str = "") -> None:
    """What must be text is."""
    if isinstance(one, dict):
        for key, value in one.items():
            if key in ("labels", "annotations", "matchLabels", "nodeSelector") and isinstance(value, dict):
                assert all(isinstance(text, str) for text in value.values()), (path, key, value)
            if key in ("name", "namespace", "value", "secretName", "mountPath", "job"):
                assert isinstance(value, str), (path, key, value)
            texts(value, f"{path}.{key}")
    elif isinstance(one, list):
        for value in one:
            texts(value, path)


def taken(manifests: Rendered) -> None:
    """What the schemas say, and what they do not."""
    try:
        import kubernetes_validate
    except ImportError:
        deployment.missing("kubernetes-validate")
    for one in manifests:
        texts(one)
        if "monitoring" not in one["apiVersion"]:
            kubernetes_validate.validate(one, "1.33", strict=True)
    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", kind(manifests, "Service")["metadata"]["name"])
    pod = kind(manifests, "Deployment")["spec"]["template"]["spec"]
    volumes = [volume["name"] for volume in pod["volumes"]]
    assert len(set(volumes)) == len(volumes)
    assert all(re.fullmatch(LABEL, volume) for volume in volumes), volumes
    mounts = [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]]
    assert len(set(mounts)) == len(mounts)


@pytest.mark.parametrize("values", ODD.values(), ids=list(ODD))
def test_odd_values_are_rendered_as_kubernetes_takes_them(values: dict[str, Any]) -> None:
    taken(rendered(**values))


@pytest.mark.parametrize(
    ("name", "namespace"), [("123", "migrations"), ("true", "migrations"), ("1.5", "123"), ("a.b", "1e3")]
)
def test_releases_and_namespaces_of_odd_names(name: str, namespace: str) -> None:
    manifests = rendered(name, namespace, **MONITORED)
    taken(manifests)
    assert {one["metadata"]["namespace"] for one in manifests} == {namespace}


@pytest.mark.parametrize(("values", "said"), UNFIT)
def test_what_kubernetes_or_prometheus_would_refuse_the_schema_refuses(values: dict[str, Any], said: str) -> None:
    with pytest.raises(Exception, match=said):
        rendered(**values)


def test_each_secret_is_where_it_is_looked_for() -> None:
    secrets = ODD["secrets with dots, of one beginning, and of digits"]["secretFiles"]
    pod = kind(rendered(secretFiles=secrets), "Deployment")["spec"]["template"]["spec"]
    of_volume = {one["name"]: one["secret"]["secretName"] for one in pod["volumes"] if "secret" in one}
    mounted = {one["mountPath"]: of_volume.get(one["name"]) for one in pod["containers"][0]["volumeMounts"]}
    assert {secret: mounted[f"/run/secrets/orchestrator/{secret}"] for secret in secrets} == {s: s for s in secrets}


@pytest.mark.parametrize(
    ("given", "said"), [(1_000_000, "1000000"), (0.5, "0.5"), (16, "16"), ("007", "007"), (True, "true")]
)
def test_a_setting_is_written_as_it_was_given(given: Any, said: str) -> None:
    pod = kind(rendered(settings={"MAX_CONCURRENT": given}), "Deployment")["spec"]["template"]["spec"]
    [found] = [one["value"] for one in pod["containers"][0]["env"] if one["name"] == "ORCHESTRATOR_MAX_CONCURRENT"]
    assert found == said


@pytest.mark.parametrize("content", ["  # indented\ntracks: {}\n", "\n\n  # c\ntracks: {}\n", "tracks: {}\n"])
def test_a_registry_comes_as_it_was_written(content: str) -> None:
    maps = [one["data"] for one in rendered(registry={"content": content}) if one["kind"] == "ConfigMap"]
    assert [one["tenants.yaml"] for one in maps] == [content]
    assert yaml.safe_load(content) == {"tracks": {}}
