"""Whatever is in deploy/: it parses, its images are pinned, and it names only what exists."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator import __version__
from orchestrator.settings import Settings
from tests import documents, units
from tests.unit.deploy import deployment
from tests.unit.deploy.deployment import DEPLOY

COMMANDS = documents.commands()
# What programs of ours read besides the daemon's settings.
CLIENTS = {"ORCHESTRATOR_SERVER", "ORCHESTRATOR_TOKEN", "ORCHESTRATOR_CA_FILE"}
SETTINGS = {f"ORCHESTRATOR_{name.upper()}" for name in Settings.model_fields}
_COMMAND = re.compile(r"(?:^|`|opt/orchestrator/bin/)orchestrator ([a-z][^`\n>]*)", re.MULTILINE)
_EMPTY = {"<id>": "id", "<NUMBER:HASH>": f"1:{'0' * 64}"}


@pytest.mark.parametrize("path", [path for path in deployment.files() if path.suffix in (".yaml", ".yml", ".json")])
def test_it_parses(path: Path) -> None:
    text = path.read_text()
    assert "\t" not in text
    if path.suffix == ".json":
        json.loads(text)
    elif path.parent.name != "templates":  # those are YAML only once they are rendered
        assert list(yaml.safe_load_all(text))


def test_no_key_is_given_twice() -> None:
    class Strict(yaml.SafeLoader):
        pass

    def mapping(loader: Strict, node: yaml.MappingNode) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        assert len(keys) == len(set(keys)), f"{node.start_mark}: {keys}"
        loader.flatten_mapping(node)
        return dict(loader.construct_pairs(node, deep=True))

    Strict.add_constructor("tag:yaml.org,2002:map", mapping)
    for path in deployment.files():
        if path.suffix in (".yaml", ".yml") and path.parent.name != "templates":
            list(yaml.load_all(path.read_text(), Strict))


def images() -> Iterator[tuple[str, str]]:
    for name, text in deployment.texts():
        for found in re.finditer(
            r"^\s*(?:- )?image: *\"?([a-z][^\s\"{}]*)\"?|^(?:FROM|ARG PYTHON=) *([a-z]\S*)", text, re.MULTILINE
        ):
            yield name, found[1] or found[2]


def test_images_are_pinned_and_name_no_host() -> None:
    found = list(images())
    assert len(found) > 8
    for name, image in found:
        assert not deployment.host(image), (name, image)
        assert deployment.version(image), (name, image)


def test_our_own_version_is_this_one() -> None:
    chart = deployment.load("helm/Chart.yaml")
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)
    ours = {image for _, image in images() if image.startswith("migration-orchestrator:")}
    assert ours == {f"migration-orchestrator:{__version__}"}


@pytest.mark.parametrize(("name", "text"), list(deployment.texts()), ids=lambda value: value if len(value) < 60 else "")
def test_settings_that_are_named_exist(name: str, text: str) -> None:
    named = set(re.findall(r"ORCHESTRATOR_[A-Z_]*[A-Z]", text))
    assert named <= SETTINGS | CLIENTS


def typed() -> Iterator[tuple[str, str]]:
    """Command lines of ours, in documents, comments and scripts."""
    for name, text in deployment.texts():
        for found in _COMMAND.finditer(text):
            yield name, found[1]
    for service in deployment.load("compose.yaml")["services"].values():
        if service.get("entrypoint", [""])[-1] == "orchestrator":
            yield "compose.yaml", shlex.join(service["command"])
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")):
        for container in deployment.containers(yaml.safe_load(path.read_text())):
            if container.get("command", [""])[0] == "orchestrator":
                yield path.name, shlex.join(container["command"][1:])
    yield (
        "orchestrator.service",
        shlex.join(units.read((DEPLOY / "systemd" / "orchestrator.service").read_text()).command[1:]),
    )


@pytest.mark.parametrize(("name", "line"), list(typed()))
def test_commands_that_are_named_can_be_typed(name: str, line: str) -> None:
    for shown, meant in _EMPTY.items():
        line = line.replace(shown, meant)
    words = shlex.split(line, comments=True)
    command = next((one for one in sorted(COMMANDS, key=len, reverse=True) if " ".join(words).startswith(one)), None)
    assert command is not None, words
    arguments = words[len(command.split()) :]
    # A command that a sentence names without what it needs.
    with COMMANDS[command].make_context(command, arguments, resilient_parsing=not arguments):
        pass


def test_enough_commands_are_looked_at() -> None:
    assert {name for name, _ in typed()} >= {"README.md", "store.md", "compose.yaml", "migrate-job.yaml"}


def test_links_lead_to_files() -> None:
    for page in DEPLOY.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert (page.parent / target).resolve().exists(), (page.name, target)


def test_no_secret_stands_in_a_file() -> None:
    for name, text in deployment.texts():
        for found in re.finditer(r"://[^\s:/@]+:([^\s@]+)@", text):
            assert found[1].startswith("${") or found[1] in ("…", "password"), (name, found[0])


def test_systemd_knows_every_key_of_the_unit() -> None:
    """What systemd does not know it leaves out with no more than a warning, and a hardening with it."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd on this machine")
    unit = str(DEPLOY / "systemd" / "orchestrator.service")
    told = subprocess.run([program, "verify", unit], capture_output=True, text=True, check=False).stderr
    assert "Unknown" not in told
    assert "orchestrator.service:" not in told.replace("orchestrator.service: Command /opt", "")


def test_the_unit_is_as_hardened_as_the_documentation_says() -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd on this machine")
    unit = str(DEPLOY / "systemd" / "orchestrator.service")
    told = subprocess.run([program, "security", "--offline=true", "--no-pager", unit], capture_output=True, text=True)
    if "offline" in told.stderr:
        pytest.skip("this systemd looks at running units only")
    found = re.search(r"exposure level for orchestrator.service: (\d+\.\d+)", told.stdout)
    assert found is not None
    assert float(found[1]) <= 1.5, told.stdout  # 1.2 by systemd 252; other versions weigh other things
    for page in ("README.md", "systemd/orchestrator.service"):
        assert "1.2" in (DEPLOY / page).read_text()


def test_prometheus_takes_its_configuration() -> None:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("no promtool on this machine: install Debian's package prometheus")
    config = str(DEPLOY / "prometheus" / "prometheus.yml")
    told = subprocess.run([program, "check", "config", config], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
