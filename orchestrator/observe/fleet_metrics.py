"""The metrics of the fleet, read from its sums at each scrape."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from prometheus_client import Metric
from prometheus_client.registry import Collector

from orchestrator.observe.families import Sample, gauge, short
from orchestrator.observe.fleet import FLEET_STATES, Fleet, revisions
from orchestrator.observe.shard_labels import Shards, summed

# A track's revisions beyond these are summed up as `other`: version tables are tenants' data, labels must be bounded.
MAX_REVISIONS = 60
# So many in all, where there are several tracks; of each of them at least the fewest.
MAX_REVISIONS_OF_ALL, FEWEST_REVISIONS = 120, 3


class FleetCollector(Collector):
    """Nothing is kept between scrapes. `laggards`: so many targets are named; 0 names none."""

    def __init__(self, fleet: Fleet, clock: Callable[[], datetime], laggards: int, shards: Shards) -> None:
        self._fleet, self._clock, self._most, self._shards = fleet, clock, laggards, shards

    def collect(self) -> Iterator[Metric]:
        now = self._clock()
        yield gauge("targets", "Targets by fleet state.", ["track", "shard", "state"], self._targets())
        yield gauge(
            "target_revisions",
            "Targets by the revision they are at; one with several heads counts for each.",
            ["track", "revision"],
            bounded(self._fleet.by_revision()),
        )
        yield gauge(
            "oldest_pending_target_seconds",
            "How long the target that waits longest has had something to apply.",
            ["track"],
            (((track,), age) for track, age in self._fleet.oldest_pending_seconds(now).items()),
        )
        yield gauge(
            "migrations_in_progress",
            "Migrations running now.",
            ["shard"],
            (((shard,), n) for shard, n in self._in_progress().items()),
        )
        yield from self._laggards(now)

    def _laggards(self, now: datetime) -> Iterator[Metric]:
        named = self._fleet.laggards(self._most)
        yield gauge(
            "laggard_info",
            "The targets that have had something to apply for longest; always 1. ORCHESTRATOR_METRICS_LAGGARDS says "
            "how many are named; none, unless it is set.",
            ["tenant", "track", "shard", "state", "revision"],
            (
                ((tenant, track, seen.shard, seen.state, short(",".join(revisions(seen)) or "unknown")), 1)
                for (tenant, track), seen in named
            ),
        )
        yield gauge(
            "laggard_pending_seconds",
            "How long each of the named laggards has had something to apply.",
            ["tenant", "track"],
            (((tenant, track), (now - (seen.pending_since or now)).total_seconds()) for (tenant, track), seen in named),
        )

    def _targets(self) -> Iterator[Sample]:
        by_state: Tally[tuple[str, str, str]] = Tally()
        for (track, shard, state), number in self._fleet.by_state().items():
            by_state[track, self._shards.wide(shard), state] += number
        places = {(track, shard) for track, shard, _state in by_state}
        for track, shard in sorted(places):
            for state in FLEET_STATES:
                yield (track, shard, state), by_state[track, shard, state]

    def _in_progress(self) -> Mapping[str, float]:
        idle = {shard: 0 for _track, shard, _state in self._fleet.by_state()}
        return summed(idle | self._fleet.rollouts.in_progress(), self._shards.wide)


def bounded(by_revision: Mapping[tuple[str, str], int]) -> Iterator[Sample]:
    tracks: dict[str, Tally[str]] = {}
    for (track, revision), n in by_revision.items():
        tracks.setdefault(track, Tally())[revision] = n
    most = max(FEWEST_REVISIONS, min(MAX_REVISIONS, MAX_REVISIONS_OF_ALL // max(1, len(tracks))))
    for track, tally in tracks.items():
        shown = tally.most_common(most)
        yield from (((track, short(revision)), n) for revision, n in shown)
        if rest := tally.total() - sum(n for _revision, n in shown):
            yield (track, "other"), rest
