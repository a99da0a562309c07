"""Histories that others wrote and ship in their packages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.integration.foreign import fleets


@dataclass(frozen=True)
class Packaged:
    """Where a package keeps its history, and what it does to databases, its `urls`, before the first revision."""

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


# mlflow's first revision changes tables that it makes outside of its history: its databases are adopted at base.
MLFLOW_TABLES = """
from mlflow.store.tracking.dbmodels.initial_models import Base
from sqlalchemy import create_engine
for url in urls:
    Base.metadata.create_all(create_engine(url))
"""
HISTORIES = {
    "optuna": Packaged("optuna.storages._rdb", "alembic"),
    "mlflow": Packaged("mlflow.store", "db_migrations", MLFLOW_TABLES),
}
