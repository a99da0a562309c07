"""What earlier rollouts took, for predictions: read once for each track, before the first rollout of it is driven."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.execute.predictions import Stretch
from orchestrator.registry.model import Registry
from orchestrator.service.wiring import Parts
from orchestrator.store.durations import Took


async def prime(parts: Parts, registry: Registry, tracks: Iterable[str]) -> None:
    """Without windows, nobody asks for it. Raises StoreError."""
    if not registry.windows:
        return
    for track in tracks:
        if track in parts.predictions.primed:
            continue
        latest = await parts.store.durations.latest(track)
        parts.predictions.prime(track, [(_stretch(took), took.seconds) for took in reversed(latest)])


def _stretch(took: Took) -> Stretch:
    return Stretch(took.track, took.shard, tuple(sorted(took.begin)), tuple(sorted(took.end)))
