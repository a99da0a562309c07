"""The daemon as a process of its own, as people run it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import anyio
import anyio.to_thread
import httpx2 as httpx
import yaml

from orchestrator.databases.embedded import Server
from tests import command, forked_command, forking
from tests.engine import until

ENDED = ("succeeded", "failed", "aborted", "rolled_back")


@dataclass
class Daemon:
    """`orchestrator serve` on a free port. Its log lines are kept in `log`, as the values they hold."""

    config: Path
    store: str
    environ: dict[str, str] = field(default_factory=dict)
    flags: Sequence[str] = ()
    log: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""
    fresh: bool = False  # started as people start it, so that its command line is theirs

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        self._spawn()
        await until(self._announced)

    def _spawn(self) -> None:
        arguments = ["serve", "--config", str(self.config), "--port", "0", *self.flags]
        ours = {"ORCHESTRATOR_STORE_URL": self.store, "ORCHESTRATOR_LOG_FORMAT": "json"}
        read, write = os.pipe()
        with open(os.devnull, "r+") as null:
            streams = {"stdin": null.fileno(), "stdout": null.fileno(), "stderr": write}
            environ = {**os.environ, **self.environ, **ours}
            self._process = self._started(arguments, environ, **streams)
        os.close(write)
        self._told = open(read)  # noqa: SIM115
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._listening = len(self.log)
        self._reader.start()

    def _started(
        self, arguments: Sequence[str], env: Mapping[str, str], stdin: int, stdout: int, stderr: int
    ) -> subprocess.Popen[bytes] | forking.Forked:
        if self.fresh:
            return subprocess.Popen(command.command(arguments), env=env, stdin=stdin, stdout=stdout, stderr=stderr)
        return forked_command.start(arguments, cwd=Path.cwd(), env=env, stdin=stdin, stdout=stdout, stderr=stderr)

    def _read(self) -> None:
        for line in self._told:
            try:
                self.log.append(json.loads(line))
            except ValueError:
                self.log.append({"event": line.rstrip()})

    def _announced(self) -> bool:
        if self._process.poll() is not None:
            self._close()
            raise AssertionError(f"the daemon ended with {self._process.returncode}: {self.log[-20:]}")
        said = [line for line in self.log[self._listening :] if line.get("event") == "listening"]
        self.url = said[0]["url"] if said else ""
        return bool(said)

    @property
    def pid(self) -> int:
        return self._process.pid

    def hang_up(self) -> None:
        self._process.send_signal(signal.SIGHUP)

    def kill(self) -> None:
        """As a crash: no time to say anything."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._close()

    def freeze(self) -> None:
        """As a machine that is paused: it does nothing, and its sessions stay open."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    async def exit_code(self) -> int:
        """Its exit code, once it has ended by itself."""
        with anyio.fail_after(60):
            code = await anyio.to_thread.run_sync(self._process.wait)
        self._close()
        return code

    def said(self, event: str) -> list[dict[str, Any]]:
        """Its log lines of that name since it was started last."""
        return [line for line in self.log[self._listening :] if line.get("event") == event]

    async def tells(self, event: str) -> list[dict[str, Any]]:
        """Its log lines of that name, once there are any: they come another way than its answers, and may be later."""
        await until(lambda: bool(self.said(event)))
        return self.said(event)

    async def stop(self) -> int:
        """SIGTERM, and its exit code."""
        if self._process.poll() is None:
            self.thaw()
            self._process.send_signal(signal.SIGTERM)
        return await self.exit_code()

    def _close(self) -> None:
        self._reader.join()
        self._told.close()

    async def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        async with httpx.AsyncClient(base_url=self.url, timeout=30) as client:
            try:
                return await client.request(method, path, **options)
            except httpx.TransportError as exc:
                code = self._process.poll()
                raise AssertionError(f"the daemon (exit code {code}) does not answer: {self.log[-20:]}") from exc

    async def post_rollout(self, **body: Any) -> httpx.Response:
        return await self.call("POST", "/api/v1/rollouts", json={"track": "app", "to": "head", **body})

    async def rollout(self, rollout_id: str) -> dict[str, Any]:
        response = await self.call("GET", f"/api/v1/rollouts/{rollout_id}")
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    async def ended(self, rollout_id: str, seconds: float = 120) -> dict[str, Any]:
        """The rollout once it has ended."""

        async def over() -> bool:
            return (await self.rollout(rollout_id))["state"] in ENDED

        await until(over, seconds)
        return await self.rollout(rollout_id)


def write_registry(
    folder: Path, server: Server, databases: Sequence[str], tracks: dict[str, Any], **shard: Any
) -> tuple[Path, dict[str, str]]:
    """A registry file with one tenant for each database, on one shard; and the variables that hold its secret."""
    head, rest = server.url("").rstrip("/").split("://", 1)
    user, place = rest.rsplit("@", 1)
    name, password = user.split(":", 1)
    content = {
        "tracks": tracks,
        "shards": {"pg": {"url": f"{head}://{name}:${{PG_PASSWORD}}@{place}", **shard}},
        "tenants": [
            {
                "id": f"t{number:03}",
                "databases": {track: {"shard": "pg", "database": database} for track in [*tracks][:1]},
            }
            for number, database in enumerate(databases)
        ],
    }
    file = folder / "tenants.yaml"
    file.write_text(yaml.safe_dump(content))
    return file, {"PG_PASSWORD": password}
