"""Rollouts that are bound to a plan: nothing starts unless what would run is what was planned."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.errors import PlanChangedError
from orchestrator.plan import differences, manifest
from orchestrator.plan.bound import Planned
from orchestrator.plan.manifest import Manifest
from orchestrator.registry.model import TargetKey
from orchestrator.rollout.state import FleetState
from orchestrator.service.plans import Made
from orchestrator.store.plans import StorePlans


def readable(digest: str | None) -> str:
    """The digest, if it can be a plan's. Raises ConfigurationError."""
    manifest.hints(digest or "")
    return digest or ""


async def check(plans: StorePlans, digest: str, made: Made) -> None:
    """Raises PlanChangedError that says what differs between the plan of this digest and the one made now."""
    if manifest.same(digest, made.plan.digest):
        return
    before = await plans.find(digest)
    found = differences.between(before, made.manifest) if before else ()
    found = found or differences.hinted(manifest.hints(digest), made.manifest)
    raise PlanChangedError(
        "what would run is not what was planned; nothing was started. " + "; ".join(found),
        differences=found,
        remedy="look at a new plan, and start under its digest",
    )


def planned(made: Manifest) -> Mapping[TargetKey, Planned]:
    """What each target is to have run; without those whose heads could not be read."""
    return {
        TargetKey(tenant, group.track): Planned(group.heads, len(group.steps), group.sql)
        for group in made.groups
        if group.state != FleetState.UNREACHABLE
        for tenant in group.tenants
    }
