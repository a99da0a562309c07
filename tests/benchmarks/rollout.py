"""The main job against the tool that everybody has."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread
from alembic.config import Config
from alembic.script import ScriptDirectory

from orchestrator.databases.embedded import EmbeddedServer, create_databases
from orchestrator.registry.model import Track
from tests import engine, environments
from tests.servers import drop_databases

# The command line has no other way to say which database.
URL_BY_ARGUMENT = """config = context.config
if "url" in context.get_x_argument(as_dictionary=True):
    config.set_main_option("sqlalchemy.url", context.get_x_argument(as_dictionary=True)["url"].replace("%", "%%"))
"""


@dataclass(frozen=True)
class Result:
    """Seconds for all targets."""

    ours: float
    command_line: float
    revisions: int


def ten_revisions(folder: Path) -> Path:
    """Alembic's asynchronous template with ten revisions, each a table with an index; its configuration file."""
    config = environments.make_project(folder, "async")
    for number in range(10):
        body = f"""
        op.create_table("t{number}", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.Text))
        op.create_index("ix_t{number}_name", "t{number}", ["name"])
        """
        environments.add_revision(folder, f"r{number}", f"r{number - 1}" if number else None, body)
    env = folder / "alembic" / "env.py"
    url = (
        'config.set_main_option("sqlalchemy.url", context.get_x_argument(as_dictionary=True)["url"].replace("%", "%%"))'
    )
    given = f'config = context.config\nif "url" in context.get_x_argument(as_dictionary=True):\n    {url}\n'
    env.write_text(env.read_text().replace("config = context.config\n", given, 1))
    return config


async def measure(server: EmbeddedServer, folder: Path, config: Path, targets: int, to: str = "head") -> Result:
    """Ours, the command line, ours again: the mean of ours meets a machine that drifts half way."""
    label = config.parent.name.replace("-", "_")
    batches = [[f"{label}_{batch}_{number:04}" for number in range(targets)] for batch in range(3)]
    for names in batches:
        await create_databases(server, names)
    first = await ours(server, folder / f"{label}_1.db", config, batches[0], to)
    command_line = await anyio.to_thread.run_sync(by_command_line, server, config, batches[1], to)
    second = await ours(server, folder / f"{label}_2.db", config, batches[2], to)
    for names in batches:
        await drop_databases(server, names)
    revisions = len(list(ScriptDirectory.from_config(Config(str(config))).iterate_revisions(to, "base")))
    return Result((first + second) / 2, command_line, revisions)


async def ours(server: EmbeddedServer, store: Path, config: Path, names: Sequence[str], to: str) -> float:
    """Through the whole product: registry, store on disk, locks, ledger, metrics; as in a daemon that has started,
    which looks at its fleet first."""
    track = Track("app", config=config, execution="auto")
    registry = engine.registry_of([track], [engine.shard_of(server)], engine.targets_of(names))
    async with engine.running(registry, store_url=f"sqlite:///{store}") as running:
        await running.service.survey.once()
        began = time.perf_counter()
        view = await running.rollout(to)
        seconds = time.perf_counter() - began
    assert view.counts == {"succeeded": len(names)}, view.failures
    return seconds


def by_command_line(server: EmbeddedServer, config: Path, names: Sequence[str], to: str) -> float:
    """`alembic upgrade` once for each database, four at a time."""
    urls = "\n".join(server.url(name).replace("postgresql:", "postgresql+asyncpg:") for name in names)
    alembic = [sys.executable, "-m", "alembic", "-c", str(config)]
    began = time.perf_counter()
    subprocess.run(
        ["xargs", "-P4", "-I{}", *alembic, "-x", "url={}", "upgrade", to],
        input=urls,
        text=True,
        check=True,
        cwd=config.parent,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - began
