"""The main job against a tool that knows nothing but SQL files: dbmate, where npm is there to bring it."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread

from orchestrator.databases.embedded import EmbeddedServer, create_databases
from orchestrator.history import compile as compiler
from orchestrator.history.jobs import CompileJob
from orchestrator.history.revisions import History
from orchestrator.history.scripts import read
from orchestrator.plan.compiled import Mark, Rendering
from orchestrator.plan.statements import terminated
from orchestrator.plan.steps import Planner
from tests import engine, environments
from tests.benchmarks import rollout
from tests.servers import drop_databases

VERSION = "2.36.0"
INSTALL_SECONDS = 180


@dataclass(frozen=True)
class Result:
    """Seconds for all targets."""

    ours: float
    dbmate: float


class NotMeasuredError(Exception):
    """The tool is not to be had here; why, in words."""


async def measure(server: EmbeddedServer, folder: Path, config: Path, targets: int) -> Result:
    """Ours, dbmate, ours again, as in `rollout.measure`. Raises NotMeasuredError."""
    program = await anyio.to_thread.run_sync(installed, folder / "dbmate")
    migrations = written(folder / "dbmate" / "migrations", config)
    batches = [[f"dbmate_{batch}_{number:04}" for number in range(targets)] for batch in range(3)]
    for names in batches:
        await create_databases(server, names)
    first = await rollout.ours(server, folder / "dbmate_1.db", config, batches[0], "head")
    theirs = await anyio.to_thread.run_sync(by_dbmate, server, program, migrations, batches[1])
    second = await rollout.ours(server, folder / "dbmate_2.db", config, batches[2], "head")
    for name in (batches[1][0], batches[1][-1]):
        applied = await engine.fetch(server, name, "SELECT count(*) FROM schema_migrations")
        assert applied == [(len(list(migrations.iterdir())),)]
    for names in batches:
        await drop_databases(server, names)
    return Result((first + second) / 2, theirs)


def installed(folder: Path) -> Path:
    """dbmate's program, brought into this folder by npm: it lies in a package of its own for each kind of machine.
    npm's own command would start Node first. Raises NotMeasuredError."""
    npm = shutil.which("npm")
    if npm is None:
        raise NotMeasuredError("npm is missing")
    folder.mkdir()
    quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    command = [npm, "install", "--prefix", str(folder), "--cache", str(folder / "cache"), *quiet, f"dbmate@{VERSION}"]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_SECONDS)
    except (subprocess.SubprocessError, OSError):  # what npm says may hold addresses
        raise NotMeasuredError(f"npm could not bring dbmate {VERSION}") from None
    program = next(folder.glob("node_modules/@dbmate/*/bin/dbmate"), None)
    if program is None:
        raise NotMeasuredError(f"dbmate {VERSION} has no program for this kind of machine")
    return program


def written(folder: Path, config: Path) -> Path:
    """The revisions as SQL files, one each; their folder."""
    folder.mkdir()
    for number, step in enumerate(_rendered(config).steps):
        assert step.reason is None, step.reason
        sql = "\n".join(terminated(item) for item in step.items if not isinstance(item, Mark))
        file = folder / f"{number + 1:014}_{step.revision}.sql"
        file.write_text(f"-- migrate:up\n{sql}\n\n-- migrate:down\n")
    return folder


def _rendered(config: Path) -> Rendering:
    track = environments.track_of(config)
    snapshot, directory = read(track)
    history = History(track, snapshot)
    plan = Planner(history, history.resolve("head")).plan(None)
    place = ("postgresql", "alembic_version", None, "postgresql+asyncpg://u@h/d")
    return compiler.render(CompileJob(track, history.digest, "acme", plan, *place), directory)


def by_dbmate(server: EmbeddedServer, program: Path, migrations: Path, names: Sequence[str]) -> float:
    """Once for each database, four at a time."""
    urls = "\n".join(f"{server.url(name)}?sslmode=disable" for name in names)
    dbmate = [str(program), "--url", "{}", "--migrations-dir", str(migrations), "--no-dump-schema", "migrate"]
    began = time.perf_counter()
    subprocess.run(
        ["xargs", "-P4", "-I{}", *dbmate],
        input=urls,
        text=True,
        check=True,
        cwd=migrations,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - began
