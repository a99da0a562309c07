"""Promise 1: concurrent Alembic, correctly."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import anyio.to_thread

from orchestrator.databases.embedded import Server
from tests import interleaving
from tests.servers import MakeDatabases

TARGETS = 100


async def _cases(pg: Server, make_databases: MakeDatabases, folder: Path, count: int) -> list[interleaving.Case]:
    interleaving.make_projects(folder)
    return interleaving.make_cases([pg.url(name) for name in await make_databases(count)])


async def test_a_hundred_targets_at_once_end_with_exactly_their_own_schema_and_heads(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    cases = await _cases(pg, make_databases, tmp_path, TARGETS)
    assert 5 < sum(case.fails for case in cases) < 50, "the draw must hold failures, and not only them"
    problems = await anyio.to_thread.run_sync(_run, tmp_path, cases, "on")
    assert problems == (0, "")


async def test_without_the_layer_the_same_targets_go_wrong(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    cases = await _cases(pg, make_databases, tmp_path, 24)
    status, problems = await anyio.to_thread.run_sync(_run, tmp_path, cases, "off")
    assert status != 0, "the layer is off and nothing went wrong: the test above proves nothing"
    assert "must have" in problems or "reported" in problems or problems == "hung"


def _run(folder: Path, cases: list[interleaving.Case], layer: str) -> tuple[int, str]:
    limit = 240 if layer == "on" else 10
    command = [sys.executable, "-m", "tests.interleaving", "--layer", layer, "--folder", str(folder)]
    try:
        done = subprocess.run(
            [*command, *(case.url for case in cases)],
            capture_output=True,
            text=True,
            timeout=limit,
        )
    except subprocess.TimeoutExpired:
        return -1, "hung"
    return done.returncode, done.stdout + (done.stderr if done.returncode not in (0, 1) else "")
