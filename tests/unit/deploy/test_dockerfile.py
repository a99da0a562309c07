"""The Dockerfile by rules of our own, and by hadolint where it is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.settings import Settings
from tests.unit.deploy import deployment
from tests.unit.deploy.deployment import DEPLOY, ROOT

FILE = DEPLOY / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    lines = [line for line in FILE.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in joined.splitlines()]


def last_stage() -> list[tuple[str, str]]:
    found = instructions()
    return found[max(number for number, (word, _) in enumerate(found) if word == "FROM") :]


def value(word: str) -> str:
    return [text for name, text in last_stage() if name == word][-1]


def test_it_does_not_run_as_root_and_says_by_number_who_it_is() -> None:
    uid, gid = value("USER").split(":")
    assert int(uid) > 1000
    assert int(gid) > 1000
    chart = (DEPLOY / "helm" / "templates" / "deployment.yaml").read_text()
    assert f"runAsUser: {uid}" in chart
    assert f"fsGroup: {gid}" in chart


def test_it_tells_its_health_and_hears_sigterm() -> None:
    assert "orchestrator-healthcheck" in value("HEALTHCHECK")
    assert value("STOPSIGNAL") == "SIGTERM"
    assert value("ENTRYPOINT").startswith('["tini", "--"')
    assert value("CMD").startswith("[")


def test_what_is_copied_exists_and_is_let_through() -> None:
    let_through = {line[1:] for line in Path(f"{FILE}.dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [text.split() for word, text in instructions() if word == "COPY" and "--from" not in text]
    sources = {source for words in copied for source in [one for one in words if not one.startswith("--")][:-1]}
    assert sources == let_through
    assert all((ROOT / source).exists() for source in sources)
    assert "ADD" not in {word for word, _ in instructions()}


def test_everything_comes_by_its_hash_and_nothing_is_compiled() -> None:
    runs = [text for word, text in instructions() if word == "RUN"]
    [download] = [text for text in runs if "pip download" in text]
    assert "--require-hashes" in download
    assert "--only-binary :all:" in download
    for text in runs:
        for command in re.split(r"&&", text):
            if re.search(r"pip\S* (?:--python \S+ )?(install|wheel)", command):
                assert "--no-index" in command, command
    assert "--hash=sha256:" in (ROOT / "requirements.lock").read_text()


def test_no_secret_is_built_in() -> None:
    named = {name for word, text in instructions() if word in ("ENV", "ARG") for name in re.findall(r"(\w+)=", text)}
    assert not {name for name in named if re.search(r"PASS|TOKEN|SECRET|KEY", name)}
    ours = {name for name in named if name.startswith("ORCHESTRATOR_")}
    assert ours <= {f"ORCHESTRATOR_{name.upper()}" for name in Settings.model_fields}


def test_hadolint_finds_nothing() -> None:
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if program is None:
        deployment.missing("hadolint")
    done = subprocess.run([program or "", "--no-color", str(FILE)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("place", ["", "127.0.0.1"])
def test_the_health_check_tells_that_nobody_answers(place: str) -> None:
    environ = {"ORCHESTRATOR_PORT": "1", "ORCHESTRATOR_HOST": place}
    check = [sys.executable, str(DEPLOY / "healthcheck.py")]
    done = subprocess.run(check, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "refused" in done.stderr
