"""Histories that others wrote and ship in their packages, against what stock Alembic makes of them."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.databases.embedded import Server
from orchestrator.events import MigrationFinished, MigrationStarted
from orchestrator.registry.model import Track
from tests import engine
from tests.integration.foreign import fleets
from tests.integration.foreign.packaged import HISTORIES
from tests.mariadb import MakeMySQLDatabases, MySQLServer
from tests.servers import MakeDatabases

# mlflow's history takes a second for each: over fewer, but for the soak.
TENANTS = {"optuna": 20, "mlflow": 20} if os.environ.get("SOAK") else {"optuna": 8, "mlflow": 4}
AT_ONCE = 8
SERVERS = ["postgresql", "sqlite", "mariadb"]


# Where stock Alembic cannot bring the history to head either, and what the server says: every tenant ends as its does.
UNSUPPORTED = {("optuna", "mariadb"): "Key column 'step' doesn't exist in table"}


@pytest.mark.soak
@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("name", HISTORIES)
async def test_every_tenant_has_the_schema_that_stock_alembic_makes(
    name: str,
    server: str,
    pg: Server,
    make_databases: MakeDatabases,
    mysql: MySQLServer,
    make_mysql_databases: MakeMySQLDatabases,
    tmp_path: Path,
) -> None:
    history, count = HISTORIES[name], TENANTS[name]
    servers = fleets.Servers(pg, make_databases, mysql, make_mysql_databases)
    fleet = await fleets.make_fleet(server, count, servers, tmp_path)
    refused = await fleets.upgrade_with_stock_alembic(history.config, history.folder, fleet.urls, history.prepare)
    assert (refused is not None) is ((name, server) in UNSUPPORTED), refused
    track = Track("app", script_location=history.folder)
    targets = [replace(target, adopt="base" if history.prepare else None) for target in fleet.targets]
    registry = engine.registry_of([track], [fleet.shard], targets, folder=tmp_path)
    async with engine.running(registry, max_concurrent=AT_ONCE) as running:
        view = await running.rollout()
        assert view.counts == {"failed" if refused else "succeeded": count}, view.failures
        assert most_at_once(running) > min(AT_ONCE, count) // 2
        if refused:
            [group] = view.failures
            assert f'"{UNSUPPORTED[name, server]}"' in refused
            assert UNSUPPORTED[name, server] in group.example.message
        else:
            assert (await running.rollout()).counts == {"up_to_date": count}
    reference, *others = await asyncio.gather(*(asyncio.to_thread(fleets.picture, url) for url in fleet.urls))
    assert reference["rows"]["alembic_version"]
    for database, found in zip(fleet.databases[1:], others, strict=True):
        assert found == reference, database


def most_at_once(running: engine.Engine) -> int:
    now = most = 0
    for event in running.events:
        now += isinstance(event, MigrationStarted) - isinstance(event, MigrationFinished)
        most = max(most, now)
    return most
