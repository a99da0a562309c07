"""What is no longer as it was planned, in words. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from orchestrator.plan import manifest
from orchestrator.plan.manifest import Hints, Manifest, PlannedGroup
from orchestrator.registry.model import Heads, TargetKey

NAMES_SHOWN = 5


def between(planned: Manifest, now: Manifest) -> Sequence[str]:
    """A line for each kind of difference, the first the one that others may follow from; none for equal plans."""
    goals = list(_goals(planned, now))
    changed = {track for track in now.goals if planned.files.get(track) != now.files.get(track)}
    changed |= {track for track in now.goals if planned.goals.get(track) != now.goals.get(track)}
    if planned.direction != now.direction:
        changed = set(now.goals)
    return [
        *goals,
        *_targets(planned, now),
        *_files(planned, now),
        *_heads(planned, now),
        *_runs(planned, now, changed),
    ]


def hinted(planned: Hints | None, now: Manifest) -> Sequence[str]:
    """The same where nothing but the digest is left of the plan; it tells of less by name."""
    if planned is None:
        return ["the plan: what would run, or where, is not what was planned"]
    found, current = [], manifest.hints_of(now)
    if planned.goal != current.goal:
        goals = "; ".join(f"track {track} to {_named(goal)}" for track, goal in sorted(now.goals.items()))
        found.append(f"goal: another was planned than {now.direction} of {goals}")
    if planned.targets != current.targets:
        found.append(_counted(planned, now))
    if planned.files != current.files:
        found.append("files: revision files or env.py have changed")
    if planned.steps != current.steps and not found:
        found.append("steps: targets are no longer where they were when it was planned, or their SQL has changed")
    return found or ["the plan: what would run, or where, is not what was planned"]


def _goals(planned: Manifest, now: Manifest) -> Iterator[str]:
    if planned.direction != now.direction:
        yield f"direction: {planned.direction} was planned, not {now.direction}"
    for track in sorted(planned.goals.keys() & now.goals.keys()):
        before, after = planned.goals[track], now.goals[track]
        if before != after:
            yield f"goal: {_named(before)} was planned for track {track}, now it is {_named(after)}"


def _targets(planned: Manifest, now: Manifest) -> Iterator[str]:
    more, fewer = now.places.keys() - planned.places.keys(), planned.places.keys() - now.places.keys()
    if more:
        yield f"targets: {len(more):,} more than planned ({_targets_named(more, now)})"
    if fewer:
        yield f"targets: {len(fewer):,} fewer than planned ({_targets_named(fewer, planned)})"
    moved = sorted(key for key in now.places.keys() - more if now.places[key] != planned.places[key])
    if moved:
        first = f"{moved[0].tenant} was at {planned.places[moved[0]]}, now at {now.places[moved[0]]}"
        yield f"targets: {len(moved):,} elsewhere than planned ({_targets_named(moved, now)}): {first}"


def _counted(planned: Hints, now: Manifest) -> str:
    """How many more or fewer there are, and which, where it is one or two that came."""
    more = len(now.places) - planned.count
    if more < 0:
        return f"targets: {-more:,} fewer than planned, or others"
    if more == 0:
        return "targets: as many as planned, but others, or elsewhere"
    names = added(planned.targets, now.places, more)
    if names:
        return f"targets: {more:,} more than planned ({_targets_named(names, now)})"
    return f"targets: {more:,} more than planned, or others; a plan made now shows all"


def added(planned: int, places: Mapping[TargetKey, str], count: int) -> Sequence[TargetKey]:
    """The one or two targets without which the sum over all would be the planned one; none if there are no such."""
    weights = {manifest.weight(key, place): key for key, place in places.items()}
    excess = (sum(weights) - planned) % manifest.MODULUS
    if count == 1:
        return [weights[excess]] if excess in weights else []
    if count == 2:
        for weight, key in weights.items():
            other = weights.get((excess - weight) % manifest.MODULUS)
            if other is not None and other != key:
                return sorted([key, other])
    return []


def _files(planned: Manifest, now: Manifest) -> Iterator[str]:
    for track in sorted(planned.files.keys() & now.files.keys()):
        before, after = planned.files[track], now.files[track]
        names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        if names:
            shown = _some(f"{name}{_came_or_went(name, before, after)}" for name in names)
            yield f"files: revision files of track {track} have changed: {shown}"


def _came_or_went(name: str, before: Mapping[str, str], after: Mapping[str, str]) -> str:
    return " (new)" if name not in before else " (gone)" if name not in after else ""


def _heads(planned: Manifest, now: Manifest) -> Iterator[str]:
    """Targets that are in both, and not where they were."""
    moves: dict[tuple[str, str], list[TargetKey]] = defaultdict(list)
    groups = now.group_of
    for key, before in planned.group_of.items():
        after = groups.get(key)
        if after is not None and _where(before) != _where(after):
            moves[_where(before), _where(after)].append(key)
    for (before_, after_), keys in sorted(moves.items(), key=lambda item: (-len(item[1]), item[0])):
        are = "1 target is" if len(keys) == 1 else f"{len(keys):,} targets are"
        yield f"steps: {are} no longer {before_} (now {after_}): {_targets_named(keys, now)}"


def _where(group: PlannedGroup) -> str:
    if group.state in ("unreachable", "unprovisioned"):
        return "unreachable" if group.state == "unreachable" else "without a version table"
    return f"at {_named(group.heads)}"


def _runs(planned: Manifest, now: Manifest, changed: set[str]) -> Iterator[str]:
    """Groups that are where they were, of whom something else would run, though neither goal nor files changed."""
    told: set[str] = set()
    groups = now.group_of
    for key, before in planned.group_of.items():
        after = groups.get(key)
        if after is None or key.track in changed or _where(before) != _where(after):
            continue
        if (line := _run(before, after)) and line not in told:
            told.add(line)
            yield line


def _run(before: PlannedGroup, after: PlannedGroup) -> str | None:
    where = f"steps: for targets of track {after.track} {_where(after)}"
    if before.steps != after.steps:
        return f"{where}, {_listed(before.steps)} was planned, now it is {_listed(after.steps)}"
    if set(before.online) != set(after.online):
        other = sorted(set(before.online) ^ set(after.online))
        return f"{where}, env.py would run other revisions than planned: {_some(other)}"
    return f"{where}, the SQL is no longer what was planned" if before.sql != after.sql else None


def _targets_named(keys: Iterable[TargetKey], of: Manifest) -> str:
    """Tenants; with their tracks where the plan is over several."""
    return _some(str(key) if len(of.goals) > 1 else key.tenant for key in sorted(keys))


def _some(names: Iterable[str]) -> str:
    found = list(names)
    more = f" and {len(found) - NAMES_SHOWN:,} more" if len(found) > NAMES_SHOWN else ""
    return ", ".join(found[:NAMES_SHOWN]) + more


def _named(heads: Heads) -> str:
    return ", ".join(heads) or "base"


def _listed(steps: Sequence[str]) -> str:
    return _some(steps) or "nothing"
