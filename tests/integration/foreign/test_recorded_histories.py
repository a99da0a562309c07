"""How much of histories that others wrote is replayed as it was recorded, and what it comes to."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from orchestrator.databases.embedded import Server
from orchestrator.events import MigrationFinished, PlanJudged
from orchestrator.registry.model import Track
from tests import engine
from tests.integration.foreign import fleets
from tests.integration.foreign.packaged import HISTORIES
from tests.mariadb import MakeMySQLDatabases, MySQLServer
from tests.servers import MakeDatabases

TENANTS = 4
# As Alembic makes it: mlflow's first tables are not of its history.
VERSIONS = """CREATE TABLE alembic_version
    (version_num varchar(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"""


@pytest.mark.soak
async def test_mlflows_guarded_revisions_are_recorded_and_every_tenant_has_what_stock_alembic_makes(
    pg: Server,
    make_databases: MakeDatabases,
    mysql: MySQLServer,
    make_mysql_databases: MakeMySQLDatabases,
    tmp_path: Path,
) -> None:
    """With a transaction for each revision: in one for all, those that read users' tables have all run online."""
    history = HISTORIES["mlflow"]
    servers = fleets.Servers(pg, make_databases, mysql, make_mysql_databases)
    fleet = await fleets.make_fleet("postgresql", TENANTS, servers, tmp_path)
    for database in fleet.databases[1:]:
        await engine.execute(pg, database, VERSIONS)
    assert not await fleets.upgrade_with_stock_alembic(history.config, history.folder, fleet.urls, history.prepare)
    folder = Path(shutil.copytree(history.folder, tmp_path / "history"))
    env, option = folder / "env.py", "target_metadata=target_metadata"
    env.write_text(env.read_text().replace(option, f"transaction_per_migration=True, {option}"))
    registry = engine.registry_of(
        [Track("app", script_location=folder, execution="auto")], [fleet.shard], fleet.targets, folder=tmp_path
    )
    async with engine.running(registry, max_concurrent=1) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": TENANTS}, view.failures
        (judged,) = running.of(PlanJudged)
        assert (judged.execution, judged.recorded, judged.reason) == ("mixed", 2, None)
        # Rendering may take longer than the third waits.
        assert {event.execution for event in running.of(MigrationFinished)} == {"online", "mixed"}
    reference, *others = await asyncio.gather(*(asyncio.to_thread(fleets.picture, url) for url in fleet.urls))
    for database, found in zip(fleet.databases[1:], others, strict=True):
        assert found == reference, database


@pytest.mark.soak
async def test_optunas_guarded_revisions_read_its_tables_as_well_so_they_are_run_by_env_py(
    pg: Server,
    make_databases: MakeDatabases,
    mysql: MySQLServer,
    make_mysql_databases: MakeMySQLDatabases,
    tmp_path: Path,
) -> None:
    history = HISTORIES["optuna"]
    servers = fleets.Servers(pg, make_databases, mysql, make_mysql_databases)
    fleet = await fleets.make_fleet("postgresql", TENANTS, servers, tmp_path)
    registry = engine.registry_of(
        [Track("app", script_location=history.folder, execution="auto")], [fleet.shard], fleet.targets, folder=tmp_path
    )
    async with engine.running(registry, max_concurrent=1) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": TENANTS}, view.failures
        (judged,) = running.of(PlanJudged)
        assert (judged.execution, judged.recorded, judged.differs) == ("online", 0, False)
        assert "v1.3.0.a: it catches errors" in str(judged.reason)
