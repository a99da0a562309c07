"""A target that is replayed takes few turns of conversation with its server, however far away that is."""

from __future__ import annotations

from pathlib import Path

from orchestrator.databases.embedded import EmbeddedServer
from tests import environments
from tests.benchmarks.replay import round_trips


async def test_a_replayed_target_takes_four_at_most(pg2: EmbeddedServer, tmp_path: Path) -> None:
    config = environments.make_project(tmp_path)
    environments.add_tables(tmp_path, ["alpha", "beta", "gamma"])
    assert 1 <= await round_trips(pg2, tmp_path, config) <= 4
