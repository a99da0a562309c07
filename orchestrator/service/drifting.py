"""Drift: compare schemas now, for a terminal; look for the daemon; and show what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog
from anyio.lowlevel import cancel_shielded_checkpoint

from orchestrator.errors import ConfigurationError, HistoryError
from orchestrator.events import now
from orchestrator.execute.comparing import Comparer
from orchestrator.plan import drift, drift_records
from orchestrator.plan.drift import Group, Standing, Verdict
from orchestrator.plan.drift_records import KEPT_LINES, Record
from orchestrator.plan.drifted_lines import Difference
from orchestrator.registry.model import Registry, Target, TargetKey, Track
from orchestrator.rollout.state import EVERY
from orchestrator.service import requests
from orchestrator.service.steering import COMMANDS, Steering
from orchestrator.service.wiring import Parts

# What a leader does for others: a method of the service.
COMMAND = "look_for_drift"
COMMANDS.add(COMMAND)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Question:
    """Whom to compare. `reference`: the tenant that is right; `tenant`: the one that is asked about, whose difference
    is told up to `most` lines."""

    track: str = EVERY
    select: str = ""
    reference: str | None = None
    tenant: str | None = None
    most: int = KEPT_LINES


@dataclass(frozen=True, slots=True)
class Compared:
    verdicts: Sequence[Verdict]
    differences: Mapping[TargetKey, Difference]
    shards: Mapping[TargetKey, str]


class Drifting:
    """Implements `api.drift_ports.Drifting`. `wanted`: tracks that somebody has asked to be looked at, by now."""

    def __init__(self, parts: Parts, steering: Steering) -> None:
        self._parts, self._steering = parts, steering
        self._comparer = Comparer(parts.migrator, parts.surveyor.slots)
        self.wanted: set[str] = set()

    async def compare(self, question: Question) -> Compared:
        """Read the schemas of the targets now. Raises ConfigurationError, SelectorError and DiscoveryError."""
        registry = self._parts.source.current
        targets = self._targets(registry, question)
        await self._settle(registry, {target.track for target in targets})
        verdicts = await self._comparer.judge(registry, targets, question.reference)
        _check_comparable(question, verdicts)
        asked = [one for one in verdicts if question.tenant in (None, one.key.tenant)]
        differences = await self._comparer.differences(registry, asked, question.most)
        return Compared(asked, differences, {target.key: target.shard for target in targets})

    def _targets(self, registry: Registry, question: Question) -> Sequence[Target]:
        """Those that are selected; with both a tenant and a reference, no others need to be read."""
        tracks = requests.find_tracks(registry, question.track)
        requests.check_whole(registry, tracks, self._parts.source.sources)
        named = [name for name in (question.tenant, question.reference) if name is not None]
        of_track = [one for one in registry.targets if one.track in {track.name for track in tracks}]
        for name in named:
            if not any(one.tenant == name for one in of_track):
                requests.find_target(registry, tracks[0].name, name)  # which raises
        if question.tenant is not None and question.reference is not None:
            return [one for one in of_track if one.tenant in named]
        chosen = {one.key for one in requests.select(registry, question.track, question.select)}
        return [one for one in of_track if one.key in chosen or one.tenant in named]

    async def _settle(self, registry: Registry, tracks: set[str]) -> None:
        """Have the histories read: an env.py may work on another version table than the registry says."""
        for track in sorted(tracks):
            try:
                await self._parts.histories.current(registry, registry.tracks[track])
            except HistoryError as exc:
                log.warning("history_unusable", track=track, message=exc.message, remedy=exc.remedy)

    # The daemon's looks

    async def look(self, registry: Registry, track: Track) -> Sequence[Record]:
        """Compare the targets of the registry's track, and write down what was found, but for those that a rollout
        holds: it may have changed them since. They count among those that should be alike: most of the fleet may be
        held for days, and what is left has no majority of its own. Returns all that is known. Raises StoreError."""
        store = self._parts.store.drift
        held = await store.held(track.name)
        targets = [one for one in registry.targets if one.track == track.name]
        await self._settle(registry, {track.name})
        before = {record.key: record for record in await store.listed(track=track.name)}
        last = {key: record.last for key, record in before.items() if record.last is not None}
        verdicts = await self._comparer.judge(registry, targets, last=last)
        held |= await store.held(track.name)  # by a rollout that has begun meanwhile, and may have changed them
        verdicts = [one for one in verdicts if one.key.tenant not in held]
        found = await self._comparer.differences(registry, verdicts, KEPT_LINES)
        current = self._parts.source.current
        shards = {one.key: one.shard for one in current.targets if one.track == track.name}
        followed = drift_records.follow(before, verdicts, found, shards, now())
        await store.replace(track.name, followed.records)
        for event in followed.events:
            self._parts.bus.publish(event)
            await cancel_shielded_checkpoint()  # there may be thousands, and others have their turn between
        return followed.records

    async def ask_look(self, *, by: str, track: str | None = None) -> Sequence[str]:
        registry = self._parts.source.current
        tracks = requests.find_tracks(registry, track or EVERY)
        names = [one.name for one in tracks if one.drift.every_seconds]
        if track is not None and not names:
            raise ConfigurationError(
                f"the daemon does not look for drift of track {track!r}: the registry says `every: never`",
                remedy=f"ask a terminal: `orchestrator drift --track {track}`",
            )
        if self._steering.leads:
            self.want(names)
        else:
            await self._steering.ask(COMMAND, "", {"by": by, "tracks": names})
        return names

    def want(self, tracks: Sequence[str]) -> None:
        """Have these tracks looked at soon, whatever their interval."""
        self.wanted |= set(tracks)

    async def listed(
        self,
        *,
        track: str | None = None,
        standings: Sequence[Standing] = (),
        limit: int = 100,
        after: TargetKey | None = None,
    ) -> Sequence[Record]:
        return await self._parts.store.drift.listed(track=track, standings=standings, limit=limit, after=after)


def _check_comparable(question: Question, verdicts: Sequence[Verdict]) -> None:
    """Two that are asked for by name must not be told as well because they were never compared."""
    tenant, reference = question.tenant, question.reference
    if tenant is None or reference is None or tenant == reference:
        return
    groups = drift.apart(verdicts, tenant, reference)
    if groups is not None:
        one, other = map(_where, groups)
        raise ConfigurationError(
            f"{tenant} cannot be compared with {reference}: {tenant} is {one}, {reference} is {other}",
            remedy="name a reference at the same revision, or migrate one of them first; `--track` leaves out others",
        )


def _where(group: Group | None) -> str:
    if group is None:
        return "at no revision"
    beside = "".join(f", with {track} at {', '.join(heads) or 'no revision'}" for track, heads in group.beside)
    return f"at revision {', '.join(group.heads)} of {group.track} on {group.server}{beside}"
