"""Watching a rollout whose daemon is killed; and what the daemon was telling meanwhile."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import anyio.to_thread
import pytest
import yaml
from anyio.abc import Process
from typer.testing import CliRunner

from orchestrator.cli.application import app
from orchestrator.events import now
from orchestrator.notify.signing import verified
from tests import environments
from tests.command import started
from tests.daemon import Daemon
from tests.endpoints import says, serving
from tests.engine import until
from tests.integration.cli.conftest import Project

SECRET = "0123456789abcdef-hook"


class Said:
    """What a running command has said on standard error so far."""

    def __init__(self, process: Process) -> None:
        self._process, self.text = process, ""

    async def until(self, words: str) -> None:
        assert self._process.stderr is not None
        while words not in self.text:
            self.text += (await self._process.stderr.receive()).decode()


async def here(daemon: Daemon, *arguments: str) -> str:
    """What a command says, run in this process."""
    done = await anyio.to_thread.run_sync(lambda: CliRunner().invoke(app, [*arguments, "--server", daemon.url]))
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.timeout(180)
async def test_a_daemon_that_is_killed_is_waited_for_and_tells_once_more(
    project: Project, tmp_path: Path, free_tcp_port: int
) -> None:
    gate = tmp_path / "go on"
    waits = f"while not os.path.exists({str(gate)!r}):\n    time.sleep(0.02)"
    environments.add_revision(project.folder / "project", "gamma", "beta", waits)
    held, answered = threading.Event(), says(200)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        held.wait(30)
        answered(handler)

    config = project.folder / "tenants.yaml"
    with serving(answer) as hook:
        hooked = {"name": "ops", "webhook": f"{hook.url}/${{HOOK_PATH}}", "secret": "${HOOK_SECRET}", "timeout": "30s"}
        config.write_text(yaml.safe_dump({**yaml.safe_load(config.read_text()), "notifications": [hooked]}))
        environ = {"HOOK_SECRET": SECRET, "HOOK_PATH": "s3cret-path"}
        flags = ["--port", str(free_tcp_port)]
        async with Daemon(config, f"sqlite:///{tmp_path}/store.db", environ, flags) as daemon:
            there = {"ORCHESTRATOR_SERVER": daemon.url}
            rollout = (await daemon.post_rollout()).json()["id"]
            async with started("rollout", "watch", rollout, cwd=tmp_path, env=there) as watching:
                said = Said(watching)
                await said.until("6 done")  # it is connected
                await until(lambda: len(hook.asked) == 1)
                daemon.kill()
                await said.until("connection lost, trying again: ")
                await daemon.start()
                await said.until("connected again")
                [kept] = json.loads(await here(daemon, "notifications", "list", "--json"))
                assert (kept["state"], kept["attempts"]) == ("pending", 1)
                # The daemon would come to it by itself when it can be sure that nobody else is at it.
                assert "1 notification will be sent again" in await here(daemon, "notifications", "retry", kept["id"])
                assert kept["id"] in await here(daemon, "notifications", "list", "--state", "pending")
                held.set()
                gate.touch()
                await said.until("6 of 6 done")
            assert (await daemon.ended(rollout))["state"] == "succeeded"

            async def told() -> bool:
                listed = await daemon.call("GET", "/api/v1/notifications?state=delivered")
                return len(listed.json()["items"]) == 2

            await until(told)
            metrics = (await daemon.call("GET", "/metrics")).text
            log = json.dumps(daemon.log)
    assert "Traceback" not in said.text
    bodies = [json.loads(asked.body) for asked in hook.asked]
    assert [body["type"] for body in bodies] == ["rollout_started", "rollout_started", "rollout_finished"]
    assert bodies[0] == bodies[1]
    for asked in hook.asked:
        headers = {name.lower(): value for name, value in asked.headers.items()}
        assert verified(SECRET, headers, asked.body.encode(), now().timestamp())
    assert 'orchestrator_notifications_total{channel="ops",kind="rollout_finished",result="delivered"} 1.0' in metrics
    assert not any(secret in log + metrics + said.text for secret in environ.values())
