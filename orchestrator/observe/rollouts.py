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
FAILURES = ("failed", "locked", "unreachable", "ahead")
FINISHED = frozenset({"succeeded", "failed", "aborted", "rolled_back"})
# Of a rollout whose waves are not told, as those of an earlier release are not.
ONLY_WAVE = "everyone"
# Of failures that another process saw, or an earlier one of ours: how many there are is known, and not why.
UNTOLD = "untold"

Key = tuple[str, str]  # tenant, track


@dataclass(frozen=True, slots=True)
class Before:
    """What is known of a rollout from before this process took it up. `since`: when it came to its `state`."""

    state: str
    since: datetime | None = None
    signatures: Mapping[Key, str] = field(default_factory=dict)


@dataclass(slots=True)
class RolloutPicture:
    """An active rollout. The states of all waves together always sum to `total`.

    `since`: when it came to its `state`, as far back as is known. `moved_at`: when something last went on, or when it
    last had a reason to wait. `resting`: all that it migrates is held. `allowed`: failures by wave that do not stop it
    yet.
    """

    track: str
    total: int
    started_at: datetime
    waves: dict[str, Counter[str]]
    state: str
    since: datetime
    moved_at: datetime
    waiting: bool = False
    resting: bool = False
    allowed: dict[str, int] = field(default_factory=dict)
    accepted: dict[str, int] = field(default_factory=dict)
    running: dict[Key, tuple[str, str]] = field(default_factory=dict)  # -> (wave, shard)
    signatures: dict[Key, str] = field(default_factory=dict)  # of the targets that failed

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

    def failures(self) -> Counter[str]:
        """Failed targets by signature; together as many as `counts` has."""
        told = Counter(self.signatures.values())
        untold = sum(self.counts[state] for state in FAILURES) - told.total()
        if untold > 0:
            told[UNTOLD] += untold
        return told

    def budgets_used(self) -> Mapping[str, float]:
        """By wave: the part of its failure budget that is used up; at 1 it is exceeded, and the rollout reacts.
        Failures that somebody has accepted are not in it."""
        found = {wave: sum(counts[state] for state in FAILURES) for wave, counts in self.waves.items()}
        seen = {wave: min(self.accepted.get(wave, 0), most) for wave, most in self.allowed.items()}
        return {
            wave: max(0, found.get(wave, 0) - seen[wave]) / (most - seen[wave] + 1)
            for wave, most in self.allowed.items()
        }

    def look(self, now: datetime, *, resting: int, backing_up: int) -> None:
        """Take over how many of its targets' backfills are held now, and how many targets are backed up. One target
        that is stuck beside others that are held is a standstill; a backup is work, and has a deadline of its own."""
        self.resting = 0 < len(self.running) <= resting
        if self.resting or backing_up:
            self.moved_at = max(now, self.moved_at)

    def start(self, event: events.MigrationStarted) -> None:
        key = (event.tenant, event.track)
        if key not in self.running:  # a further attempt is no further migration
            self._move(event.wave, PENDING, RUNNING)
            self.moved_at = event.at
        self.running[key] = (event.wave, event.shard)
        self.signatures.pop(key, None)

    def finish(self, event: events.MigrationFinished) -> None:
        key = (event.tenant, event.track)
        before = RUNNING if self.running.pop(key, None) else PENDING
        self._move(event.wave, before, event.outcome)
        self.moved_at = event.at
        if event.outcome in FAILURES:
            self.signatures[key] = event.signature or event.outcome
        else:
            self.signatures.pop(key, None)

    def change(self, event: events.RolloutStateChanged) -> None:
        """Take over state and counts from outside: migrations may be pending again, which no event tells."""
        if event.state != self.state:
            self.state, self.since = event.state, event.at
        self.moved_at = event.at
        self.waiting, self.allowed, self.accepted = event.waiting is not None, event.allowed, event.accepted
        if not event.counts.get(RUNNING):
            self.running.clear()
        self.total = event.total
        if sum(event.counts.values()) == self.total:
            self.waves = _waves(event.waves, event.counts)
            if not any(event.counts.get(state) for state in FAILURES):
                self.signatures.clear()
        for key in event.again:
            self.signatures.pop(key, None)

    def recall(self, before: Before) -> None:
        if before.state == self.state and before.since is not None:
            self.since = min(self.since, before.since)
        self.signatures = {**before.signatures, **self.signatures}

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
        self._recalled: dict[str, Before] = {}

    def items(self) -> Iterable[tuple[str, RolloutPicture]]:
        return self._pictures.items()

    def get(self, rollout: str) -> RolloutPicture | None:
        return self._pictures.get(rollout)

    def recall(self, rollout: str, before: Before) -> None:
        """Take over what was known of a rollout before this process takes it up. Before anything of it goes on."""
        if picture := self._pictures.get(rollout):
            picture.recall(before)
        else:
            self._recalled[rollout] = before

    def in_progress(self) -> Counter[str]:
        """Running migrations by shard."""
        return Counter(shard for picture in self._pictures.values() for _wave, shard in picture.running.values())

    def apply(self, event: events.RolloutEvent) -> None:
        match event:
            case events.RolloutCreated():
                pending = {wave: {PENDING: total} for wave, total in event.waves.items()}
                waves = _waves(pending, {PENDING: event.total})
                self._add(event, PENDING, event.total, event.at, waves)
            case events.RolloutStateChanged(state=state) if state in FINISHED:
                self._pictures.pop(event.rollout, None)
            case events.RolloutStateChanged():
                if event.rollout not in self._pictures:
                    started_at = event.at - timedelta(seconds=event.seconds)
                    self._add(event, event.state, event.total, started_at, _waves(event.waves, event.counts))
                self._pictures[event.rollout].change(event)
            case events.MigrationStarted() if picture := self._pictures.get(event.rollout):
                picture.start(event)
            case events.MigrationFinished() if picture := self._pictures.get(event.rollout):
                picture.finish(event)
            case _ if _goes_on(event) and (picture := self._pictures.get(event.rollout)):
                picture.moved_at = event.at

    def _add(
        self, event: events.RolloutEvent, state: str, total: int, started_at: datetime, waves: dict[str, Counter[str]]
    ) -> None:
        picture = RolloutPicture(event.track, total, started_at, waves, state, event.at, event.at)
        if (before := self._recalled.pop(event.rollout, None)) is not None:
            picture.recall(before)
        self._pictures[event.rollout] = picture


def _goes_on(event: events.RolloutEvent) -> bool:
    match event:
        case events.StepApplied() | events.WaveChanged() | events.BackfillStarted() | events.BackupTaken():
            return True
        case events.BackfillAdvanced():
            return bool(event.batches)
        case _:
            return False
