"""The active rollouts as folded from events: how many of their targets are in which state, wave by wave."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from orchestrator import events

PENDING, RUNNING = "pending", "running"
OUTCOMES = (
    "succeeded",
    "up_to_date",
    "failed",
    "locked",
    "unreachable",
    "ahead",
    "skipped",
    "cancelled",
    "rolled_back",
)
MIGRATION_STATES = (PENDING, RUNNING, *OUTCOMES)
FINISHED = frozenset({"succeeded", "failed", "aborted", "rolled_back"})
# Of a rollout whose waves are not told, as those of an earlier release are not.
ONLY_WAVE = "everyone"


@dataclass(slots=True)
class RolloutPicture:
    """An active rollout. The states of all waves together always sum to `total`."""

    track: str
    total: int
    started_at: datetime
    waves: dict[str, Counter[str]]
    running: dict[str, tuple[str, str]] = field(default_factory=dict)  # tenant -> (wave, shard)

    @property
    def counts(self) -> Counter[str]:
        return sum(self.waves.values(), start=Counter())

    @property
    def progress_ratio(self) -> float:
        """Finished part of the total, 0 to 1; an empty rollout is complete."""
        counts = self.counts
        return sum(counts[outcome] for outcome in OUTCOMES) / self.total if self.total else 1.0

    def age_seconds(self, now: datetime) -> float:
        return max(0.0, (now - self.started_at).total_seconds())

    def start(self, event: events.MigrationStarted) -> None:
        if event.tenant not in self.running:  # a further attempt is no further migration
            self._move(event.wave, PENDING, RUNNING)
        self.running[event.tenant] = (event.wave, event.shard)

    def finish(self, event: events.MigrationFinished) -> None:
        before = RUNNING if self.running.pop(event.tenant, None) else PENDING
        self._move(event.wave, before, event.outcome)

    def recount(self, event: events.RolloutStateChanged) -> None:
        """Take over counts from outside: migrations may have been put back to pending, which no event tells."""
        if not event.counts.get(RUNNING):
            self.running.clear()
        self.total = event.total
        if sum(event.counts.values()) == self.total:
            self.waves = _waves(event.waves, event.counts)

    def _move(self, wave: str, before: str, after: str) -> None:
        counts = self.waves.setdefault(wave, Counter())
        source = counts if counts[before] > 0 else self.waves.get(ONLY_WAVE, counts)
        if source[before] > 0:
            source[before] -= 1
            counts[after] += 1


def _waves(told: Mapping[str, Mapping[str, int]], counts: Mapping[str, int]) -> dict[str, Counter[str]]:
    return {wave: Counter(found) for wave, found in (told or {ONLY_WAVE: counts}).items()}


class Rollouts:
    """The active rollouts by id. A rollout leaves when it finishes, and comes back when it is retried."""

    def __init__(self) -> None:
        self._pictures: dict[str, RolloutPicture] = {}

    def items(self) -> Iterable[tuple[str, RolloutPicture]]:
        return self._pictures.items()

    def get(self, rollout: str) -> RolloutPicture | None:
        return self._pictures.get(rollout)

    def in_progress(self) -> Counter[str]:
        """Running migrations by shard."""
        return Counter(shard for picture in self._pictures.values() for _wave, shard in picture.running.values())

    def apply(self, event: events.RolloutEvent) -> None:
        match event:
            case events.RolloutCreated():
                pending = {wave: {PENDING: total} for wave, total in event.waves.items()}
                waves = _waves(pending, {PENDING: event.total})
                self._add(event.rollout, event.track, event.total, event.at, waves)
            case events.RolloutStateChanged(state=state) if state in FINISHED:
                self._pictures.pop(event.rollout, None)
            case events.RolloutStateChanged():
                self._change(event)
            case events.MigrationStarted() if picture := self._pictures.get(event.rollout):
                picture.start(event)
            case events.MigrationFinished() if picture := self._pictures.get(event.rollout):
                picture.finish(event)

    def _change(self, event: events.RolloutStateChanged) -> None:
        if picture := self._pictures.get(event.rollout):
            picture.recount(event)
        else:
            started_at = event.at - timedelta(seconds=event.seconds)
            self._add(event.rollout, event.track, event.total, started_at, _waves(event.waves, event.counts))

    def _add(self, rollout: str, track: str, total: int, started_at: datetime, waves: dict[str, Counter[str]]) -> None:
        self._pictures[rollout] = RolloutPicture(track, total, started_at, waves)
