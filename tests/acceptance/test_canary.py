"""The canary strategy of the registry's example, with a bug in the release."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.databases.embedded import Server
from tests import engine, environments
from tests.command import Result, run
from tests.daemon import Daemon, write_registry
from tests.engine import until
from tests.servers import MakeDatabases

TENANTS, FEWER = 100, 40  # what 2 % allow is told apart from nothing only by many
CANARIES = 5
STRATEGY = {
    "max_concurrent": 32,
    "on_failure": {"max": "2%", "then": "pause"},
    "waves": [
        {"name": "canary", "select": "canary=true", "soak": "1s", "max_failures": 0},
        {"name": "tenth", "percent": 10, "approval": True},
        {"name": "everyone"},
    ],
}


@asynccontextmanager
async def _fleet(folder: Path, pg: Server, databases: Sequence[str]) -> AsyncIterator[Daemon]:
    environments.make_project(folder / "project")
    environments.add_tables(folder / "project", ["orders", "invoices"])
    config, environ = write_registry(folder, pg, databases, {"app": {"config": "project/alembic.ini"}})
    content = yaml.safe_load(config.read_text())
    for tenant in content["tenants"][:CANARIES]:
        tenant["labels"] = {"canary": "true"}
    config.write_text(yaml.safe_dump({**content, "strategies": {"canary": STRATEGY}}))
    async with Daemon(config, f"sqlite:///{folder}/store.db", environ) as daemon:
        yield daemon


async def _break(pg: Server, databases: Sequence[str]) -> None:
    for database in databases:
        await engine.provision(pg, database)
        await engine.execute(pg, database, "CREATE TABLE invoices (id int)")


async def _waits(daemon: Daemon, rollout: str, state: str, **counts: int) -> dict[str, Any]:
    """The rollout once it is in this state, with these counts: what runs when it pauses goes on to its end."""

    async def there() -> bool:
        found = await daemon.rollout(rollout)
        return bool(found["state"] == state and counts.items() <= found["counts"].items())

    await until(there, seconds=120)
    return await daemon.rollout(rollout)


async def _cli(daemon: Daemon, *arguments: str) -> Result:
    return await run("rollout", *arguments, "--server", daemon.url, cwd=daemon.config.parent)


async def _begun(pg: Server, databases: Sequence[str]) -> list[bool]:
    asked = "SELECT 1 FROM pg_class WHERE relname = 'applied'"
    return [bool(await engine.fetch(pg, database, asked)) for database in databases]


@pytest.mark.timeout(600)
async def test_a_bug_that_hits_everybody_stops_within_the_canary(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    databases = await make_databases(FEWER)
    await _break(pg, databases)
    async with _fleet(tmp_path, pg, databases) as daemon:
        rollout = (await daemon.post_rollout(strategy="canary")).json()["id"]
        paused = await _waits(daemon, rollout, "paused", running=0)
        assert 0 < paused["counts"]["failed"] <= CANARIES
        assert paused["counts"]["failed"] + paused["counts"]["pending"] == FEWER
        assert paused["reason"].startswith("wave canary: ")
        said = await _cli(daemon, "show", rollout)
        assert f"1 cause, {paused['counts']['failed']} tenant" in said.out
        for database in databases:
            await engine.execute(pg, database, "DROP TABLE invoices")
        await daemon.call("POST", f"/api/v1/rollouts/{rollout}/retry")
        await _waits(daemon, rollout, "awaiting_approval")
        await daemon.call("POST", f"/api/v1/rollouts/{rollout}/approve", json={"wave": "tenth"})
        ended = await daemon.ended(rollout)
        assert (ended["state"], ended["counts"]["succeeded"]) == ("succeeded", FEWER)


@pytest.mark.timeout(600)
async def test_a_bug_that_hits_a_few_pauses_at_the_budget_and_a_resume_after_the_fix_finishes(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    databases = await make_databases(TENANTS)
    broken = databases[-5:]
    await _break(pg, broken)
    async with _fleet(tmp_path, pg, databases) as daemon:
        rollout = (await daemon.post_rollout(strategy="canary")).json()["id"]
        waiting = await _waits_for_a_person(daemon, rollout)
        while waiting["state"] == "paused":  # some of the five are in the tenth, where 2 % of ten is nobody
            assert waiting["reason"].startswith("wave tenth: ")
            await daemon.call("POST", f"/api/v1/rollouts/{rollout}/resume")
            waiting = await _waits_for_a_person(daemon, rollout)
        assert waiting["waiting"] == "waiting for approval after wave tenth"
        assert [wave["state"] for wave in waiting["waves"]] == ["passed", "waiting", "pending"]
        assert sum(await _begun(pg, databases)) == waiting["counts"]["succeeded"] <= CANARIES + 10
        approved = await _cli(daemon, "approve", rollout, "--wave", "tenth")
        assert approved.code == 0, approved.err
        paused = await _waits(daemon, rollout, "paused", running=0)
        assert paused["reason"].startswith("wave everyone: ")
        assert len(paused["failures"]) == 1
        for database in broken:
            await engine.execute(pg, database, "DROP TABLE invoices")
        said = (await _cli(daemon, "show", rollout)).out
        assert f"1 cause, {paused['counts']['failed']} tenants:" in said
        assert (await _cli(daemon, "retry", rollout)).code == 0
        ended = await daemon.ended(rollout)
        assert (ended["state"], ended["counts"]["succeeded"]) == ("succeeded", TENANTS)
        assert all(await _begun(pg, databases))


async def _waits_for_a_person(daemon: Daemon, rollout: str) -> dict[str, Any]:
    async def there() -> bool:
        found = await daemon.rollout(rollout)
        return found["state"] in ("paused", "awaiting_approval") and not found["counts"]["running"]

    await until(there, seconds=120)
    return await daemon.rollout(rollout)
