"""What earlier rollouts took, for predictions: read once for each track, before the first rollout of it is driven."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.execute.predictions import Stretch
from orchestrator.registry.model import Registry
from orchestrator.service.wiring import Parts


async def prime(parts: Parts, registry: Registry, tracks: Iterable[str]) -> None:
    """Without windows, nobody asks for it. Raises StoreError."""
    if not registry.windows:
        return
    for track in tracks:
        if track in parts.predictions.primed:
            continue
        parts.predictions.primed.add(track)
        for took in await parts.store.durations.latest(track):
            way = Stretch(took.track, took.shard, tuple(sorted(took.begin)), tuple(sorted(took.end)))
            parts.predictions.note(way, took.seconds)
