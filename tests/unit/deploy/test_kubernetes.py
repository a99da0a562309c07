"""The Job and the init container of those who want no daemon."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from orchestrator.cli import migrate
from tests.unit.deploy import deployment
from tests.unit.deploy.deployment import DEPLOY

FILES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
VERSIONS = ("1.31", "1.33")  # with `podFailurePolicy` for good


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def manifest(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(request.param.read_text())
    return found


def test_kubernetes_takes_it(manifest: dict[str, Any]) -> None:
    try:
        import kubernetes_validate
    except ImportError:
        deployment.missing("kubernetes-validate")
    for version in VERSIONS:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_it_may_as_little_as_it_can(manifest: dict[str, Any]) -> None:
    pod = manifest["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"]
    volumes = {volume["name"] for volume in pod["volumes"]}
    for container in deployment.containers(manifest):
        context = container["securityContext"]
        assert (context["readOnlyRootFilesystem"], context["allowPrivilegeEscalation"]) == (True, False)
        assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes


def test_a_try_that_would_end_the_same_is_not_made_again() -> None:
    [job] = [yaml.safe_load(path.read_text()) for path in FILES if "job" in path.name]
    [codes] = [rule["onExitCodes"] for rule in job["spec"]["podFailurePolicy"]["rules"] if "onExitCodes" in rule]
    assert codes["values"] == [2, 4]
    assert migrate.UNREACHABLE not in codes["values"]
    assert codes["containerName"] in {container["name"] for container in deployment.containers(job)}
