"""kill -9 at random points of a rollout in waves, with failures in it: on its way, in a retry, and on the way back."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
import yaml

from orchestrator.databases.embedded import Server
from tests import engine, environments
from tests.daemon import ENDED, Daemon, write_registry
from tests.servers import MakeDatabases

REVISIONS = ["one", "two", "three"]
SOAK = os.environ.get("SOAK")
KILLS, TARGETS = (20, 90) if SOAK else (3, 20)  # kills on the way, and again on the way back
BROKEN = (7, 11, 12)
SLEEP = "time.sleep(random.uniform(0, 0.7))"
WAVES = [
    {"name": "canary", "select": "canary=true", "soak": "1s"},
    {"name": "third", "percent": 30, "approval": True},
    {"name": "everyone"},
]


async def _heads(pg: Server, databases: Sequence[str]) -> list[list[str]]:
    found = []
    for database in databases:
        tables = await engine.fetch(pg, database, "SELECT 1 FROM pg_class WHERE relname = 'alembic_version'")
        rows = await engine.fetch(pg, database, "SELECT version_num FROM alembic_version") if tables else []
        found.append([row[0] for row in rows])
    return found


class Operator:
    """Lets a rollout go on whatever it waits for, and kills its daemon now and then."""

    def __init__(self, daemon: Daemon, rollout: str, pg: Server, databases: Sequence[str]) -> None:
        self.daemon, self.rollout, self.pg, self.databases = daemon, rollout, pg, databases
        self.drawn = random.Random(11)
        self.in_the_middle = 0

    async def finish(self, kills: int) -> dict[str, Any]:
        """The rollout at its end, after so many kills."""
        while True:
            await anyio.sleep(self.drawn.uniform(0.2, 1.6))
            found = await self.daemon.rollout(self.rollout)
            await self._look(found)
            if found["state"] in ENDED:
                assert not kills, "the rollout ended before it was killed often enough: make it longer"
                return found
            await self._let_go_on(found)
            if not found["counts"]["running"] and self.drawn.random() < 0.7:
                continue  # most kills are to hit migrations, however long the daemon takes to start them
            if kills:
                self.in_the_middle += found["counts"]["running"] > 0
                self.daemon.kill()
                kills -= 1
                await self.daemon.start()

    async def _look(self, found: dict[str, Any]) -> None:
        assert sum(found["counts"].values()) == found["total"] == len(self.databases)
        assert sum(wave["total"] for wave in found["waves"]) == found["total"]
        closed = next((n for n, wave in enumerate(found["waves"]) if wave["state"] != "passed"), len(WAVES))
        for wave in found["waves"][closed + 1 :]:
            assert wave["counts"]["pending"] + wave["counts"]["cancelled"] == wave["total"], found

    async def _let_go_on(self, found: dict[str, Any]) -> None:
        commands = {"paused": "resume", "awaiting_approval": "approve"}
        if command := commands.get(found["state"]):
            answer = await self.daemon.call("POST", f"/api/v1/rollouts/{self.rollout}/{command}")
            assert answer.status_code in (200, 409), answer.text


@pytest.mark.soak
@pytest.mark.timeout(3600 if SOAK else 300)
async def test_waves_that_are_killed_again_and_again_forget_nothing_and_go_back_exactly(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    environments.make_project(project)
    environments.add_tables(project, REVISIONS, before_each=SLEEP)
    slow = f"def downgrade() -> None:\n    {SLEEP}\n"
    for file in (project / "alembic" / "versions").glob("*.py"):
        file.write_text(file.read_text().replace("def downgrade() -> None:\n", slow))
    env = project / "alembic" / "env.py"
    alone = "target_metadata=target_metadata, transaction_per_migration=True"
    env.write_text(env.read_text().replace("target_metadata=target_metadata", alone))
    databases = await make_databases(TARGETS)
    for number in BROKEN:  # the second revision fails there, and the first one stays
        await engine.provision(pg, databases[number])
        await engine.execute(pg, databases[number], "CREATE TABLE two (id int)")
    config, environ = write_registry(
        tmp_path, pg, databases, {"app": {"config": "project/alembic.ini"}}, max_concurrent=3
    )
    _in_waves(config)
    daemon = Daemon(config, f"sqlite:///{tmp_path}/store.db", environ)
    await daemon.start()
    rollout = (await daemon.post_rollout(strategy="canary")).json()["id"]
    operator = Operator(daemon, rollout, pg, databases)

    failed = await operator.finish(KILLS)
    assert failed["state"] == "failed"
    assert failed["counts"]["failed"] == len(BROKEN)
    assert [group["count"] for group in failed["failures"]] == [len(BROKEN)]
    heads = await _heads(pg, databases)
    assert heads == [["one"] if number in BROKEN else ["three"] for number in range(TARGETS)]

    for number in BROKEN[:2]:
        await engine.execute(pg, databases[number], "DROP TABLE two")
    await daemon.call("POST", f"/api/v1/rollouts/{rollout}/retry")
    again = await operator.finish(0)
    assert (again["state"], again["counts"]["failed"]) == ("failed", 1)
    for number, database in enumerate(databases):
        applied = await engine.fetch(pg, database, "SELECT revision, count(*) FROM applied GROUP BY 1")
        assert dict(applied) == dict.fromkeys(REVISIONS[:1] if number == BROKEN[2] else REVISIONS, 1), number

    answer = await daemon.call("POST", f"/api/v1/rollouts/{rollout}/rollback")
    assert answer.status_code == 200, answer.text
    back = await operator.finish(KILLS)
    assert (back["state"], back["counts"]["rolled_back"]) == ("rolled_back", TARGETS)
    assert await _heads(pg, databases) == [[]] * TARGETS
    assert operator.in_the_middle >= KILLS, "most kills must hit running migrations"
    await daemon.stop()


def _in_waves(config: Path) -> None:
    content = yaml.safe_load(config.read_text())
    for tenant in content["tenants"][:4]:
        tenant["labels"] = {"canary": "true"}
    strategy = {"waves": WAVES, "on_failure": {"max": "50%", "same_signature": 2}}
    config.write_text(yaml.safe_dump({**content, "strategies": {"canary": strategy}}))
