"""Look at the registry and the histories, and say what is there and what is wrong. Starts nothing, writes nothing."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import SecretStr

from orchestrator.api.ports import TargetView
from orchestrator.errors import HistoryError
from orchestrator.execute.dispatch import Histories
from orchestrator.history import drivers, findings
from orchestrator.history.findings import EnvPy
from orchestrator.history.revisions import History
from orchestrator.registry.model import Registry, Shard, Track
from orchestrator.rollout.state import FleetState
from orchestrator.service import mistakes
from orchestrator.service.daemon import opened
from orchestrator.service.wiring import assembled
from orchestrator.settings import Settings

NAMES_SHOWN = 20
TROUBLES = (FleetState.UNREACHABLE, FleetState.AHEAD, FleetState.UNKNOWN)


@dataclass(frozen=True, slots=True)
class TrackFinding:
    """A track and its history; what could not be read is empty, and `mistakes` say why.

    `version_table` is as a registry file would have it, and `set_by` says whose it is: `env.py` or `registry`.
    """

    name: str
    targets: int
    isolation: str
    goal: str
    folder: str = ""
    asynchronous: bool = False
    drivers: tuple[str, ...] = ()
    revisions: int = 0
    heads: tuple[str, ...] = ()
    env_py: EnvPy = field(default_factory=EnvPy)
    execution: str = "online"
    version_table: str = ""
    set_by: str = "registry"
    mistakes: tuple[HistoryError, ...] = ()


@dataclass(frozen=True, slots=True)
class ShardFinding:
    """A shard; `place` tells neither user nor password."""

    name: str
    dialect: str
    place: str
    targets: int
    max_concurrent: int


@dataclass(frozen=True, slots=True)
class Findings:
    source: Path
    tracks: tuple[TrackFinding, ...]
    shards: tuple[ShardFinding, ...]
    tenants: int
    targets: int
    sources: tuple[str, ...] = ()

    @property
    def mistakes(self) -> tuple[HistoryError, ...]:
        return tuple(mistake for track in self.tracks for mistake in track.mistakes)


@dataclass(frozen=True, slots=True)
class Trouble:
    """Targets of one shard with the same problem. `tenants` holds the first few names, `count` all."""

    state: FleetState
    shard: str
    message: str
    count: int
    tenants: tuple[str, ...]


async def check(settings: Settings) -> Findings:
    """Read the registry and every history; connect to nothing.

    Raises RegistryError with all mistakes of the file, and UnsupportedAlembicError. The histories' mistakes are in
    what is returned.
    """
    source = await opened(settings)
    registry = source.current
    async with assembled(settings.model_copy(update={"store_url": SecretStr("sqlite://")}), source) as parts:
        tracks = [await _track(registry, track, parts.histories) for track in registry.tracks.values()]
    shards = tuple(_shard(registry, shard) for shard in registry.shards.values())
    tenants = len({target.tenant for target in registry.targets})
    sources = tuple(entry.name for entry in registry.discoveries)
    return Findings(registry.source, tuple(tracks), shards, tenants, len(registry.targets), sources)


async def _track(registry: Registry, track: Track, histories: Histories) -> TrackFinding:
    finding = TrackFinding(
        track.name, _targets(registry, track), track.isolation, track.goal, execution=track.execution
    )
    try:
        history = await histories.current(registry, track)
    except HistoryError as exc:
        return replace(finding, mistakes=(exc,))
    env_py = history.env_py
    return replace(
        finding,
        folder=history.snapshot.folder,
        asynchronous=history.is_async,
        drivers=_drivers(registry, track, history.is_async),
        revisions=len(history.snapshot.files),
        heads=history.heads,
        env_py=env_py,
        version_table=_version_table(track, env_py),
        set_by="env.py" if env_py.sets_version_table else "registry",
        mistakes=tuple(
            filter(None, (_ambiguous(history), mistakes.of_env_py(track, history), *_adopts(registry, history)))
        ),
    )


def _version_table(track: Track, env_py: EnvPy) -> str:
    ours = (track.version_table_schema, track.version_table)
    theirs = (env_py.version_table_schema, env_py.version_table)
    names = [findings.written(name) if name is not None else text for name, text in zip(theirs, ours, strict=True)]
    return ".".join(filter(None, names))


def _ambiguous(history: History) -> HistoryError | None:
    """Why the track's own goal means nothing in its history, if so: most of all, several heads."""
    try:
        history.resolve(history.track.goal)
    except HistoryError as exc:
        return exc
    return None


def _adopts(registry: Registry, history: History) -> Iterator[HistoryError]:
    """Revisions that targets are to be adopted at and this build does not have."""
    wanted = {target.adopt: target for target in registry.targets if target.track == history.track.name}
    for revision, target in wanted.items():
        try:
            if revision is not None:
                history.resolve(revision, "stamp")
        except HistoryError as exc:
            exc.message = f"`adopt` of {target.key}: {exc.message}"
            yield exc


def _targets(registry: Registry, track: Track) -> int:
    return sum(target.track == track.name for target in registry.targets)


def _drivers(registry: Registry, track: Track, asynchronous: bool) -> tuple[str, ...]:
    """Which drivers env.py will be given, over all shards where the track has targets."""
    shards = {target.shard for target in registry.targets if target.track == track.name}
    urls = [registry.shards[name].migration_url for name in sorted(shards)]
    return tuple(dict.fromkeys(drivers.drivername(url, asynchronous, track.driver) for url in urls))


def _shard(registry: Registry, shard: Shard) -> ShardFinding:
    targets = sum(target.shard == shard.name for target in registry.targets)
    url = shard.migration_url
    place = f"{url.host}:{url.port}" if url.host and url.port else url.host or url.database or "."
    return ShardFinding(shard.name, shard.dialect, place, targets, shard.max_concurrent)


def troubles(views: Iterable[TargetView]) -> Sequence[Trouble]:
    """Targets that a rollout could not migrate, by shard and cause, largest group first.

    Messages name their target's database; targets are of one cause when their messages differ in nothing else.
    """
    groups: dict[tuple[FleetState, str, str], list[TargetView]] = defaultdict(list)
    for view in views:
        if view.state in TROUBLES:
            groups[view.state, view.target.shard, _nameless(view)].append(view)
    found = [_trouble(state, shard, members) for (state, shard, _), members in groups.items()]
    return sorted(found, key=lambda trouble: -trouble.count)


def _trouble(state: FleetState, shard: str, members: Sequence[TargetView]) -> Trouble:
    tenants = tuple(sorted({view.target.tenant for view in members}))
    return Trouble(state, shard, _said(members[0]), len(members), tenants[:NAMES_SHOWN])


def _said(view: TargetView) -> str:
    if view.message:
        return view.message
    if view.state is FleetState.AHEAD:
        return f"its revision {', '.join(view.heads)} is not in this build"
    return "its heads were not read"


def _nameless(view: TargetView) -> str:
    names: Mapping[str, None] = dict.fromkeys(filter(None, (view.target.database, view.target.schema)))
    return re.sub("|".join(rf"\b{re.escape(name)}\b" for name in names) or "$^", "…", _said(view))
