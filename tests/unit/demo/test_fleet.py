"""The demo's tenants and its registry."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.demo import fleet
from orchestrator.registry import manifest


@pytest.mark.parametrize("count", [1, 2, 5, 200, 1500])
def test_tenants_are_spread_evenly_and_each_is_there_once(count: int) -> None:
    shards = fleet.tenants(count)
    names = [name for members in shards.values() for name in members]
    assert len(set(names)) == len(names) == count
    assert max(map(len, shards.values())) - min(map(len, shards.values())) <= 1
    assert len({len(name) for name in names}) == 1, "names sort as they are counted"


def test_the_registry_can_be_read_and_holds_no_password(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "env.py").touch()
    places = [
        fleet.Place(shard, f"postgresql://me:pw-{shard}@127.0.0.1:{port}/postgres")
        for port, shard in enumerate(fleet.SHARDS, 6000)
    ]
    text = fleet.registry(places, fleet.tenants(10), tmp_path / "env")
    (tmp_path / "tenants.yaml").write_text(text)
    assert "pw-" not in text
    registry = manifest.load(tmp_path / "tenants.yaml", {place.variable: place.password for place in places})
    assert len(registry.targets) == 10
    url = registry.url_for(registry.targets[0])
    assert (url.password, url.database) == ("pw-demo-1", "tenant_001")
