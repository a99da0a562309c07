"""What a rollout would do, down to the SQL: read, grouped, compiled, and digested."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from orchestrator.api.ports import CompiledGroup, CompiledPlan, PlanGroup
from orchestrator.databases.base import Place
from orchestrator.errors import TargetError
from orchestrator.execute.render import render_plan
from orchestrator.history.revisions import History
from orchestrator.observe.fleet import Fleet
from orchestrator.plan import compiled as compiling
from orchestrator.plan import findings, recorded
from orchestrator.plan import manifest as manifests
from orchestrator.plan.compiled import IN_BATCHES, Compiled, Online, Rendering
from orchestrator.plan.manifest import Manifest, PlannedGroup
from orchestrator.plan.reversals import irreversible
from orchestrator.plan.steps import Direction, Plan, Planner
from orchestrator.registry.model import Registry, Target, TargetKey, Track
from orchestrator.rollout.state import Aim, FleetState
from orchestrator.service.survey import NAMES_SHOWN, FleetSurvey
from orchestrator.service.wiring import Parts, limits


class Look(NamedTuple):
    """What a group of a plan was made from. `rendering`: its SQL, where it is compiled and all of it is shown."""

    track: Track
    history: History
    targets: Sequence[Target]
    plan: Plan | None
    rendering: Rendering | None


class Made(NamedTuple):
    """A plan, what of it a rollout can be bound to, and where its tracks are to be brought. `looks`: of each group."""

    plan: CompiledPlan
    manifest: Manifest
    aims: Mapping[str, Aim]
    looks: Sequence[Look]


async def made(
    parts: Parts,
    survey: FleetSurvey,
    registry: Registry,
    track: Track,
    targets: Sequence[Target],
    to: str,
    direction: Direction,
) -> Made:
    """Read the heads of the targets and compile the plan of each group. Raises HistoryError; changes nothing."""
    history, groups = await survey.grouped(registry, track, targets, to, direction)
    both = []
    for (state, plan), together in groups.items():
        for alike in _by_kind(registry, together):
            both.append(await _group(parts, registry, history, state, plan, alike))
    both.sort(key=lambda one: (-len(one[0].steps), one[0].heads, one[0].state, one[0].tenants))
    found = [group for group, _ in both]
    aim = Aim(history.resolve(to, direction), history.digest)
    manifest = Manifest(
        direction,
        {track.name: aim.goal},
        {track.name: dict(history.snapshot.contents)},
        _places(registry, history, targets, found),
        tuple(map(_planned, found)),
    )
    made = CompiledPlan(found, manifests.digest(manifest))
    return Made(made, manifest, {track.name: aim}, [look for _, look in both])


def _by_kind(registry: Registry, targets: Sequence[Target]) -> Iterator[Sequence[Target]]:
    """The targets of each kind, by tenant: their SQL is not the same."""
    members: dict[tuple[str, bool], list[Target]] = {}
    for target in sorted(targets, key=lambda target: target.tenant):
        members.setdefault(registry.kind_of(target), []).append(target)
    yield from (members[kind] for kind in sorted(members))


def joined(several: Sequence[Made]) -> Made:
    """The plans of several tracks as one."""
    if len(several) == 1:
        return several[0]
    manifest = manifests.joined([one.manifest for one in several])
    plan = CompiledPlan([group for one in several for group in one.plan.groups], manifests.digest(manifest))
    aims = {track: aim for one in several for track, aim in one.aims.items()}
    return Made(plan, manifest, aims, [look for one in several for look in one.looks])


def groups(plan: CompiledPlan) -> Sequence[PlanGroup]:
    """The plan without its SQL."""
    return [
        PlanGroup(
            one.track,
            one.heads,
            one.state,
            one.steps,
            len(one.tenants),
            one.tenants[:NAMES_SHOWN],
            one.problem,
            one.irreversible,
        )
        for one in plan.groups
    ]


def lasting(
    fleet: Fleet,
    direction: Direction,
    histories: Mapping[str, History],
    aims: Mapping[str, Aim],
    targets: Sequence[Target],
) -> Mapping[str, str]:
    """Which steps a rollout over these targets cannot take back, and why: as far as their heads were read before."""
    if direction != "upgrade":
        return {}  # a downgrade is taken back by an upgrade
    planners = {name: Planner(history, aims[name].goal, direction) for name, history in histories.items()}
    pictures = ((one.track, fleet.target(one.tenant, one.track)) for one in targets)
    seen = {(track, found.heads) for track, found in pictures if found is not None and found.read_at is not None}
    return {
        step: why
        for track, heads in sorted(seen)
        for step, why in irreversible(histories[track], planners[track].plan(heads).steps).items()
    }


def lasting_as_planned(plan: CompiledPlan, direction: Direction, targets: Sequence[Target]) -> Mapping[str, str]:
    """The same, by a plan."""
    if direction != "upgrade":
        return {}
    keys = {target.key for target in targets}
    mine = [one for one in plan.groups if any(TargetKey(tenant, one.track) in keys for tenant in one.tenants)]
    return {step: why for group in mine for step, why in group.irreversible.items()}


async def _group(
    parts: Parts, registry: Registry, history: History, state: FleetState, plan: Plan | None, alike: Sequence[Target]
) -> tuple[CompiledGroup, Look]:
    tenants, track = tuple(target.tenant for target in alike), history.track.name
    look = Look(registry.tracks[track], history, alike, plan, None)
    if plan is None or not plan.steps:
        heads, problem = (plan.heads, plan.problem) if plan else ((), None)
        return CompiledGroup(track, heads, state, (), tenants, {}, (), "", problem), look
    place = Place(history.env_py.settled(alike[0]), registry.url_for(alike[0]), limits(parts.settings))
    compiled, online, rendering = await _compiled(parts, registry, history, alike[0], plan, place)
    script = parts.databases[place.url.get_backend_name()].script(place, compiled) if compiled else ()
    shown = tuple(part.revisions if isinstance(part, Online) else part for part in script)
    digest = compiled.digest if compiled else ""
    lasting = {} if plan.direction == "stamp" else irreversible(history, plan.steps)
    told = findings.of(
        plan.steps,
        irreversible=lasting,
        online=online,
        compiled=compiled,
        keeps_ddl=plan.direction != "stamp" and registry.shards[alike[0].shard].dialect != "postgresql",
        mixed=history.mixed(plan.direction),
        adopts=() if plan.provisioned or plan.direction != "upgrade" else _adopted(alike),
    )
    backfills = tuple(step for step in plan.steps if step in history.backfills(plan.direction))
    group = CompiledGroup(
        track,
        plan.heads,
        state,
        plan.steps,
        tenants,
        online,
        shown,
        digest,
        irreversible=lasting,
        findings=list(findings.levelled(told, look.track.findings)),
        backfills=backfills,
    )
    return group, look._replace(rendering=rendering if rendering and _shows_all(rendering, place) else None)


def _adopted(targets: Sequence[Target]) -> Sequence[str]:
    return sorted({target.adopt for target in targets if target.adopt is not None})


def _shows_all(rendering: Rendering, place: Place) -> bool:
    """Whether nothing more is to be seen of it when it is rendered only to be looked at."""
    if place.url.get_backend_name() == "postgresql":
        return True
    return all(step.reason is None or step.is_backfill for step in rendering.steps)


async def _compiled(
    parts: Parts, registry: Registry, history: History, target: Target, plan: Plan, place: Place
) -> tuple[Compiled | None, dict[str, str], Rendering | None]:
    """The compiled plan, why revisions run online, and what it was cut from; no plan where none of them is replayed."""
    reason = None
    if plan.direction == "stamp":
        reason = "a stamp only writes the version table"
    elif registry.tracks[target.track].execution == "online":
        reason = "the track says `execution: online`"
    else:
        try:
            server = await parts.databases[place.url.get_backend_name()].server(place)
            rendering = await render_plan(parts.workers, registry, target, history, plan, server)
        except TargetError as exc:
            reason = exc.message
    if reason is not None:
        backfills = history.backfills(plan.direction)
        return None, {step: IN_BATCHES if step in backfills else reason for step in plan.steps}, None
    if registry.tracks[target.track].execution == "auto":
        rendering = recorded.told(rendering)
    made = compiling.compiled(plan, rendering)
    stretches = [segment for segment in made.segments if isinstance(segment, Online)]
    online = {name: why for one in stretches for name, why in zip(one.revisions, one.reasons, strict=True)}
    return made, online, rendering


def _planned(group: CompiledGroup) -> PlannedGroup:
    online = tuple(step for step in group.steps if step in group.online)
    return PlannedGroup(group.track, group.heads, group.state.value, group.steps, online, group.digest, group.tenants)


def _places(
    registry: Registry, history: History, targets: Sequence[Target], groups: Sequence[CompiledGroup]
) -> Mapping[TargetKey, str]:
    fresh = {tenant for one in groups if one.state is FleetState.UNPROVISIONED for tenant in one.tenants}
    return {target.key: _place(registry, history.env_py.settled(target), target.tenant in fresh) for target in targets}


def _place(registry: Registry, target: Target, unprovisioned: bool) -> str:
    """Where the target is, and how its sessions find their way there, as the registry has it: relative to its folder,
    wherever that lies. What an unprovisioned target would be stamped with first belongs to it."""
    shard = registry.shards[target.shard]
    url = shard.migration_url
    asked = [str(url.query[name]) for name in ("host", "port") if name in url.query]
    server = f"{shard.dialect}://{','.join([url.host or '', *asked])}{f':{url.port}' if url.port else ''}"
    folder = f"{url.database or ''}/" if shard.dialect == "sqlite" else ""
    table = ".".join(filter(None, (target.version_table_schema or target.schema, target.version_table)))
    path = f", search path {', '.join(target.search_path)}" if target.search_path else ""
    adopted = f", adopted at {target.adopt}" if unprovisioned and target.adopt is not None else ""
    return f"{server}/{folder}{target.database} {table}{path}{adopted}"
