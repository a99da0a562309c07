"""Replay against env.py on SQLite and MariaDB: whatever the history, and wherever it starts, both come to the same."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.databases import singly
from orchestrator.databases.singly import Role, Sent
from orchestrator.events import MigrationFinished, ReplayRefused
from orchestrator.history import compile as compiler
from orchestrator.history.jobs import CompileJob
from orchestrator.history.revisions import History
from orchestrator.history.scripts import read
from orchestrator.plan.compiled import Script, compiled
from orchestrator.plan.steps import Planner
from tests import engine, environments, histories, other_histories
from tests.integration.replay import fleets
from tests.integration.replay.conftest import MakeFleet
from tests.integration.replay.fleets import Fleet

SEEDS = range(150 if os.environ.get("SOAK") else 8)
MAKERS = {"sqlite": other_histories.SQLite, "mysql": other_histories.MariaDB}


async def both_ways(fleet: Fleet, project: Path, goals: list[str]) -> tuple[dict[str, Any], dict[str, Any], list[Any]]:
    """Bring both databases to each goal in turn; what they hold in the end, and the events."""
    async with engine.running(fleets.two_tracks(fleet, project)) as running:
        for goal in goals:
            for track, tenant in (("online", "one"), ("replay", "two")):
                view = await running.rollout(goal, track=track, select=f"tenant={tenant}")
                assert view.rollout.state.value == "succeeded", [group.example for group in view.failures]
        return await fleet.content(fleet.databases[0]), await fleet.content(fleet.databases[1]), running.events


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.soak
async def test_both_ways_come_to_the_same(seed: int, tmp_path: Path, make_fleet: MakeFleet) -> None:
    fleet, project = await make_fleet(2), tmp_path / "history"
    fleet.scheme = "mysql" if seed % 3 else "mariadb"
    environments.make_project(project, "async" if seed % 2 else "generic")
    revisions = histories.write(project, seed, MAKERS[fleet.dialect])
    start = random.Random(seed).choice([None, *revisions])
    online, replayed, events = await both_ways(fleet, project, [*([start] if start else []), "heads"])
    assert replayed == online
    assert not [event for event in events if isinstance(event, ReplayRefused)]


@pytest.mark.parametrize(("dialect", "url"), [("sqlite", "sqlite:///x"), ("mysql", "mysql+pymysql://u@h/d")])
def test_most_of_these_histories_is_sql(dialect: str, url: str, tmp_path: Path) -> None:
    """Or the test above would compare env.py with itself."""
    found: list[bool] = []
    for seed in range(30):
        folder = tmp_path / str(seed)
        environments.make_project(folder)
        histories.write(folder, seed, MAKERS[dialect])
        track = environments.track_of(folder / "alembic.ini")
        snapshot, directory = read(track)
        history = History(track, snapshot)
        plan = Planner(history, history.resolve("heads")).plan(None)
        job = CompileJob(
            track, history.digest, "acme", plan, dialect, "alembic_version", None, url, server="10.11.6-MariaDB"
        )
        rendering = compiler.render(job, directory)
        found += [isinstance(one, Script) for one in compiled(plan, rendering).segments for _ in one.revisions]
    assert sum(found) >= 0.6 * len(found), f"{sum(found)} of {len(found)}"


async def test_the_property_notices_one_lost_statement(
    tmp_path: Path, make_fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """The test of the test: one statement of all is not sent."""
    fleet, project = await make_fleet(2), tmp_path / "history"
    environments.make_project(project)
    environments.add_tables(project, ["alpha", "beta"])
    whole = singly._statements
    lost: list[Sent] = []

    def losing(*arguments: Any) -> Iterator[Sent]:
        for one in whole(*arguments):
            if one.role is Role.REVISION and "INSERT" in one.text and not lost:
                lost.append(one)
            else:
                yield one

    monkeypatch.setattr(singly, "_statements", losing)
    singly.statements.cache_clear()
    request.addfinalizer(singly.statements.cache_clear)
    online, replayed, events = await both_ways(fleet, project, ["heads"])
    assert lost
    assert replayed != online
    assert [one.execution for one in events if isinstance(one, MigrationFinished)] == ["online", "replay"]
