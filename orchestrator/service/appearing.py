"""Targets that the registry names while a rollout runs which would have taken them."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.registry import selector
from orchestrator.registry.model import DEFAULT_STRATEGY, Registry, Target
from orchestrator.rollout.controller import Controller
from orchestrator.rollout.state import Migration
from orchestrator.service import requests


def is_unknown(registry: Registry, migrations: Sequence[Migration]) -> bool:
    """Whether one of the targets is not in the registry, or is elsewhere: another process may have read a newer one."""
    for migration in migrations:
        target = registry.by_key.get(migration.key)
        if target is None or (target.shard, registry.place_of(target)) != (migration.shard, migration.place):
            return True
    return False


async def welcome(controller: Controller, registry: Registry) -> None:
    """Take them into the rollout where its strategy says so, or record that they are left to the next one: always, by a
    rollout that is bound to a plan, which does not name them."""
    rollout = controller.rollout
    wanted = selector.parse(rollout.request.select)
    targets = [one for one in registry.targets if one.track in rollout.aims and wanted.matches(one)]
    strategy = registry.strategies.get(rollout.request.strategy, DEFAULT_STRATEGY)

    def freeze(fresh: Sequence[Target], first: int) -> Sequence[Migration]:
        return requests.frozen(rollout, registry, fresh, rollout.waves[-1].name, first)

    append = strategy.new_tenants == "append"
    left = "the rollout is bound to a plan that does not name them" if append and rollout.is_bound else None
    await controller.welcome(targets, freeze, append=append and left is None, reason=left)
