"""From a request to a rollout with its frozen migrations. Pure but for the ids and the time that it is given."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from orchestrator.errors import ConfigurationError, DiscoveryError
from orchestrator.history.revisions import History
from orchestrator.plan import waves
from orchestrator.plan.bound import Planned
from orchestrator.registry import selector
from orchestrator.registry.discovery import Source
from orchestrator.registry.model import DEFAULT_STRATEGY, Registry, Strategy, Target, TargetKey, Track
from orchestrator.rollout import decide
from orchestrator.rollout.state import EVERY, Aim, Migration, Request, Rollout, new_rollout_id
from orchestrator.rollout.waves import planned as planned_waves


def find_track(registry: Registry, name: str) -> Track:
    """Raises ConfigurationError that names the tracks there are."""
    if name not in registry.tracks:
        raise ConfigurationError(f"there is no track {name!r}", remedy=_instead(name, registry.tracks))
    return registry.tracks[name]


def find_tracks(registry: Registry, name: str) -> Sequence[Track]:
    """The track of that name, or all of them for `EVERY`. Raises ConfigurationError."""
    return list(registry.tracks.values()) if name == EVERY else [find_track(registry, name)]


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


def check_whole(registry: Registry, tracks: Sequence[Track], sources: Sequence[Source]) -> None:
    """Raises DiscoveryError when a source that may have targets of these tracks has not told them yet: they would be
    left out without a word."""
    names = {track.name for track in tracks}
    concerned = {one.name for one in registry.discoveries if one.track is None or one.track in names}
    for source in sources:
        if source.name in concerned.intersection(registry.unanswered):
            raise DiscoveryError(
                f"source {source.name!r} of the registry does not tell its tenants: {source.reason}",
                remedy="mend it, or take its entry out of `discover`: without it, tenants would be left out",
            )


def goal_of(request: Request, track: Track) -> str:
    """The goal for a track's targets: the one that was asked for, or its own."""
    return track.goal if request.to in ("", EVERY) else request.to


def aim(request: Request, history: History) -> Aim:
    """Where a track's targets are to be brought. Raises HistoryError."""
    return Aim(history.resolve(goal_of(request, history.track), request.direction.planned), history.digest)


def select(registry: Registry, track: str, text: str) -> Sequence[Target]:
    """The targets of `track`, or of every one, that the selector takes.

    Raises SelectorError, and ConfigurationError when none match.
    """
    wanted = selector.parse(text)
    targets = [one for one in registry.targets if track in (one.track, EVERY) and wanted.matches(one)]
    if not targets:
        whose = f"selector {text!r} matches no target" if text.strip() else "there is no target"
        of = "" if track == EVERY else f" of track {track!r}"
        raise ConfigurationError(f"{whose}{of}", remedy="look at `orchestrator tenants`")
    return targets


def freeze(
    request: Request,
    registry: Registry,
    targets: Sequence[Target],
    aims: Mapping[str, Aim],
    *,
    now: datetime,
    entropy: bytes,
    planned: Mapping[TargetKey, Planned] | None = None,
    lasting: Callable[[Sequence[Target]], Mapping[str, str]] = lambda targets: {},
) -> tuple[Rollout, Sequence[Migration]]:
    """A new rollout and its migrations, one for each target, wave by wave; `planned`: by the plan that it is bound to.

    `lasting` tells which steps of targets cannot be taken back, and why. Raises what `waves.assign` raises.
    """
    rollout_id = new_rollout_id(now, entropy)
    strategy = find_strategy(registry, request.strategy)
    rollout = Rollout(
        rollout_id,
        request,
        (),
        len(targets),
        now,
        waves=planned_waves(strategy),
        approval=strategy.approval,
        four_eyes=strategy.four_eyes,
    )
    if request.track == EVERY:
        rollout = replace(rollout, several=aims)
    else:
        aim = aims[request.track]
        rollout = replace(rollout, goal=aim.goal, history_digest=aim.history_digest)
    migrations: list[Migration] = []
    found: dict[str, Mapping[str, str]] = {}
    for part in waves.assign(strategy, targets, rollout_id):
        migrations += frozen(rollout, registry, part.targets, part.wave.name, len(migrations))
        found[part.wave.name] = lasting(part.targets)
    rollout = decide.lasting(rollout, found)
    return rollout, [replace(one, planned=planned.get(one.key)) for one in migrations] if planned else migrations


def frozen(
    rollout: Rollout, registry: Registry, targets: Sequence[Target], wave: str, first: int
) -> Sequence[Migration]:
    """The targets' parts in a wave of a rollout, at positions from `first` on."""
    return [
        Migration(
            rollout.id, target.tenant, target.track, target.shard, wave, position, place=registry.place_of(target)
        )
        for position, target in enumerate(targets, first)
    ]


def _instead(name: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(names) or 'none'}"
