"""What is in deploy/, read for tests."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
# Set where a missing checker must not go unnoticed.
REQUIRED = "TEST_DEPLOY_REQUIRED"


def files() -> list[Path]:
    found = [path for path in DEPLOY.rglob("*") if path.is_file() and not path.is_symlink()]
    return [path for path in sorted(found) if "__pycache__" not in path.parts]


def texts() -> Iterator[tuple[str, str]]:
    """What people read and machines take as it stands; dashboards and what makes them are somebody else's."""
    for path in files():
        if path.suffix not in (".json", ".py"):
            yield str(path.relative_to(DEPLOY)), path.read_text()


def templates() -> list[Path]:
    return sorted((DEPLOY / "helm" / "templates").glob("*.yaml"))


def load(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


def containers(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Init containers and containers of what makes pods."""
    pod = manifest["spec"]["template"]["spec"]
    return [*pod.get("initContainers", []), *pod["containers"]]


def host(image: str) -> str:
    """The registry host in an image's name, empty where there is none.

    >>> host("prom/prometheus:v2"), host("registry.example/a:1"), host("localhost/a:1"), host("mirror:5000/a:1")
    ('', 'registry.example', 'localhost', 'mirror:5000')
    """
    first, slash, _ = image.partition("/")
    return first if slash and (re.search(r"[.:]", first) or first == "localhost") else ""


def version(image: str) -> str:
    """The tag of an image, as far as it pins one.

    >>> version("postgres:15.14-bookworm"), version("postgres:15"), version("a:latest"), version("a")
    ('15.14', '', '', '')
    """
    found = re.search(r":v?(\d+\.\d+(\.\d+)?)(-[a-z0-9-]+)?$", image)
    return found[1] if found else ""


def missing(what: str) -> None:
    """Skip the test, or fail it where the checker is required."""
    said = f"{what} is not installed: `make test` installs it from requirements-deploy.lock"
    if os.environ.get(REQUIRED):
        pytest.fail(said, pytrace=False)
    pytest.skip(said)
