"""Replay against env.py: whatever the history, and wherever it starts, both come to the same schema, heads and data."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from orchestrator.databases import fingerprint, scripts
from orchestrator.databases.embedded import Server
from orchestrator.events import ReplayRefused
from orchestrator.history import compile as compiler
from orchestrator.history.jobs import CompileJob
from orchestrator.history.revisions import History
from orchestrator.history.scripts import read
from orchestrator.plan import statements
from orchestrator.plan.compiled import Script, compiled
from orchestrator.plan.steps import Planner
from orchestrator.registry.model import Registry, Target, Track
from tests import engine, environments, histories
from tests.servers import MakeDatabases

MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[.+\d]*")  # of now(), which differs
SEEDS = range(150 if os.environ.get("SOAK") else 10)


@pytest.fixture
async def two(make_databases: MakeDatabases) -> list[str]:
    return await make_databases(2)


def registry(folder: Path, template: environments.Template, pg: Server, databases: list[str]) -> Registry:
    """The same history twice: migrated by env.py in the first database, by replay in the second. The second tenant of
    the replayed track is never migrated."""
    config = folder / ("alembic.ini" if not template.startswith("pyproject") else "pyproject.toml")
    tracks = [Track("online", config=config, execution="online"), Track("replay", config=config, execution="replay")]
    targets = [
        Target("one", "online", "pg", databases[0]),
        Target("two", "replay", "pg", databases[1]),
        Target("other", "replay", "pg", "not there"),
    ]
    return engine.registry_of(tracks, [engine.shard_of(pg)], targets)


async def content(pg: Server, database: str) -> dict[str, Any]:
    """Schema, heads and rows."""
    connection = await asyncpg.connect(pg.url(database))
    try:
        tables = await connection.fetch(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        )
        rows = {
            name: sorted(
                MOMENT.sub("<now>", str(row[0])) for row in await connection.fetch(f'SELECT t::text FROM "{name}" t')
            )
            for (name,) in tables
        }
        lines = [row[0] for row in await connection.fetch(fingerprint.query(None))]
        return {"schema": fingerprint.normalised(lines, "alembic_version", None), **rows}
    finally:
        await connection.close()


async def both_ways(
    folder: Path, template: environments.Template, pg: Server, databases: list[str], goals: list[str]
) -> tuple[dict[str, Any], dict[str, Any], list[Any]]:
    """Bring both databases to each goal in turn; what they hold in the end, and the events."""
    async with engine.running(registry(folder, template, pg, databases)) as running:
        for goal in goals:
            for track, tenant in (("online", "one"), ("replay", "two")):
                view = await running.rollout(goal, track=track, select=f"tenant={tenant}")
                assert view.rollout.state.value == "succeeded", [group.example for group in view.failures]
        return await content(pg, databases[0]), await content(pg, databases[1]), running.events


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.soak
async def test_both_ways_come_to_the_same(seed: int, tmp_path: Path, pg: Server, two: list[str]) -> None:
    template: environments.Template = "async" if seed % 2 else "generic"
    environments.make_project(tmp_path, template)
    revisions = histories.write(tmp_path, seed)
    start = random.Random(seed).choice([None, *revisions])
    online, replayed, events = await both_ways(tmp_path, template, pg, two, [*([start] if start else []), "heads"])
    assert replayed == online
    assert not [event for event in events if isinstance(event, ReplayRefused)]


def test_most_of_these_histories_is_sql(tmp_path: Path) -> None:
    """Or the test above would compare env.py with itself."""
    found: list[bool] = []
    for seed in range(30):
        folder = tmp_path / str(seed)
        environments.make_project(folder)
        histories.write(folder, seed)
        track = environments.track_of(folder / "alembic.ini")
        snapshot, directory = read(track)
        history = History(track, snapshot)
        plan = Planner(history, history.resolve("heads")).plan(None)
        place = ("postgresql", "alembic_version", None, "postgresql+psycopg://u@h/d")
        rendering = compiler.render(CompileJob(track, history.digest, "acme", plan, *place), directory)
        found += [isinstance(one, Script) for one in compiled(plan, rendering).segments for _ in one.revisions]
    assert sum(found) >= 0.6 * len(found), f"{sum(found)} of {len(found)}"


async def test_the_property_notices_one_lost_statement(
    tmp_path: Path,
    pg: Server,
    two: list[str],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """The test of the test: one statement of all is not sent."""
    environments.make_project(tmp_path, "generic")
    histories.write(tmp_path, 3)
    terminated = statements.terminated
    lost: list[str] = []

    def losing(sql: str) -> str:
        if "INSERT" in sql and not lost:
            lost.append(sql)
            return ";"
        return terminated(sql)

    monkeypatch.setattr(scripts, "terminated", losing)
    scripts.messages.cache_clear()
    request.addfinalizer(scripts.messages.cache_clear)
    online, replayed, _ = await both_ways(tmp_path, "generic", pg, two, ["heads"])
    assert lost
    assert replayed != online
