"""Which rows of backfills have a series: by track, shard and revision, while a rollout has them and some time after."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime

from orchestrator import events
from orchestrator.observe.families import short
from orchestrator.observe.shard_labels import OTHER, Shards

# Of the revisions that have rows now, so many of each track are named.
MAX_REVISIONS = 20
# A revision's rows are shown for so long after the last rollout with it has ended: a scrape must see their number.
KEPT_SECONDS = 900.0

Row = tuple[str, str, str]  # track, shard, revision: as labels


class Rows:
    """`is_active`: whether a rollout has begun, and not ended. What is told of one that is not active counts still, and
    its row goes like one whose rollout has ended: nobody would tell of that end again."""

    def __init__(self, shards: Shards, is_active: Callable[[str], bool]) -> None:
        self._shards, self._is_active = shards, is_active
        self._used: dict[Row, set[str]] = {}  # by which active rollouts
        self._unused: dict[Row, datetime] = {}  # since when
        self._revisions: defaultdict[str, Counter[str]] = defaultdict(Counter)  # by track: with how many rows

    def row(self, event: events.BackfillEvent) -> Row:
        """The row that an event counts for."""
        named, revision = self._revisions[event.track], short(event.revision)
        if revision not in named and len(named) >= MAX_REVISIONS:
            revision = OTHER
        row = event.track, self._shards.wide(event.shard), revision
        if row not in self._used:
            self._used[row] = set()
            named[revision] += 1
        if self._is_active(event.rollout):
            self._used[row].add(event.rollout)
            self._unused.pop(row, None)
        elif not self._used[row]:
            self._unused[row] = event.at
        return row

    def end(self, rollout: str, at: datetime) -> None:
        for row, rollouts in self._used.items():
            if rollout in rollouts:
                rollouts.discard(rollout)
                if not rollouts:
                    self._unused[row] = at

    def forgotten(self, now: datetime) -> Sequence[Row]:
        """Those that have gone by now."""
        return self._forget([row for row, at in self._unused.items() if (now - at).total_seconds() >= KEPT_SECONDS])

    def forget_shards(self) -> Sequence[Row]:
        """Those of shards that have no name any more; they have gone."""
        return self._forget([row for row in self._used if self._shards.wide(row[1]) != row[1]])

    def _forget(self, rows: Sequence[Row]) -> Sequence[Row]:
        for row in rows:
            del self._used[row]
            self._unused.pop(row, None)
            track, _shard, revision = row
            self._revisions[track][revision] -= 1
            if not self._revisions[track][revision]:
                del self._revisions[track][revision]
        return rows
