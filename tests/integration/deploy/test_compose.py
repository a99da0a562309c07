"""The sample of compose.yaml without its containers: its databases, its registry, and what its services run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import asyncpg
import yaml

from orchestrator.databases.embedded import EmbeddedServer
from tests import command

DEPLOY = Path(__file__).parents[3] / "deploy"
SERVICES: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]


async def make(server: EmbeddedServer, shard: str) -> int:
    """What the image of PostgreSQL does with the sample's SQL when it starts first."""
    [file] = [DEPLOY / volume.split(":")[0] for volume in SERVICES[shard]["volumes"] if "initdb" in volume]
    lines = "".join(path.read_text() for path in file.glob("*.sql")).splitlines()
    statements = [line for line in lines if line and not line.startswith("--")]
    connection = await asyncpg.connect(server.url("postgres"))
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()
    return len(statements)


async def test_the_samples_tenants_are_found_and_migrated(tmp_path: Path) -> None:
    registry = (DEPLOY / "compose" / "registry" / "tenants.yaml").read_text()
    environ: dict[str, str] = {}
    async with EmbeddedServer(name="a") as first, EmbeddedServer(name="b") as second:
        made = 0
        for shard, server in (("shard-a", first), ("shard-b", second)):
            made += await make(server, shard)
            place, name = f"${{PG_PASSWORD}}@{shard}:5432", f"PASSWORD_{server.name.upper()}"
            assert place in registry
            registry = registry.replace(place, f"${{{name}}}@{server.host}:{server.port}")
            environ[name] = urlsplit(server.url("")).password or ""
        sources = [
            volume.split(":")[0] for volume in SERVICES["orchestrator"]["volumes"] if "/srv/migrations" in volume
        ]
        (tmp_path / "tenants.yaml").write_text(
            registry.replace("/srv/migrations", str((DEPLOY / sources[0]).resolve()))
        )
        wanted = SERVICES["first-rollout"]["command"]
        strategy = wanted[wanted.index("--strategy") + 1]
        done = await command.run("migrate", "--strategy", strategy, "--json", cwd=tmp_path, env=environ)
    assert done.code == 0, done.err
    ended = json.loads(done.out)
    assert (ended["state"], ended["total"], ended["counts"]["succeeded"]) == ("succeeded", made, made)
    assert made == 12


async def test_the_first_token_is_made_once_and_the_command_line_takes_it(tmp_path: Path) -> None:
    tools, home = tmp_path / "tools", tmp_path / "home"
    tools.mkdir()
    home.mkdir()
    (tools / "orchestrator").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m orchestrator "$@"\n')
    (tools / "orchestrator").chmod(0o755)
    ours = {"ORCHESTRATOR_STORE_URL": f"sqlite:///{tmp_path}/store.db", "PATH": f"{tools}:{os.environ['PATH']}"}

    async def run(service: str) -> subprocess.CompletedProcess[bytes]:
        found = SERVICES[service]
        words = [*found["entrypoint"], *found["command"]]
        here = [word.replace("$$", "$").replace("/var/lib/orchestrator", str(home)) for word in words]
        return await anyio.run_process(here, check=False, env=command.environ(ours))

    for _ in range(2):
        done = await run("token")
        assert done.returncode == 0, done.stderr
        token = (home / "token").read_text().strip()
        assert token.startswith("orc_")
        assert (home / "token").stat().st_mode & 0o077 == 0
        assert [one.name for one in home.iterdir()] == ["token"]
    assert len(json.loads((await command.run("token", "list", "--json", cwd=tmp_path, env=ours)).out)) == 1

    (tools / "orchestrator").write_text('#!/bin/sh\necho "$ORCHESTRATOR_TOKEN $*"\n')
    for service in ("cli", "first-rollout"):
        assert (await run(service)).stdout.decode() == f"{token} {' '.join(SERVICES[service]['command'])}\n"
