"""What the benchmarks count by themselves, without a clock."""

from __future__ import annotations

from pathlib import Path

from orchestrator.databases.embedded import EmbeddedServer
from tests import environments
from tests.benchmarks import scale
from tests.benchmarks.replay import round_trips


async def test_a_replayed_target_takes_three_turns_of_conversation_with_its_server(
    pg2: EmbeddedServer, tmp_path: Path
) -> None:
    config = environments.make_project(tmp_path)
    environments.add_tables(tmp_path, ["alpha", "beta", "gamma"])
    assert await round_trips(pg2, tmp_path, config) == 3


async def test_simulated_databases_come_to_the_goal(tmp_path: Path) -> None:
    config = environments.make_project(tmp_path)
    environments.add_tables(tmp_path, ["alpha"])
    assert await scale.cost(tmp_path, config, 8) > 0
