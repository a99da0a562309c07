"""Targets that the registry names while a rollout runs which would have taken them."""

from __future__ import annotations

from orchestrator.errors import ConflictError
from orchestrator.registry import selector
from orchestrator.registry.model import DEFAULT_STRATEGY, Registry
from orchestrator.rollout.controller import Controller
from orchestrator.service import requests


async def welcome(controller: Controller, registry: Registry) -> None:
    """Take them into the rollout where its strategy says so, or record that they are left to the next one."""
    rollout = controller.rollout
    wanted = selector.parse(rollout.request.select)
    appeared = [
        target
        for target in registry.targets
        if target.track in rollout.aims and wanted.matches(target) and not controller.knows(target.key)
    ]
    if not appeared:
        return
    migrations = requests.frozen(rollout.id, registry, appeared, rollout.total)
    strategy = registry.strategies.get(rollout.request.strategy, DEFAULT_STRATEGY)
    reason = None
    if strategy.new_tenants == "append":
        try:
            if await controller.extend(migrations):
                return
        except ConflictError as exc:
            reason = exc.message
    await controller.leave(migrations, reason)
