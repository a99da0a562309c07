"""How a rollout stands, wave by wave: counted from its migrations as they change. Knows no clock and no store."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from orchestrator.registry.model import TargetKey
from orchestrator.rollout.state import FAILURES, UNFINISHED, Migration, MigrationState

# What tells of the revision, and not of a server, a lock or another build.
_OF_A_REVISION = MigrationState.FAILED
# What says that migrations go well again; a target that was at its goal says nothing.
_GOOD = frozenset({MigrationState.SUCCEEDED, MigrationState.ROLLED_BACK})


class Seen(NamedTuple):
    """What counts of one migration. `unturned`: a rollback has something to do with it and has not yet."""

    wave: str
    state: MigrationState
    signature: str | None
    lost: bool
    unturned: bool


@dataclass(slots=True)
class WaveTally:
    """One wave. `streak`: so many failures in a row, in the order in which they ended."""

    counts: Counter[MigrationState] = field(default_factory=Counter)
    signatures: Counter[str] = field(default_factory=Counter)
    streak: int = 0

    @property
    def total(self) -> int:
        return self.counts.total()

    @property
    def failures(self) -> int:
        return sum(self.counts[state] for state in FAILURES)

    @property
    def unfinished(self) -> int:
        return sum(self.counts[state] for state in UNFINISHED)

    @property
    def worked(self) -> bool:
        """Whether anything was to be done in it: a wave of targets that were all at the goal proves nothing."""
        return any(n for state, n in self.counts.items() if state is not MigrationState.UP_TO_DATE)


class Tally:
    """All waves, kept up to date by `note`."""

    def __init__(self, migrations: Iterable[Migration] = ()) -> None:
        self._seen: dict[TargetKey, Seen] = {}
        self.waves: defaultdict[str, WaveTally] = defaultdict(WaveTally)
        self.counts: Counter[MigrationState] = Counter()
        self.unturned = 0
        self.lost = 0  # which could not be taken back
        for migration in sorted(migrations, key=lambda it: (it.finished_at is not None, it.finished_at)):
            self.note(migration)

    def __contains__(self, key: TargetKey) -> bool:
        return key in self._seen

    def state(self, key: TargetKey) -> MigrationState:
        return self._seen[key].state

    def wave(self, name: str) -> WaveTally:
        return self.waves[name]

    def done_in(self, wave: str) -> Sequence[TargetKey]:
        """The targets of a wave that this rollout has brought to its goal."""
        return [key for key, seen in self._seen.items() if seen.wave == wave and seen.state is MigrationState.SUCCEEDED]

    def by_wave(self) -> Mapping[str, Mapping[MigrationState, int]]:
        return {name: dict(wave.counts) for name, wave in self.waves.items()}

    def note(self, migration: Migration) -> None:
        """Count a migration as it is now, instead of as it was."""
        before = self._seen.get(migration.key)
        if before is not None:
            self._count(before, -1)
        after = _seen(migration)
        self._seen[migration.key] = after
        self._count(after, 1)
        if before is None or before.state is not after.state:
            self._follow(after)

    def forget_streaks(self) -> None:
        for wave in self.waves.values():
            wave.streak = 0

    def _count(self, seen: Seen, by: int) -> None:
        wave = self.wave(seen.wave)
        self.counts[seen.state] += by
        wave.counts[seen.state] += by
        if seen.signature is not None:
            wave.signatures[seen.signature] += by
        self.unturned += by if seen.unturned else 0
        self.lost += by if seen.lost else 0

    def _follow(self, seen: Seen) -> None:
        wave = self.wave(seen.wave)
        if seen.state in FAILURES:
            wave.streak += 1
        elif seen.state in _GOOD:
            wave.streak = 0


def _seen(migration: Migration) -> Seen:
    failure = migration.failure if migration.state is _OF_A_REVISION else None
    signature = failure.signature if failure else None
    lost = migration.state in FAILURES and (migration.reverting or migration.is_half_applied)
    turns = migration.state in UNFINISHED or (migration.touched and not migration.is_half_applied)
    return Seen(migration.wave, migration.state, signature, lost, not migration.reverting and turns)
