"""kill -9 at random moments: nothing lost, nothing twice, every target accounted for."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import anyio
import pytest

from orchestrator.databases.embedded import Server
from tests import engine, environments
from tests.daemon import ENDED, Daemon, write_registry
from tests.servers import MakeDatabases

REVISIONS = [f"step{number}" for number in range(5)]
# Kills and targets: whole for the soak.
SOAK = os.environ.get("SOAK")
TIMES = (60, 40) if SOAK else (3, 18)
LONG = (60, 100) if SOAK else (3, 18)  # replay goes on sooner after a kill


@pytest.mark.soak
@pytest.mark.timeout(3600 if SOAK else 300)
@pytest.mark.parametrize(
    ("isolation", "execution", "sleeps", "times"),
    [
        ("thread", "online", "time.sleep(random.uniform(0, 0.6))", TIMES),
        ("process", "online", "time.sleep(random.uniform(0, 0.6))", TIMES),
        ("thread", "replay", "op.execute('SELECT pg_sleep(random() * 0.6)')", LONG),
    ],
)
async def test_a_daemon_killed_again_and_again_applies_each_revision_once_on_every_target(
    isolation: str,
    execution: str,
    sleeps: str,
    times: tuple[int, int],
    pg: Server,
    make_databases: MakeDatabases,
    tmp_path: Path,
) -> None:
    wanted, targets = times
    project = tmp_path / "project"
    environments.make_project(project)
    environments.add_tables(project, REVISIONS, before_each=sleeps)
    track: dict[str, object] = {"config": "project/alembic.ini", "execution": execution}
    if isolation == "process":
        environments.read_url_from_environ(project)
        track |= {"isolation": "process", "environment": {"DATABASE_URL": "{url}"}}
    env = project / "alembic" / "env.py"
    alone = "target_metadata=target_metadata, transaction_per_migration=True"
    env.write_text(env.read_text().replace("target_metadata=target_metadata", alone))
    databases = await make_databases(targets)
    config, environ = write_registry(tmp_path, pg, databases, {"app": track}, max_concurrent=4)
    drawn = random.Random(4)
    daemon = Daemon(config, f"sqlite:///{tmp_path}/store.db", environ)
    await daemon.start()
    rollout = (await daemon.post_rollout()).json()["id"]
    in_the_middle = kills = 0
    while kills < wanted:
        await anyio.sleep(drawn.uniform(0.2, 1.6))
        state = await daemon.rollout(rollout)
        assert sum(state["counts"].values()) == state["total"] == targets
        assert state["state"] not in ENDED, "the rollout ended before it was killed often enough: make it longer"
        if not state["counts"]["running"] and drawn.random() < 0.7:
            continue  # most kills are to hit migrations, however long the daemon takes to start them
        daemon.kill()
        in_the_middle += state["counts"]["running"] > 0
        kills += 1
        await daemon.start()
    after = await daemon.ended(rollout)
    assert after["state"] == "succeeded", after
    assert after["counts"]["succeeded"] + after["counts"]["up_to_date"] == targets
    assert in_the_middle >= wanted // 2, "most kills must hit running migrations"
    await daemon.stop()
    told = Counter(line.get("tenant") for line in daemon.log if line["event"] == "migration_finished")
    assert set(told.values()) == {1}, "no end is told twice"
    counts = {state: n for state, n in after["counts"].items() if n}
    assert [line["counts"] for line in daemon.log if line["event"] == "rollout_finished"] == [counts]
    for database in databases:
        applied = await engine.fetch(pg, database, "SELECT revision, count(*) FROM applied GROUP BY 1 ORDER BY 1")
        assert applied == [(revision, 1) for revision in REVISIONS]
        assert await engine.fetch(pg, database, "SELECT version_num FROM alembic_version") == [(REVISIONS[-1],)]
