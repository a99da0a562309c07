"""Python's driver of SQLite begins a transaction before data is changed and not before DDL: what that leaves behind."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from orchestrator.registry.model import Registry, Shard
from tests import engine, environments
from tests.environments import Template

UPGRADE = """
op.create_table("half", sa.Column("id", sa.Integer))
op.execute("INSERT INTO half VALUES (1)")
op.create_table("never", sa.Column("id", sa.Integer))
op.execute("DROP TABLE nowhere")
"""


def _registry(folder: Path, template: Template, upgrade: str) -> Registry:
    config = environments.make_project(folder, template)
    environments.add_tables(folder, ["alpha"])
    environments.add_revision(folder, "beta", "alpha", upgrade)
    (folder / "acme.db").touch()
    shard = Shard("files", make_url(f"sqlite:///{folder}"))
    return engine.registry_of(
        [environments.track_of(config)], [shard], engine.targets_of(["acme.db"], shard="files"), folder=folder
    )


def _rows(folder: Path, query: str) -> list[object]:
    with closing(sqlite3.connect(folder / "acme.db")) as connection:
        return [row[0] for row in connection.execute(query)]


@pytest.mark.parametrize("template", ["generic", "async"])
async def test_ddl_before_the_first_change_of_data_stays_and_is_told(template: Template, tmp_path: Path) -> None:
    async with engine.running(_registry(tmp_path, template, UPGRADE)) as running:
        view = await running.rollout()
        assert view.counts == {"failed": 1}
        failure = (await running.migrations(view))["t000"].failure
        assert failure is not None
        assert failure.kind == "half_applied"
        assert "no such table: nowhere" in failure.message
        assert "SQLite's driver does not take DDL back" in failure.message
        assert "1 of its statements stay (CREATE TABLE half ( id INTEGER ))" in failure.message
        assert "The version table still says alpha" in failure.message
    assert set(_rows(tmp_path, "SELECT name FROM sqlite_master WHERE type = 'table'")) == {
        "alembic_version",
        "alpha",
        "applied",
        "half",
    }
    assert _rows(tmp_path, "SELECT version_num FROM alembic_version") == ["alpha"]
    assert _rows(tmp_path, "SELECT count(*) FROM half") == [0]


TRANSACTIONAL = """
    from sqlalchemy import event
    event.listen(connectable, "connect", lambda connection, record: setattr(connection, "isolation_level", None))
    event.listen(connectable, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
"""


async def test_with_sqlalchemys_recipe_for_transactions_all_is_taken_back(tmp_path: Path) -> None:
    registry = _registry(tmp_path, "generic", UPGRADE)
    env = tmp_path / "alembic" / "env.py"
    connecting = "    with connectable.connect()"
    env.write_text(env.read_text().replace(connecting, f"{TRANSACTIONAL}\n{connecting}"))
    async with engine.running(registry) as running:
        for _ in range(2):
            view = await running.rollout()
            failure = (await running.migrations(view))["t000"].failure
            assert failure is not None
            assert (failure.kind, "stay" in failure.message) == ("failed", False)
    assert _rows(tmp_path, "SELECT count(*) FROM sqlite_master WHERE name = 'half'") == [0]


async def test_where_all_was_rolled_back_nothing_is_told(tmp_path: Path) -> None:
    upgrade = "op.execute(\"INSERT INTO applied VALUES ('x')\")\n" + UPGRADE
    async with engine.running(_registry(tmp_path, "generic", upgrade)) as running:
        view = await running.rollout()
        failure = (await running.migrations(view))["t000"].failure
        assert failure is not None
        assert (failure.kind, "stay" in failure.message) == ("failed", False)
    assert _rows(tmp_path, "SELECT count(*) FROM sqlite_master WHERE name = 'half'") == [0]
