"""Where a target is that something is told of."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.events import MigrationEvent
from orchestrator.registry.model import Registry, TargetKey


def whereabouts(registry: Registry, event: MigrationEvent) -> Mapping[str, str | None]:
    """`database` and `schema`, as the registry has them; neither where it no longer has the target on that shard."""
    target = registry.by_key.get(TargetKey(event.tenant, event.track))
    if target is None or target.shard != event.shard:
        return {}
    return {"database": target.database, "schema": target.schema}
