"""Backfills as folded from events: how far each revision is, and for how long shards were held, and why.

Pure: no clock, no database. Every event costs the same however many backfills there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from orchestrator import events
from orchestrator.observe.rollouts import FINISHED


class Key(NamedTuple):
    rollout: str
    tenant: str
    track: str
    revision: str
    direction: str
    ordinal: int


Holder = tuple[str | None, str | None, str | None]  # rollout, tenant, track; nothing: all of a shard
Revision = tuple[str, str]  # track, revision


@dataclass(slots=True)
class _Rows:
    """Rows of a revision, over all its backfills; `estimated` as far as it is known."""

    seen: int = 0
    estimated: int = 0


@dataclass(frozen=True, slots=True)
class _Part:
    """What one backfill adds to its revision's rows."""

    seen: int
    estimated: int


@dataclass(slots=True)
class _Held:
    """A shard that waits for one reason: who does, since when, and how long that was before."""

    holders: set[Holder] = field(default_factory=set)
    since: datetime | None = None
    seconds: float = 0.0


class Backfills:
    """Fold events in with `apply`. What concerns a rollout goes when it ends, and what is held on a shard when its last
    backfill has."""

    def __init__(self) -> None:
        self._parts: dict[Key, _Part] = {}
        self._rows: dict[Revision, _Rows] = {}
        self._of_rollout: dict[str, set[Key]] = {}
        self._underway: dict[Key, str] = {}
        self._busy: Counter[str] = Counter()
        self._sizes: dict[str, dict[Key, int]] = {}
        self._held: dict[tuple[str, str], _Held] = {}

    def apply(self, event: events.Event) -> None:
        match event:
            case events.BackfillStarted():
                self._begin(event)
            case events.BackfillProgressed():
                self._resize(_key(event), event.shard, event.size)
                self._measure(_key(event), event.seen, event.estimated)
            case events.BackfillFinished() | events.BackfillStopped():
                done = isinstance(event, events.BackfillFinished)
                self._measure(_key(event), event.seen, event.seen if done else event.estimated)
                self._end(_key(event), event.at)
            case events.BackfillHeld():
                self._hold(event)
            case events.BackfillReleased():
                self._release(event.shard, event.reason, _holder(event), event.at)
            case events.RolloutStateChanged(state=state) if state in FINISHED:
                self._forget(event.rollout, event.at)
            case events.LeaderLost():
                for key in list(self._underway):
                    self._end(key, event.at)

    def progress_ratios(self) -> Mapping[Revision, float]:
        """Rows passed by rows to pass, over the backfills that have begun in active rollouts; without those of which
        nobody knows how much there is."""
        return {
            revision: min(1.0, rows.seen / rows.estimated) for revision, rows in self._rows.items() if rows.estimated
        }

    def batch_sizes(self) -> Mapping[str, float]:
        """By shard, over the backfills that are underway on it: the mean of their next batches, in rows."""
        return {shard: sum(sizes.values()) / len(sizes) for shard, sizes in self._sizes.items() if sizes}

    def in_progress(self) -> Mapping[str, int]:
        """Backfills that are underway, by shard; a shard that had one stays, with 0."""
        return self._busy

    def throttled_seconds(self, now: datetime) -> Mapping[tuple[str, str], float]:
        """By shard and reason: in how much time at least one backfill waited."""
        return {key: held.seconds + _elapsed(held.since, now) for key, held in self._held.items()}

    def _begin(self, event: events.BackfillStarted) -> None:
        key = _key(event)
        if key not in self._underway:
            self._underway[key] = event.shard
            self._busy[event.shard] += 1
        self._of_rollout.setdefault(event.rollout, set()).add(key)
        self._measure(key, event.seen, event.estimated)
        if event.size is not None:
            self._resize(key, event.shard, event.size)

    def _resize(self, key: Key, shard: str, size: int) -> None:
        if key in self._underway:
            self._sizes.setdefault(shard, {})[key] = size

    def _measure(self, key: Key, seen: int, estimated: int | None) -> None:
        if key not in self._of_rollout.get(key.rollout, ()):
            return  # what was underway when its rollout was told to have ended
        # An estimate that has turned out too low is at least what was passed; without one, neither counts.
        part = _Part(0, 0) if estimated is None else _Part(seen, max(estimated, seen))
        rows, before = self._rows.setdefault((key.track, key.revision), _Rows()), self._parts.get(key, _Part(0, 0))
        rows.seen += part.seen - before.seen
        rows.estimated += part.estimated - before.estimated
        self._parts[key] = part

    def _end(self, key: Key, at: datetime) -> None:
        shard = self._underway.pop(key, None)
        if shard is None:
            return
        self._busy[shard] -= 1
        self._sizes.get(shard, {}).pop(key, None)
        own: Holder = (key.rollout, key.tenant, key.track)
        for place, reason in [held for held in self._held if held[0] == shard]:
            self._release(place, reason, own, at)
            if not self._busy[shard]:
                self._release(place, reason, None, at)

    def _hold(self, event: events.BackfillHeld) -> None:
        held = self._held.setdefault((event.shard, event.reason), _Held())
        held.holders.add(_holder(event))
        held.since = held.since or event.at

    def _release(self, shard: str, reason: str, holder: Holder | None, at: datetime) -> None:
        """Without a holder, all of them."""
        held = self._held.get((shard, reason))
        if held is None or held.since is None:
            return
        held.holders = set() if holder is None else held.holders - {holder}
        if not held.holders:
            held.seconds, held.since = held.seconds + _elapsed(held.since, at), None

    def _forget(self, rollout: str, at: datetime) -> None:
        keys = self._of_rollout.pop(rollout, set())
        for key in keys:
            self._end(key, at)
            part = self._parts.pop(key, _Part(0, 0))
            rows = self._rows.get((key.track, key.revision), _Rows())
            rows.seen -= part.seen
            rows.estimated -= part.estimated
        left = {(key.track, key.revision) for key in self._parts}
        self._rows = {revision: rows for revision, rows in self._rows.items() if revision in left}


def _key(event: events.BackfillEvent) -> Key:
    return Key(event.rollout, event.tenant, event.track, event.revision, event.direction, event.ordinal)


def _holder(event: events.BackfillHoldEvent) -> Holder:
    return event.rollout, event.tenant, event.track


def _elapsed(since: datetime | None, now: datetime) -> float:
    return 0.0 if since is None else max(0.0, (now - since).total_seconds())
