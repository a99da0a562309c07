"""The fleet as folded from events: what is known of each target, and of each active rollout.

Pure: no clock, no database. Every event costs the same however large the fleet is, and sums are kept, not computed.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from orchestrator import events
from orchestrator.observe.rollouts import Rollouts

UP_TO_DATE, BEHIND, AHEAD = "up_to_date", "behind", "ahead"
UNPROVISIONED, UNREACHABLE, UNKNOWN = "unprovisioned", "unreachable", "unknown"
FLEET_STATES = (UP_TO_DATE, BEHIND, AHEAD, UNPROVISIONED, UNREACHABLE, UNKNOWN)

Key = tuple[str, str]  # tenant, track


class Placed(Protocol):
    """A target of the registry, as much of it as is needed here."""

    @property
    def tenant(self) -> str: ...
    @property
    def track(self) -> str: ...
    @property
    def shard(self) -> str: ...


@dataclass(frozen=True, slots=True)
class TargetPicture:
    """A target as it was last seen.

    `heads` and `read_at` (None: never read) are of the last successful reading. `pending_since` is when it was first
    seen, by this process or one before, that the target has something to apply; it outlives readings that fail.
    """

    shard: str
    state: str = UNKNOWN
    heads: tuple[str, ...] = ()
    read_at: datetime | None = None
    message: str | None = None
    pending_since: datetime | None = None


def observed(before: TargetPicture, event: events.TargetObserved) -> TargetPicture:
    """The picture after a reading, or after one that failed."""
    if event.state in (UNREACHABLE, UNKNOWN):
        return replace(before, state=event.state, message=event.message)
    return read(before, event.state, event.heads, event.at, event.message)


def migrated(before: TargetPicture, event: events.MigrationFinished, goal: frozenset[str] | None) -> TargetPicture:
    """The picture after a migration; `goal` holds the track's heads, None when they are not known.

    Reaching a rollout's goal is not the same as being up to date: the rollout may have aimed lower.
    """
    match event.outcome:
        case "succeeded" | "up_to_date":
            return read(before, compared(event.to_heads, goal), event.to_heads, event.at)
        case "ahead":
            return read(before, AHEAD, event.to_heads or event.from_heads, event.at, event.message)
        case "unreachable":
            return replace(before, state=UNREACHABLE, message=event.message)
        case "failed" | "cancelled" if event.to_heads:
            state = BEHIND if goal is None else compared(event.to_heads, goal)
            return read(before, state, event.to_heads, event.at)
        case _:
            return before


def compared(heads: tuple[str, ...], goal: frozenset[str] | None) -> str:
    """The fleet state of a target whose heads this build knows."""
    if goal is None:
        return UP_TO_DATE if heads else UNPROVISIONED
    if frozenset(heads) == goal:
        return UP_TO_DATE
    return BEHIND if heads else UNPROVISIONED


def read(
    before: TargetPicture, state: str, heads: tuple[str, ...], at: datetime, message: str | None = None
) -> TargetPicture:
    pending = state in (BEHIND, UNPROVISIONED)
    since = (before.pending_since or at) if pending else None
    return TargetPicture(before.shard, state, heads, at, message, since)


def revisions(picture: TargetPicture) -> tuple[str, ...]:
    """The revisions that a target counts for: `base` when it was read and has none."""
    if picture.read_at is None:
        return ()
    return picture.heads or ("base",)


class Fleet:
    """Fold events in with `apply`; `set_targets` says of which targets. Events of other targets are ignored."""

    def __init__(self) -> None:
        self.rollouts = Rollouts()
        self.throttled: dict[str, events.ShardThrottled | events.ShardLimitChanged] = {}
        self._standby = False
        self._targets: dict[Key, TargetPicture] = {}
        self._pending: dict[Key, datetime] = {}
        self._goals: dict[str, frozenset[str]] = {}
        self._recalled: dict[Key, datetime] = {}
        self._by_state: Counter[tuple[str, str, str]] = Counter()
        self._by_revision: Counter[tuple[str, str]] = Counter()

    def set_targets(self, targets: Iterable[Placed]) -> None:
        """The registry's targets: new ones are `unknown`, so are those whose shard changed, which stay
        pending; others leave."""
        shards = {(target.tenant, target.track): target.shard for target in targets}
        for key in self._targets.keys() - shards.keys():
            self._put(key, None)
        for key, shard in shards.items():
            picture = self._targets.get(key)
            if picture is None or picture.shard != shard:
                since = picture.pending_since if picture else self._recalled.pop(key, None)
                self._put(key, TargetPicture(shard, pending_since=since))

    def recall_pending(self, since: Mapping[Key, datetime]) -> None:
        """Take over what was known before this process: since when targets have had something to apply. It counts for
        those that have by now, or were never read; and for those that are not among the targets yet, once they are."""
        self._recalled = {key: moment for key, moment in since.items() if key not in self._targets}
        for key in since.keys() & self._targets.keys():
            picture = self._targets[key]
            if picture.read_at is None or picture.pending_since is not None:
                earliest = min(since[key], picture.pending_since or since[key])
                self._put(key, replace(picture, pending_since=earliest))

    def pending(self) -> Mapping[Key, datetime]:
        """Since when targets have had something to apply."""
        return self._pending

    def set_goals(self, goals: Mapping[str, Iterable[str]]) -> None:
        """The heads of each track's history. Counts for events from now on; states already seen stay."""
        self._goals = {track: frozenset(heads) for track, heads in goals.items()}

    def apply(self, event: events.Event) -> None:
        """Subscribe this to the bus."""
        match event:
            case events.TargetObserved() if before := self.target(event.tenant, event.track):
                self._put((event.tenant, event.track), observed(before, event))
            case events.MigrationFinished() if before := self.target(event.tenant, event.track):
                self._put((event.tenant, event.track), migrated(before, event, self._goals.get(event.track)))
            case events.ShardLimitChanged(reason=None):
                self.throttled.pop(event.shard, None)
            case events.ShardThrottled() | events.ShardLimitChanged():
                self.throttled[event.shard] = event
            case events.StoodBy():
                self._standby = True
            case events.LeaderElected():
                self._standby = False
        if isinstance(event, events.RolloutEvent) and not self._standby:
            self.rollouts.apply(event)  # a standby sees rollouts begin, and not how they go on

    def target(self, tenant: str, track: str) -> TargetPicture | None:
        return self._targets.get((tenant, track))

    def is_behind(self, tenant: str, track: str, now: datetime, *, within_seconds: float) -> bool:
        """Whether the target was read within these seconds and had something to apply."""
        seen = self.target(tenant, track)
        if seen is None or seen.read_at is None or seen.state not in (BEHIND, UNPROVISIONED):
            return False
        return (now - seen.read_at).total_seconds() <= within_seconds

    def by_state(self) -> Mapping[tuple[str, str, str], int]:
        """Targets by (track, shard, state)."""
        return self._by_state

    def by_place(self) -> Mapping[tuple[str, str], int]:
        """Targets by (track, shard)."""
        found: Counter[tuple[str, str]] = Counter()
        for (track, shard, _state), number in self._by_state.items():
            found[track, shard] += number
        return found

    def by_revision(self) -> Mapping[tuple[str, str], int]:
        """Targets by (track, revision); one with several heads counts for each."""
        return self._by_revision

    def oldest_pending_seconds(self, now: datetime) -> Mapping[str, float]:
        """By track: for how long the target that waits longest has had something to apply; 0 where none waits."""
        oldest = {track: now for track, _shard, _state in self._by_state}
        for (_tenant, track), since in self._pending.items():
            oldest[track] = min(since, oldest[track])
        return {track: (now - since).total_seconds() for track, since in oldest.items()}

    def laggards(self, most: int) -> Sequence[tuple[Key, TargetPicture]]:
        """The targets that have had something to apply for longest, the first of them first."""
        found = heapq.nsmallest(most, self._pending.items(), key=lambda item: (item[1], item[0]))
        return [(key, self._targets[key]) for key, _since in found]

    def _put(self, key: Key, after: TargetPicture | None) -> None:
        if before := self._targets.pop(key, None):
            self._tally(key[1], before, -1)
        self._pending.pop(key, None)
        if after:
            self._targets[key] = after
            self._tally(key[1], after, 1)
            if after.pending_since:
                self._pending[key] = after.pending_since

    def _tally(self, track: str, picture: TargetPicture, change: int) -> None:
        _add(self._by_state, (track, picture.shard, picture.state), change)
        for revision in revisions(picture):
            _add(self._by_revision, (track, revision), change)


def _add(counter: Counter[Any], key: tuple[str, ...], change: int) -> None:
    counter[key] += change
    if not counter[key]:
        del counter[key]
