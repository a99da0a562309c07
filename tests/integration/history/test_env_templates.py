"""The five kinds of env.py, unmodified, eight targets at a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from orchestrator.databases.embedded import Server
from orchestrator.events import MigrationFinished, MigrationStarted
from orchestrator.registry.model import Shard, Target, Track
from tests import engine, environments
from tests.environments import Template
from tests.servers import MakeDatabases

TABLES = ["alpha", "beta", "gamma"]
TARGETS = 12
OWN_TABLE = """
tenant = context.get_x_argument(as_dictionary=True)["tenant"]
op.create_table(f"only_{tenant}", sa.Column("id", sa.Integer))
"""


def _project(folder: Path, template: Template, isolation: str) -> Track:
    config = environments.make_project(folder, template)
    environments.add_tables(folder, TABLES)
    environments.add_revision(folder, "own", TABLES[-1], OWN_TABLE)
    if isolation == "thread":
        return environments.track_of(config)
    environments.read_url_from_environ(folder)
    return environments.track_of(config, isolation="process", environment={"DATABASE_URL": "{url}"})


@pytest.mark.parametrize(
    ("template", "isolation"),
    [
        ("generic", "thread"),
        ("async", "thread"),
        ("pyproject", "thread"),
        ("pyproject_async", "thread"),
        ("generic", "process"),
        ("async", "process"),
    ],
)
async def test_unmodified_env_py_brings_every_target_to_head_eight_at_a_time(
    template: Template, isolation: str, pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    if not environments.has_template(template):
        pytest.skip(f"this Alembic has no template {template}")
    track = _project(tmp_path, template, isolation)
    databases = await make_databases(TARGETS)
    targets = engine.targets_of(databases)
    registry = engine.registry_of([track], [engine.shard_of(pg, max_concurrent=8)], targets)
    async with engine.running(registry) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": TARGETS}, view.failures
        assert _most_at_once(running) > 1
    for target in targets:
        tables = await engine.fetch(
            pg,
            target.database,
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace",
        )
        assert {name for (name,) in tables} == {*TABLES, "applied", "alembic_version", f"only_{target.tenant}"}
        assert await engine.fetch(pg, target.database, "SELECT version_num FROM alembic_version") == [("own",)]
        applied = await engine.fetch(pg, target.database, "SELECT revision FROM applied ORDER BY revision")
        assert [name for (name,) in applied] == TABLES


def _most_at_once(running: engine.Engine) -> int:
    """How many migrations overlapped, as their own events tell."""
    now = most = 0
    for event in running.events:
        now += isinstance(event, MigrationStarted) - isinstance(event, MigrationFinished)
        most = max(most, now)
    return most


async def test_sqlite_targets_go_to_head_through_both_kinds_of_env_py(tmp_path: Path) -> None:
    tracks, targets = [], []
    for template in ("generic", "async"):
        track = _project(tmp_path / template, template, "thread")
        tracks.append(replace(track, name=template))
        for number in range(6):
            file = tmp_path / f"{template} {number}'\".db"
            file.touch()
            targets.append(Target(f"{template}{number}", template, "files", file.name))
    registry = engine.registry_of(tracks, [Shard("files", make_url("sqlite://"))], targets, folder=tmp_path)
    async with engine.running(registry) as running:
        for template in ("generic", "async"):
            view = await running.rollout(track=template)
            assert view.counts == {"succeeded": 6}, view.failures
            again = await running.rollout(track=template)
            assert again.counts == {"up_to_date": 6}
