"""A server that stops answering without closing a connection: a machine that hangs, a network that swallows."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from orchestrator.databases import watching
from orchestrator.databases.embedded import EmbeddedServer, create_databases
from orchestrator.registry.model import Execution, Target
from tests import engine, environments
from tests.engine import until
from tests.processes import family, frozen

proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found through /proc")


@proc
@pytest.mark.timeout(240)
@pytest.mark.parametrize("execution", ["online", "replay"])
async def test_a_server_that_freezes_in_the_middle_costs_its_own_targets_and_no_others(
    execution: Execution, pg: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.retry_quickly(monkeypatch)
    monkeypatch.setattr(watching, "ABANDON_SECONDS", 3.0)
    config = environments.make_project(tmp_path / "project")
    environments.add_tables(tmp_path / "project", ["alpha"])
    environments.add_revision(tmp_path / "project", "slow", "alpha", 'op.execute("SELECT pg_sleep(3)")')
    async with EmbeddedServer(name="freezes") as other:
        names = {"pg": [f"still_{execution}_{n}" for n in range(3)], "other": [f"frozen_{n}" for n in range(3)]}
        for shard, server in (("pg", pg), ("other", other)):
            await create_databases(server, names[shard])
        shards = [engine.shard_of(pg, "pg"), engine.shard_of(other, "other")]
        targets = [Target(name, "app", shard, name) for shard in names for name in names[shard]]
        track = environments.track_of(config, execution=execution)
        registry = engine.registry_of([track], shards, targets)
        async with engine.running(registry, connect_timeout_seconds=1.0) as running:
            view, _ = await running.service.start_rollout(engine.head())
            await until(lambda: _all_sleep(other, names["other"]))
            with frozen(*family(other.pid)), anyio.fail_after(120):
                await running.service.finished(view.rollout.id)
            after = await running.service.rollout(view.rollout.id)
            assert after.counts == {"succeeded": 3, "unreachable": 3}, after.failures
            await until(lambda: _free(other, names["other"]))
            await running.service.retry(view.rollout.id, by="test")
            await running.service.finished(view.rollout.id)
            assert (await running.service.rollout(view.rollout.id)).counts == {"succeeded": 6}
        for name in names["other"]:
            assert await engine.fetch(other, name, "SELECT count(*) FROM applied") == [(1,)]
        await engine.execute(pg, "postgres", *(f'DROP DATABASE "{name}" WITH (FORCE)' for name in names["pg"]))


async def _all_sleep(server: EmbeddedServer, databases: list[str]) -> bool:
    query = "SELECT 1 FROM pg_stat_activity WHERE datname = ANY($1) AND wait_event = 'PgSleep' AND state = 'active'"
    return len(await engine.fetch(server, "postgres", query, databases)) == len(databases)


async def _free(server: EmbeddedServer, databases: list[str]) -> bool:
    query = "SELECT 1 FROM pg_stat_activity WHERE datname = ANY($1::text[])"
    return not await engine.fetch(server, "postgres", query, databases)
