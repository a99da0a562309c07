"""An application with Flask-Migrate, whose `migrations` folder is as `flask db init` makes it."""

from __future__ import annotations

import shutil
from pathlib import Path

from orchestrator.databases.embedded import Server
from orchestrator.registry.model import Track
from tests import engine, environments
from tests.integration.foreign import fleets
from tests.servers import MakeDatabases

APPLICATION = """
import os
from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy

db = SQLAlchemy()

class Invoice(db.Model):
    id = db.Column(db.Integer, primary_key=True)

def create_app():
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["DATABASE_URL"]
    db.init_app(app)
    Migrate(app, db, version_table="shop_version")
    return app
"""


def _shop(folder: Path) -> Path:
    """The application `shop` with two revisions; its migrations folder."""
    (folder / "shop.py").write_text(APPLICATION)
    made = environments.make_project(folder)
    environments.add_tables(folder, ["alpha", "beta"])
    template = fleets.path_of("flask_migrate", "templates", "flask")
    shutil.copy(template / "env.py", folder / "alembic" / "env.py")
    made.unlink()
    return (folder / "alembic").rename(folder / "migrations")


async def test_an_application_goes_to_head_for_every_tenant(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    track = Track(
        "app",
        script_location=_shop(tmp_path),
        isolation="process",
        environment={"DATABASE_URL": "{url}", "FLASK_APP": "shop:create_app"},
    )
    targets = engine.targets_of(await make_databases(6))
    registry = engine.registry_of([track], [engine.shard_of(pg)], targets)
    async with engine.running(registry) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": 6}, view.failures
        found = (await running.parts.histories.current(registry, track)).env_py
    assert (found.problem, found.version_table, found.metadata) == (None, ("shop_version",), 1)
    for target in targets:
        assert await engine.fetch(pg, target.database, "SELECT version_num FROM shop_version") == [("beta",)]


async def test_without_the_name_of_the_application_every_target_fails_with_a_remedy(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    track = Track("app", script_location=_shop(tmp_path))
    registry = engine.registry_of([track], [engine.shard_of(pg)], engine.targets_of(await make_databases(1)))
    async with engine.running(registry) as running:
        view = await running.rollout()
        [migration] = (await running.migrations(view)).values()
    assert migration.failure is not None
    assert "FLASK_APP does not say which application" in migration.failure.message
    assert "isolation: process" in (migration.failure.remedy or "")
