"""`orchestrator rollout …` against a real daemon."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests import environments
from tests.command import Result, ended, run, started
from tests.daemon import Daemon
from tests.integration.cli.conftest import Project


@pytest.fixture
async def daemon(project: Project, tmp_path: Path) -> AsyncIterator[Daemon]:
    async with Daemon(project.folder / "tenants.yaml", f"sqlite:///{tmp_path}/store.db") as running:
        yield running


async def ask(daemon: Daemon, *arguments: str) -> Result:
    return await run("rollout", *arguments, cwd=Path("/"), env={"ORCHESTRATOR_SERVER": daemon.url})


async def test_start_and_wait_ends_as_migrate_does(daemon: Daemon) -> None:
    done = await ask(daemon, "start", "--track", "app", "--wait")
    assert done.code == 0, done.err
    assert "succeeded: 6 of 6 at head" in done.out
    assert "app to head: 6 of 6 done" in done.err
    [listed] = json.loads((await ask(daemon, "list", "--json")).out)
    assert listed["state"] == "succeeded"
    shown = json.loads((await ask(daemon, "show", listed["id"], "--migrations", "--json")).out)
    assert [migration["to"] for migration in shown["migrations"]] == [["beta"]] * 6
    assert listed["id"] in (await ask(daemon, "list")).out


async def test_a_dry_run_asks_the_daemon_and_starts_nothing(daemon: Daemon) -> None:
    done = await ask(daemon, "start", "--track", "app", "--dry-run")
    assert "6 of 6 targets would be migrated" in done.out
    assert (await ask(daemon, "list")).err == "no rollouts\n"


async def test_a_rollout_is_paused_watched_resumed_and_retried(daemon: Daemon, project: Project) -> None:
    folder = project.folder / "project"
    gate = project.folder / "go on"
    waits = f"while not os.path.exists({str(gate)!r}):\n    time.sleep(0.02)\nraise ValueError('no')"
    environments.add_revision(folder, "gamma", "beta", waits)
    rollout = json.loads((await ask(daemon, "start", "--track", "app", "--json")).out)["id"]
    paused = await ask(daemon, "pause", rollout)
    assert "is paused" in paused.out
    assert f"orchestrator rollout resume {rollout}" in paused.err
    second = await ask(daemon, "start", "--track", "app")
    assert second.code == 2
    assert f"rollout {rollout} is active" in second.err
    async with started("rollout", "watch", rollout, "--server", daemon.url, cwd=Path("/")) as watching:
        assert (await ask(daemon, "resume", rollout)).code == 0
        gate.touch()
        done = await ended(watching)
    assert done.code == 3
    assert "6 targets: t000, t001, t002, t003, t004 and 1 more" in done.out
    refused = await ask(daemon, "resume", rollout)
    assert refused.code == 2
    assert "has failed" in refused.err
    environments.add_revision(folder, "gamma", "beta", "pass")
    assert (await ask(daemon, "retry", rollout)).code == 0
    again = await ask(daemon, "watch", rollout)
    assert again.code == 0
    assert "succeeded: 6 of 6 at head" in again.out


async def test_what_is_not_there_is_told(daemon: Daemon) -> None:
    done = await ask(daemon, "show", "no-such-rollout")
    assert done.code == 2
    assert done.err.startswith("error: there is no rollout no-such-rollout")
    assert (await ask(daemon, "start", "--track", "nope")).code == 2
    assert (await ask(daemon, "list", "--state", "nope")).code == 2


async def test_tenants_can_be_asked_of_the_daemon(daemon: Daemon) -> None:
    done = await run("tenants", "--server", daemon.url, "--json", cwd=Path("/"))
    assert [tenant["tenant"] for tenant in json.loads(done.out)] == [f"t{number:03}" for number in range(6)]


async def test_no_daemon_is_exit_code_5(tmp_path: Path) -> None:
    done = await run("rollout", "list", "--server", "http://127.0.0.1:1", cwd=tmp_path)
    assert done.code == 5
    assert done.err.startswith("error: no daemon can be reached at http://127.0.0.1:1")
    assert "orchestrator serve" in done.err
