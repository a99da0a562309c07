"""What can be said of the fleet from the registry and what was seen last."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.api.ports import ShardView
from orchestrator.observe.fleet import Fleet
from orchestrator.registry.model import Registry


def shards(registry: Registry, fleet: Fleet) -> Sequence[ShardView]:
    """The registry's shards, with how many migrations each bears now, and why these are fewer."""
    running = fleet.rollouts.in_progress()
    found = []
    for name, shard in registry.shards.items():
        held = fleet.throttled.get(name)
        limit = shard.max_concurrent if held is None else min(held.limit, shard.max_concurrent)
        why = held.reason if held is not None else None
        found.append(ShardView(name, shard.dialect, shard.max_concurrent, limit, running[name], why))
    return found
