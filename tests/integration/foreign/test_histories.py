"""Histories that others wrote and ship in their packages, against what stock Alembic makes of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.databases.embedded import Server
from orchestrator.events import MigrationFinished, MigrationStarted
from orchestrator.registry.model import Track
from tests import engine
from tests.integration.foreign import fleets
from tests.servers import MakeDatabases

TENANTS = 20
AT_ONCE = 8
SERVERS = ["postgresql", "sqlite"]


@dataclass(frozen=True)
class Packaged:
    """Where a package keeps its history, and what it does to a database before the first revision, given its URL."""

    module: str
    location: str
    prepare: str = ""

    @property
    def folder(self) -> Path:
        return fleets.path_of(self.module, self.location)

    @property
    def config(self) -> Path | None:
        files = [place / "alembic.ini" for place in (self.folder, self.folder.parent)]
        return next((file for file in files if file.exists()), None)


# mlflow's first revision changes tables that it makes outside of its history. Its databases have no version table then;
# an empty one tells that this is meant.
MLFLOW_TABLES = """
import sys
from alembic.migration import MigrationContext
from mlflow.store.tracking.dbmodels.initial_models import Base
from sqlalchemy import create_engine
for url in sys.argv[1:]:
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        MigrationContext.configure(connection)._ensure_version_table()
"""
HISTORIES = {
    "optuna": Packaged("optuna.storages._rdb", "alembic"),
    "mlflow": Packaged("mlflow.store", "db_migrations", MLFLOW_TABLES),
}


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("name", HISTORIES)
async def test_every_tenant_has_the_schema_that_stock_alembic_makes(
    name: str, server: str, pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    history = HISTORIES[name]
    fleet = await fleets.make_fleet(server, TENANTS, pg, make_databases, tmp_path)
    if history.prepare:
        await fleets.run_python(history.prepare, *fleet.urls)
    await fleets.upgrade_with_stock_alembic(history.config, history.folder, fleet.urls[0])
    track = Track("app", script_location=history.folder)
    registry = engine.registry_of([track], [fleet.shard], fleet.targets, folder=tmp_path)
    async with engine.running(registry, max_concurrent=AT_ONCE) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": TENANTS}, view.failures
        assert most_at_once(running) > AT_ONCE // 2
        assert (await running.rollout()).counts == {"up_to_date": TENANTS}
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
