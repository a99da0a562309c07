"""The recipes for pipelines, as the document has them: run against a daemon, and a forge that is played."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterable, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import anyio
import pytest
import yaml

from tests import environments, forked_command
from tests.command import Result, environ
from tests.daemon import Daemon
from tests.endpoints import Endpoint, says, serving
from tests.integration.cli.conftest import Project, project  # noqa: F401
from tests.integration.docs.recipes import pipelines, scripts

GITHUB, GITLAB = pipelines()


@pytest.fixture
async def daemon(project: Project, tmp_path: Path) -> AsyncIterator[Daemon]:  # noqa: F811
    config = project.folder / "tenants.yaml"
    strategy = {"canary": {"on_failure": {"max": 0, "then": "pause"}}}
    config.write_text(yaml.safe_dump({**yaml.safe_load(config.read_text()), "strategies": strategy}))
    async with Daemon(config, f"sqlite:///{tmp_path}/store.db") as running:
        yield running


async def run(texts: Iterable[str], folder: Path, **values: str) -> Result:
    """Run scripts one after the other, up to the first that fails; nothing is installed by `pip`."""
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    (tools / "pip").write_text("#!/bin/sh\nexit 0\n")
    (tools / "pip").chmod(0o755)
    line = forked_command.put(tools / "orchestrator")
    env = {**environ(values), "PATH": f"{tools}:{os.environ['PATH']}"}
    said = ""
    for script in texts:
        with anyio.fail_after(120):
            command = ["bash", "-euo", "pipefail", "-c", script]
            done = await anyio.run_process(command, check=False, cwd=folder, env=env, pass_fds=[line])
        said += done.stdout.decode() + done.stderr.decode()
        if done.returncode:
            break
    return Result(done.returncode, said, "")


def github(forge: Endpoint, daemon: Daemon | None = None) -> dict[str, str]:
    ours = {"ORCHESTRATOR_SERVER": daemon.url, "ORCHESTRATOR_TOKEN": "t0ken"} if daemon else {}
    return {
        "GITHUB_API_URL": forge.url,
        "GITHUB_REPOSITORY": "acme/app",
        "GITHUB_SHA": "c0ffee",
        "GITHUB_TOKEN": "gh-t0ken",
        "PULL_REQUEST": "7",
        **ours,
    }


class Forge:
    """Keeps one comment, as GitHub does with a pull request's."""

    def __init__(self) -> None:
        self.comment: str | None = None

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        endpoint = handler.server
        assert isinstance(endpoint, Endpoint)
        asked = endpoint.asked[-1]
        if asked.body:
            self.comment = json.loads(asked.body)["body"]
        listed = [{"url": f"{endpoint.url}/comments/1", "body": self.comment}] if self.comment else []
        says(200, json.dumps(listed).encode())(handler)


def test_the_pipelines_have_what_their_forges_ask_for() -> None:
    assert set(GITHUB) - {True} == {"name", "permissions", "concurrency", "jobs"}  # YAML 1.1 reads `on` as true
    for job in GITHUB["jobs"].values():
        assert {"runs-on", "steps", "if"} <= job.keys()
        assert all(("run" in step) != ("uses" in step) for step in job["steps"])
        assert all(step["shell"] == "bash" for step in job["steps"] if "run" in step)
    jobs = {name: job for name, job in GITLAB.items() if name != "stages"}
    assert {job["stage"] for job in jobs.values()} == set(GITLAB["stages"])
    assert all({"script", "rules"} <= job.keys() for job in jobs.values())


@pytest.mark.parametrize("job", [*GITHUB["jobs"].values(), GITLAB["plan"], GITLAB["roll-out"]])
def test_the_scripts_are_bash(job: Mapping[str, Any]) -> None:
    for script in scripts(job):
        done = subprocess.run(["bash", "-n", "-c", script], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.timeout(300)
async def test_they_comment_roll_out_once_and_tell_by_their_exit_codes_how_it_ended(
    daemon: Daemon,
    project: Project,  # noqa: F811
) -> None:
    with serving(Forge()) as forge:
        plan, roll_out = GITHUB["jobs"]["plan"], GITHUB["jobs"]["roll-out"]
        for script in (scripts(plan), [*scripts(plan)][-1:]):  # again, for a second push
            done = await run(script, project.folder, **github(forge))
            assert done.code == 0, done.out
        for _ in range(2):  # a job that is run again
            done = await run(scripts(roll_out), project.folder, **github(forge, daemon))
            assert done.code == 0, done.out
    assert [(asked.path, bool(asked.body)) for asked in forge.asked] == [
        ("/repos/acme/app/issues/7/comments?per_page=100", False),
        ("/repos/acme/app/issues/7/comments", True),
        ("/repos/acme/app/issues/7/comments?per_page=100", False),
        ("/comments/1", True),
    ]
    comment = json.loads(forge.asked[-1].body)["body"]
    assert comment.startswith("<!-- orchestrator plan -->\n### Migrations: app to head\n\n6 of 6 targets")
    assert "alpha (" in comment
    assert await states(daemon) == ["succeeded"]

    ours = {"ORCHESTRATOR_SERVER": daemon.url, "ORCHESTRATOR_TOKEN": "t0ken", "CI_PROJECT_ID": "42"}
    with serving(says(201)) as forge:
        note = {"CI_API_V4_URL": f"{forge.url}/api/v4", "CI_MERGE_REQUEST_IID": "7", "GITLAB_TOKEN": "gl"}
        done = await run(scripts(GITLAB["plan"]), project.folder, **ours, **note)
        assert done.code == 0, done.out
    [asked] = forge.asked
    assert asked.path == "/api/v4/projects/42/merge_requests/7/notes"
    assert parse_qs(asked.body)["body"][0].startswith("<!-- orchestrator plan -->\n### Migrations: app to head")
    for _ in range(2):
        done = await run(scripts(GITLAB["roll-out"]), project.folder, **ours, CI_COMMIT_SHA="c0ffee")
        assert done.code == 0, done.out
    environments.add_revision(project.folder / "project", "gamma", "beta", "raise ValueError('no')")
    assert (await run(scripts(GITLAB["roll-out"]), project.folder, **ours, CI_COMMIT_SHA="decaf")).code == 4
    assert await states(daemon) == ["paused", "succeeded", "succeeded"]
    ours["ORCHESTRATOR_SERVER"] += "/nowhere"
    assert (await run(scripts(GITLAB["roll-out"]), project.folder, **ours, CI_COMMIT_SHA="bad")).code == 5


async def states(daemon: Daemon) -> list[str]:
    """Of its rollouts, newest first."""
    return [one["state"] for one in (await daemon.call("GET", "/api/v1/rollouts")).json()["items"]]
