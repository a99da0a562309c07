"""Targets without a version table: migrated, left alone, refused, or adopted."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from orchestrator.databases.embedded import Server
from orchestrator.registry.model import Registry, Shard, Target, Track
from orchestrator.rollout.state import Direction, Migration, Request
from tests import engine, environments
from tests.servers import MakeDatabases

TABLES = ["alpha", "beta", "gamma"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    environments.make_project(tmp_path / "project")
    environments.add_tables(tmp_path / "project", TABLES)
    return tmp_path / "project"


def _registry(project: Path, pg: Server, targets: Sequence[Target], **track: object) -> Registry:
    made: Track = replace(environments.track_of(project / "alembic.ini"), **track)  # type: ignore[arg-type]
    return engine.registry_of([made], [engine.shard_of(pg)], targets)


def _said(migration: Migration) -> tuple[str, str, str]:
    assert migration.failure is not None
    return migration.state.value, migration.failure.message, migration.failure.remedy or ""


async def _tables(pg: Server, database: str) -> set[str]:
    rows = await engine.fetch(pg, database, "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'")
    return {row[0] for row in rows}


async def test_the_policy_says_what_becomes_of_an_empty_database(
    pg: Server, make_databases: MakeDatabases, project: Path
) -> None:
    for policy, counts in (("skip", {"skipped": 1}), ("fail", {"failed": 1}), ("migrate", {"succeeded": 1})):
        targets = engine.targets_of(await make_databases(1))
        async with engine.running(_registry(project, pg, targets, unprovisioned=policy)) as running:
            [group] = await running.service.preview(Request("app", "head"))
            said = None if policy == "migrate" else f"the track says `unprovisioned: {policy}`"
            assert (group.state, group.problem, group.steps == ()) == ("unprovisioned", said, policy != "migrate")
            view = await running.rollout()
            assert view.counts == counts
            migration = (await running.migrations(view))["t000"]
            if policy == "migrate":
                continue
            _, message, remedy = _said(migration)
            assert f"it has no version table; the track says `unprovisioned: {policy}`" in message
            assert "unprovisioned: migrate" in remedy
            assert view.rollout.state.value == ("succeeded" if policy == "skip" else "failed")
            assert await _tables(pg, targets[0].database) == set()


async def test_tables_without_a_version_table_are_never_migrated_from_base(
    pg: Server, make_databases: MakeDatabases, project: Path
) -> None:
    targets = engine.targets_of(await make_databases(3))
    await engine.execute(pg, targets[0].database, 'CREATE TABLE "Some table" (id int)', "CREATE VIEW v AS SELECT 1")
    await engine.execute(pg, targets[1].database, "CREATE SCHEMA elsewhere", "CREATE TABLE elsewhere.t (id int)")
    async with engine.running(_registry(project, pg, targets)) as running:
        view = await running.rollout()
        assert view.counts == {"failed": 2, "succeeded": 1}
        _, message, remedy = _said((await running.migrations(view))["t000"])
        assert message == "it has no version table, but tables: Some table, v. Nothing was run"
        assert "adopt: <revision>" in remedy
        assert await _tables(pg, targets[0].database) == {"Some table"}


async def test_a_database_is_adopted_at_its_revision(pg: Server, make_databases: MakeDatabases, project: Path) -> None:
    """Made by somebody's script up to `beta`; stamped there, and brought on from there. An empty one begins at base."""
    databases = await make_databases(3)
    for database in databases[:2]:
        await engine.execute(
            pg,
            database,
            "CREATE TABLE applied (revision text)",
            "CREATE TABLE alpha (id int)",
            "CREATE TABLE beta (id int)",
        )
    targets = [replace(target, adopt="beta") for target in engine.targets_of(databases)]
    targets[1] = replace(targets[1], adopt="nonsense")
    async with engine.running(_registry(project, pg, targets, execution="auto", unprovisioned="fail")) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": 1, "failed": 2}
        adopted = (await running.migrations(view))["t000"]
        assert (adopted.from_heads, adopted.to_heads, adopted.steps) == (("beta",), ("gamma",), 1)
        assert await _tables(pg, databases[0]) == {"applied", "alpha", "beta", "gamma", "alembic_version"}
        assert await engine.fetch(pg, databases[0], "SELECT * FROM applied") == [("gamma",)]
        _, message, remedy = _said((await running.migrations(view))["t001"])
        assert "`adopt`: track 'app': there is no revision 'nonsense' in this build" in message
        assert "heads of this build: gamma" in remedy
        assert "alembic_version" not in await _tables(pg, databases[1])


async def test_tables_of_extensions_and_of_other_targets_are_no_tables(
    pg: Server, make_databases: MakeDatabases, project: Path
) -> None:
    (database,) = await make_databases(1)
    await engine.execute(pg, database, "CREATE EXTENSION pg_stat_statements")
    environments.make_project(project.parent / "second")
    environments.add_tables(project.parent / "second", ["delta"])
    second = environments.track_of(project.parent / "second" / "alembic.ini", name="second", version_table="second")
    targets = [
        Target("t000", "app", "pg", database),
        Target("t000", "second", "pg", database, version_table="second"),
        Target("t001", "app", "pg", database, schema="of its own", create_schema=True),
    ]
    registry = engine.registry_of(
        [environments.track_of(project / "alembic.ini"), second], [engine.shard_of(pg)], targets
    )
    async with engine.running(registry) as running:
        assert (await running.rollout(select="tenant=t001")).counts == {"succeeded": 1}
        assert (await running.rollout(select="tenant=t000")).counts == {"succeeded": 1}
        view = await running.rollout(track="second")
        # delta's history has a table `applied` as well: it fails at that, not for want of trust in the database.
        assert "already exists" in _said((await running.migrations(view))["t000"])[1]


async def test_sqlite_files_are_new_or_known_as_well(project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tenants"
    folder.mkdir()
    for name in ("new.db", "old.db", "adopted.db"):
        with sqlite3.connect(folder / name) as connection:
            if name != "new.db":
                connection.execute("CREATE TABLE alpha (id int)")
                connection.execute("CREATE TABLE applied (revision text)")
    targets = [
        Target("new", "app", "files", "new.db"),
        Target("old", "app", "files", "old.db"),
        Target("adopted", "app", "files", "adopted.db", adopt="alpha"),
    ]
    registry = engine.registry_of(
        [environments.track_of(project / "alembic.ini")],
        [Shard("files", make_url(f"sqlite:///{folder}"))],
        targets,
        folder=tmp_path,
    )
    async with engine.running(registry) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": 2, "failed": 1}
        assert "but tables: alpha, applied" in _said((await running.migrations(view))["old"])[1]


async def test_stamping_writes_the_version_table_and_runs_nothing(
    pg: Server, make_databases: MakeDatabases, project: Path
) -> None:
    targets = engine.targets_of(await make_databases(3))
    async with engine.running(_registry(project, pg, targets, execution="auto")) as running:
        assert (await running.rollout("beta", select="tenant=t000")).counts == {"succeeded": 1}
        view = await running.rollout("gamma", direction=Direction.STAMP)
        assert view.counts == {"succeeded": 3}
        assert await _tables(pg, targets[1].database) == {"alembic_version"}
        assert (await running.rollout("gamma", direction=Direction.STAMP)).counts == {"up_to_date": 3}
        assert (await running.rollout("base", direction=Direction.STAMP)).counts == {"succeeded": 3}
        assert await engine.fetch(pg, targets[0].database, "SELECT * FROM alembic_version") == []
