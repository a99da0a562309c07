"""From a request to a rollout with its frozen migrations. Pure but for the ids and the time that it is given."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from datetime import datetime

from orchestrator.errors import ConfigurationError
from orchestrator.plan.steps import Heads
from orchestrator.registry import selector
from orchestrator.registry.model import DEFAULT_STRATEGY, Registry, Strategy, Target, TargetKey, Track
from orchestrator.rollout.state import Direction, Migration, Request, Rollout, new_rollout_id


def find_track(registry: Registry, name: str) -> Track:
    """Raises ConfigurationError that names the tracks there are."""
    if name not in registry.tracks:
        raise ConfigurationError(f"there is no track {name!r}", remedy=_instead(name, registry.tracks))
    return registry.tracks[name]


def find_target(registry: Registry, track: str, tenant: str) -> Target:
    """Raises ConfigurationError that names a tenant or track that is meant instead."""
    find_track(registry, track)
    found = registry.by_key.get(TargetKey(tenant, track))
    if found is not None:
        return found
    elsewhere = sorted(target.track for target in registry.targets if target.tenant == tenant)
    if elsewhere:
        raise ConfigurationError(
            f"tenant {tenant!r} has no database of track {track!r}", remedy=f"it has: {', '.join(elsewhere)}"
        )
    tenants = [target.tenant for target in registry.targets if target.track == track]
    close = difflib.get_close_matches(tenant, tenants, n=1)
    raise ConfigurationError(
        f"there is no tenant {tenant!r}",
        remedy=f"did you mean {close[0]!r}?" if close else "look at `orchestrator tenants`",
    )


def find_strategy(registry: Registry, name: str) -> Strategy:
    """Raises ConfigurationError that names the strategies there are; `default` always is."""
    if name == DEFAULT_STRATEGY.name:
        return registry.strategies.get(name, DEFAULT_STRATEGY)
    if name not in registry.strategies:
        raise ConfigurationError(f"there is no strategy {name!r}", remedy=_instead(name, registry.strategies))
    return registry.strategies[name]


def check_direction(direction: Direction) -> None:
    if direction is Direction.STAMP:
        raise ConfigurationError("stamping is not supported by this release yet", remedy="use `alembic stamp`")


def select(registry: Registry, track: str, text: str) -> Sequence[Target]:
    """The targets of `track` that the selector takes. Raises SelectorError, and ConfigurationError when none match."""
    wanted = selector.parse(text)
    targets = [target for target in registry.targets if target.track == track and wanted.matches(target)]
    if not targets:
        whose = f"selector {text!r} matches no target" if text.strip() else "there is no target"
        raise ConfigurationError(f"{whose} of track {track!r}", remedy="look at `orchestrator tenants`")
    return targets


def freeze(
    request: Request,
    registry: Registry,
    targets: Sequence[Target],
    goal: Heads,
    *,
    digest: str,
    now: datetime,
    entropy: bytes,
) -> tuple[Rollout, Sequence[Migration]]:
    """A new rollout and its migrations, one for each target, in the registry's order."""
    rollout_id = new_rollout_id(now, entropy)
    rollout = Rollout(rollout_id, request, goal, len(targets), now, history_digest=digest)
    migrations = [
        Migration(
            rollout_id, target.tenant, target.track, target.shard, position=position, place=registry.place_of(target)
        )
        for position, target in enumerate(targets)
    ]
    return rollout, migrations


def _instead(name: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(names) or 'none'}"
