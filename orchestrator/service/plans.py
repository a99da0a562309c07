"""What a rollout would do, down to the SQL: read, grouped, compiled, and digested."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from orchestrator.api.ports import CompiledGroup, CompiledPlan
from orchestrator.databases.base import Place
from orchestrator.errors import TargetError
from orchestrator.execute.render import compile_plan
from orchestrator.history.revisions import History
from orchestrator.plan.compiled import Compiled, Online
from orchestrator.plan.steps import Direction, Plan
from orchestrator.registry.model import Registry, Target, Track
from orchestrator.rollout.state import FleetState
from orchestrator.service.survey import FleetSurvey
from orchestrator.service.wiring import Parts, limits


async def compiled(
    parts: Parts, survey: FleetSurvey, track: Track, targets: Sequence[Target], to: str, direction: Direction
) -> CompiledPlan:
    """Read the heads of the targets and compile the plan of each group. Raises HistoryError; changes nothing."""
    registry = parts.source.current
    history, groups = await survey.grouped(registry, track, targets, to, direction)
    found = []
    for (state, plan), alike in groups.items():
        alike.sort(key=lambda target: target.tenant)
        found.append(await _group(parts, registry, history, state, plan, alike))
    found.sort(key=lambda group: (-len(group.steps), group.heads, group.state, group.tenants))
    return CompiledPlan(found, _digest(registry, history, found, targets))


def joined(made: Sequence[CompiledPlan]) -> CompiledPlan:
    """The plans of several tracks as one."""
    digest = hashlib.sha256("".join(sorted(plan.digest for plan in made)).encode()).hexdigest()
    return CompiledPlan([group for plan in made for group in plan.groups], digest)


async def _group(
    parts: Parts, registry: Registry, history: History, state: FleetState, plan: Plan | None, alike: Sequence[Target]
) -> CompiledGroup:
    tenants, track = tuple(target.tenant for target in alike), history.track.name
    if plan is None or not plan.steps:
        heads, problem = (plan.heads, plan.problem) if plan else ((), None)
        return CompiledGroup(track, heads, state, (), tenants, {}, (), "", problem)
    place = Place(history.env_py.settled(alike[0]), registry.url_for(alike[0]), limits(parts.settings))
    made, online = await _compiled(parts, registry, history, alike[0], plan)
    script = parts.databases[place.url.get_backend_name()].script(place, made) if made else ()
    shown = tuple(part.revisions if isinstance(part, Online) else part for part in script)
    return CompiledGroup(track, plan.heads, state, plan.steps, tenants, online, shown, made.digest if made else "")


async def _compiled(
    parts: Parts, registry: Registry, history: History, target: Target, plan: Plan
) -> tuple[Compiled | None, dict[str, str]]:
    """The compiled plan, and why revisions run online; no plan where none of them is replayed."""
    reason = None
    if plan.direction == "stamp":
        reason = "a stamp only writes the version table"
    elif registry.tracks[target.track].execution == "online":
        reason = "the track says `execution: online`"
    elif registry.shards[target.shard].dialect != "postgresql":
        reason = "only PostgreSQL targets are replayed"
    else:
        try:
            made = await compile_plan(parts.workers, registry, target, history, plan)
        except TargetError as exc:
            reason = exc.message
    if reason is not None:
        return None, dict.fromkeys(plan.steps, reason)
    stretches = [segment for segment in made.segments if isinstance(segment, Online)]
    return made, {name: why for one in stretches for name, why in zip(one.revisions, one.reasons, strict=True)}


def _digest(registry: Registry, history: History, groups: Sequence[CompiledGroup], targets: Sequence[Target]) -> str:
    places = sorted((target.tenant, registry.place_of(target)) for target in targets)
    steps = [
        (group.heads, group.state, group.steps, sorted(group.online), group.digest, group.tenants) for group in groups
    ]
    return hashlib.sha256(repr((history.digest, steps, places)).encode()).hexdigest()
