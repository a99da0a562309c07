"""Kill -9 anywhere in a backfill that must not be done twice: each row is changed exactly once."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import anyio.to_thread
import pytest

from tests.integration.backfills.conftest import ROOT, Make, Project

SOAK = os.environ.get("SOAK")
ROWS = 200_000 if SOAK else 40_000
KILLS = [("psycopg", 40), ("pymysql", 10)] if SOAK else [("psycopg", 10), ("pymysql", 4)]


def run_and_kill(project: Project, seed: int, kills: int) -> list[list[int]]:
    """What was seen at each kill: rows changed by the checkpoint, rows that are changed, rows that are not."""
    command = [sys.executable, "-m", "tests.integration.backfills.kills", str(project.config), str(seed), str(kills)]
    url = project.url.render_as_string(hide_password=False)
    ran = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"TEST_URL": url}, capture_output=True, text=True, timeout=240, check=False
    )
    assert ran.returncode == 0, ran.stderr
    answer = json.loads(ran.stdout.splitlines()[-1])
    assert answer["exit"] == 0, ran.stderr
    seen: list[list[int]] = answer["seen"]
    return seen


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("driver", "kills"), KILLS)
async def test_each_row_is_changed_once_however_often_it_is_killed(driver: str, kills: int, make_project: Make) -> None:
    project = await make_project(driver)
    project.numbers(ROWS)
    project.add("first", None, "pass")
    project.add("filled", "first", 'op.backfill("accounts", set_={"balance": "balance * 100"}, batch_size=100)')
    seen: list[list[int]] = []
    while len(seen) < kills:  # it may come to its end before it was killed often enough: then once more
        if seen:
            project.execute("UPDATE accounts SET balance = id", "DELETE FROM alembic_version_backfills")
            await project.downgrade("first")
        seen += await anyio.to_thread.run_sync(run_and_kill, project, len(seen), kills - len(seen))
        assert project.rows("SELECT count(*), sum(balance) - 100 * sum(id) FROM accounts") == [(ROWS, 0)]
    for changed, right, untouched in seen:
        assert (changed, changed + untouched) == (right, ROWS)
    assert len({changed for changed, _, _ in seen}) > kills / 2, "most were killed in the middle of the work"
