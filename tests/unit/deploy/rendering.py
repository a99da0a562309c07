"""The chart, rendered by Helm's own library."""

from __future__ import annotations

from typing import Any

import yaml

from tests.unit.deploy import deployment
from tests.unit.deploy.deployment import DEPLOY

CHART = DEPLOY / "helm"
NEEDED: dict[str, Any] = {
    "store": {"existingSecret": "store"},
    "migrations": {"image": "app:1.0"},
    "registry": {"content": "tracks: {}\nshards:\n  a: {url: ${A}}\n"},
}
MONITORED: dict[str, Any] = {name: {"enabled": True} for name in ("serviceMonitor", "prometheusRule", "dashboards")}

Rendered = list[dict[str, Any]]


def library() -> Any:
    """Helm's; the test is skipped where it is not installed."""
    try:
        from helm_python import chart
    except ImportError:
        deployment.missing("helm-python-sdk")
    return chart


def rendered(name: str = "release", namespace: str = "migrations", **values: Any) -> Rendered:
    found = library().Chart.load(CHART).render({**NEEDED, **values}, name=name, namespace=namespace)
    texts = [text for path, text in found.items() if path.endswith(".yaml")]
    return [one for text in texts for one in yaml.safe_load_all(text) if one]


def kind(manifests: Rendered, wanted: str) -> dict[str, Any]:
    [found] = [one for one in manifests if one["kind"] == wanted]
    return found
