"""Revisions that look at the catalog: recorded on the first targets, replayed where the schema is the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.databases.embedded import Server
from tests import engine
from tests.integration.replay import guarded
from tests.servers import MakeDatabases


@pytest.mark.parametrize("each", [True, False])
async def test_a_guarded_history_is_replayed_after_two_targets_and_comes_to_what_env_py_makes(
    each: bool, pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    bodies = [guarded.USERS, guarded.TABLE, guarded.COLUMN, guarded.WORDED, *([guarded.INDEX] if each else [])]
    project = guarded.make_project(tmp_path / "project", *bodies, each=each)
    plain, *databases = await make_databases(8)
    async with engine.running(guarded.registry_of(project, pg, databases)) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": 7}, view.failures
        assert guarded.judged(running).execution == "replay", guarded.judged(running).reason
        assert sorted(guarded.ways(running).values()) == ["online"] * 2 + ["replay"] * 5
        assert (await running.rollout()).counts == {"up_to_date": 7}
    expected = await guarded.as_online(project, pg, plain)
    for database in databases:
        assert await guarded.picture(pg, database) == expected
