"""The systemd unit's command line, under the unit's user and with the folders that it may see and write to."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx2 as httpx
import pytest

from orchestrator.databases.binaries import NOBODY
from orchestrator.databases.embedded import Server
from orchestrator.service.daemon import CLOSING_SECONDS, HARD_EXIT_SECONDS
from orchestrator.settings import Settings
from tests import environments, units
from tests.daemon import write_registry
from tests.engine import until
from tests.integration.deploy import confine
from tests.servers import MakeDatabases

ROOT = Path(__file__).parents[3]
UNIT = units.read((ROOT / "deploy" / "systemd" / "orchestrator.service").read_text())
ETC = UNIT.one("WorkingDirectory")
STATE = f"/var/lib/{UNIT.one('StateDirectory')}"


@dataclass
class Service:
    process: subprocess.Popen[bytes]
    state: Path
    registry: Path
    log: list[dict[str, Any]] = field(default_factory=list)

    def said(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.log if line.get("event") == event]

    def read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            try:
                self.log.append(json.loads(line))
            except ValueError:
                self.log.append({"event": line.decode().rstrip()})

    def listens(self) -> bool:
        code = self.process.poll()
        if code == confine.UNABLE:
            pytest.skip("this machine lets nobody make a mount namespace")
        assert code is None, self.log
        return bool(self.said("listening"))

    def told(self, file: str, between: str) -> dict[str, str]:
        lines = Path(f"/proc/{self.process.pid}/{file}").read_text().splitlines()
        return {name: value.strip() for name, found, value in (line.partition(between) for line in lines) if found}

    def writable(self) -> set[str]:
        """Where it may write: what is mounted so, as it sees its folders."""
        mounts = [line.split() for line in Path(f"/proc/{self.process.pid}/mountinfo").read_text().splitlines()]
        return {mount[4] for mount in mounts if "ro" not in mount[5].split(",")}

    async def call(self, method: str, path: str, **options: Any) -> Any:
        async with httpx.AsyncClient(base_url=self.said("listening")[0]["url"], timeout=30) as client:
            answer = await client.request(method, path, **options)
        assert answer.status_code < 300, (answer.text, self.log[-20:])
        return answer.json()


@pytest.fixture
async def service(pg: Server, make_databases: MakeDatabases, tmp_path: Path) -> AsyncIterator[Service]:
    if os.geteuid() != 0:
        pytest.skip("only root may take on another user")
    etc, state = tmp_path / "etc", tmp_path / "state"
    etc.mkdir()
    state.mkdir(mode=int(UNIT.one("StateDirectoryMode"), 8))
    os.chown(state, NOBODY, NOBODY)
    folder = environments.make_project(etc).parent
    environments.add_revision(folder, "r1", None, "op.execute('CREATE TABLE t (id int)')")
    tracks = {"app": {"script_location": "alembic"}}
    registry, secrets = write_registry(etc, pg, await make_databases(2), tracks)
    # As an administrator writes it; the port is the test's, since another may use the unit's.
    written = {**secrets, "ORCHESTRATOR_PORT": "0"}
    (etc / "orchestrator.env").write_text("".join(f"{name}={value}\n" for name, value in written.items()))
    started = Service(launched(etc, state), state, registry)
    reader = threading.Thread(target=started.read, daemon=True)
    reader.start()
    try:
        await until(started.listens)
        yield started
    finally:
        with anyio.CancelScope(shield=True):
            started.process.send_signal(signal.SIGTERM)
            await anyio.to_thread.run_sync(started.process.wait)
        reader.join()
        assert started.process.stderr is not None
        started.process.stderr.close()


def launched(etc: Path, state: Path) -> subprocess.Popen[bytes]:
    """The unit's command, as systemd would start it. Its installation is this checkout's environment."""
    program = UNIT.command[0]
    assert UNIT.one("EnvironmentFile").lstrip("-") == f"{ETC}/orchestrator.env"
    given = units.environment_file((etc / "orchestrator.env").read_text())
    installation = str(Path(program).parent.parent)
    needed = {str(ROOT), sys.prefix, sys.base_prefix}
    hidden = [path for path in ("/root", "/home", "/tmp") if os.path.isdir(path)]
    wanted = {
        "command": UNIT.command,
        "environ": {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8", **UNIT.environment, **given},
        "uid": NOBODY,
        "cwd": ETC,
        "umask": int(UNIT.one("UMask"), 8),
        "folders": {ETC: str(etc), installation: sys.prefix},
        "writable": {STATE: str(state)},
        "hidden": hidden,
        "needed": sorted(needed),
    }
    return subprocess.Popen(
        [sys.executable, "-I", confine.__file__, json.dumps(wanted)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


async def test_the_units_command_works_as_another_user_and_writes_to_its_state_directory_alone(
    service: Service,
) -> None:
    """It migrates, takes a changed registry when it is told to reload, and ends well when it is stopped."""
    assert (await service.call("GET", "/readyz"))["status"] == "ready"
    assert await healthy(service)
    rollout = await service.call("POST", "/api/v1/rollouts", json={"track": "app", "to": "head"})

    async def succeeded() -> bool:
        found = await service.call("GET", f"/api/v1/rollouts/{rollout['id']}")
        assert found["state"] not in ("failed", "aborted", "paused"), found
        return bool(found["state"] == "succeeded")

    await until(succeeded)
    store = service.state / Path(UNIT.environment["ORCHESTRATOR_STORE_URL"]).name
    assert (store.stat().st_uid, store.stat().st_mode & 0o077) == (NOBODY, 0)
    status = service.told("status", ":")
    assert status["Uid"].split() == [str(NOBODY)] * 4
    assert (status["NoNewPrivs"], int(status["CapEff"], 16)) == ("1", 0)
    assert service.writable() == {STATE, "/tmp"}

    service.registry.write_text(service.registry.read_text().replace("t000", "t009"))
    kill, number, _ = UNIT.one("ExecReload").split()
    assert shutil.which(kill)
    service.process.send_signal(getattr(signal, f"SIG{number.lstrip('-')}"))

    async def taken() -> bool:
        listed = await service.call("GET", "/api/v1/tenants")
        return "t009" in {tenant["tenant"] for tenant in listed["items"]}

    await until(taken)
    service.process.send_signal(signal.SIGTERM)
    with anyio.fail_after(90):
        assert await anyio.to_thread.run_sync(service.process.wait) == 0
    assert not await healthy(service)


async def healthy(service: Service) -> bool:
    """What the image's health check says of it."""
    port = str(urlsplit(service.said("listening")[0]["url"]).port)
    check = [sys.executable, str(ROOT / "deploy" / "healthcheck.py")]
    done = await anyio.run_process(check, check=False, env={"ORCHESTRATOR_PORT": port})
    return done.returncode == 0


def test_the_unit_gives_what_runs_its_time() -> None:
    grace = float(UNIT.environment["ORCHESTRATOR_SHUTDOWN_GRACE_SECONDS"])
    assert units.seconds(UNIT.one("TimeoutStopSec")) > grace + HARD_EXIT_SECONDS + CLOSING_SECONDS
    names = {f"ORCHESTRATOR_{name.upper()}" for name in Settings.model_fields}
    assert {name for name in UNIT.environment if name.startswith("ORCHESTRATOR_")} <= names
