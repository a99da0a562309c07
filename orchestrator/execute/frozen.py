"""Where a target is that a rollout has frozen."""

from __future__ import annotations

from orchestrator.errors import TargetError, TargetUnreachableError
from orchestrator.registry.model import Registry, Target
from orchestrator.rollout.state import Migration


def find_target(registry: Registry, migration: Migration) -> Target:
    """The target's place in the registry as it is now; a frozen target is never silently moved or dropped."""
    target = registry.by_key.get(migration.key)
    if target is None and registry.unanswered:
        raise TargetUnreachableError(
            f"no source names the tenant, and {', '.join(registry.unanswered)} gave no good answer since the start",
            kind="undiscovered",
            remedy="mend the source (`orchestrator tenants` says what is wrong), then retry",
            retriable=True,
        )
    if target is None:
        raise TargetError(
            "the tenant is no longer in the registry; nothing was touched",
            kind="vanished",
            remedy="put it back and retry, or leave it out of the next rollout",
        )
    if target.shard != migration.shard or not _is_there(registry, target, migration):
        raise TargetError(
            f"the registry has moved the tenant since the rollout began: from {migration.shard}, {migration.place} to "
            f"{target.shard}, {registry.place_of(target)}; nothing was touched",
            kind="moved",
            remedy="start a rollout for it where it is now",
        )
    return target


def _is_there(registry: Registry, target: Target, migration: Migration) -> bool:
    """Whether the registry has the target where it was frozen. A way past a pooler that was refused is no other place,
    as long as nothing is known of the target that could have been read elsewhere."""
    if registry.place_of(target) == migration.place:
        return True
    untouched = migration.from_heads is None and migration.planned is None
    return untouched and registry.place_of(target, pooled=True) == migration.place
