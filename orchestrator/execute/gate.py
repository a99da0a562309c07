"""Whether targets may start now: by their windows, by what is predicted for them, and by a freeze of the fleet."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import anyio

from orchestrator import events
from orchestrator.execute.predictions import Predictions, Stretch
from orchestrator.registry.model import Heads, Registry, Target
from orchestrator.rollout import windows
from orchestrator.rollout.state import BACKFILL, Migration, MigrationState, Rollout
from orchestrator.rollout.windows import Freeze, Held, Verdict

# How old what is known of a freeze may be. Whoever starts a migration is refused by the store in any case.
FRESH_SECONDS = 0.4
# "Never" is looked at again: the registry, or a prediction, may change.
AGAIN = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Group:
    """Targets that may start at the same times: those of the same windows and the same stretch."""

    windows: tuple[str, ...] = ()
    stretch: Stretch | None = None


FREE = Group()


async def _nobody() -> Freeze | None:
    return None


class Gate:
    """One for the process, asked by all shares that are driven."""

    def __init__(
        self,
        predictions: Predictions | None = None,
        read: Callable[[], Awaitable[Freeze | None]] = _nobody,
        clock: Callable[[], datetime] = events.now,
    ) -> None:
        """`read` asks the store for the freeze."""
        self.freeze: Freeze | None = None
        self._predictions, self._read, self._clock = predictions or Predictions(), read, clock
        self._read_at = float("-inf")
        self._reading = anyio.Lock()
        self._known: dict[tuple[str, tuple[str, ...], float], tuple[datetime, Verdict]] = {}

    async def refresh(self) -> None:
        """Know of the freeze again, as the store has it. Raises StoreError."""
        async with self._reading:
            if anyio.current_time() - self._read_at >= FRESH_SECONDS:
                self.freeze, self._read_at = await self._read(), anyio.current_time()

    def group(self, registry: Registry, target: Target | None, rollout: Rollout, migration: Migration) -> Group:
        """A target that the registry does not know may start, and fails."""
        names = windows.concerning(registry, target) if target is not None else ()
        return Group(names, stretch(rollout, migration)) if names else FREE

    def opens(self, registry: Registry, group: Group, *, overrides: bool) -> bool:
        """Whether a target of the group may start now."""
        if self.freeze is not None:
            return False
        return overrides or not group.windows or self.verdict(registry, group).opens

    def verdict(self, registry: Registry, group: Group) -> Verdict:
        """By the windows alone."""
        now, seconds = self._clock(), self.predicted(registry, group)
        key = registry.digest, group.windows, seconds
        if (known := self._known.get(key)) is not None:
            since, verdict = known
            if since <= now < (verdict.until or since + AGAIN):
                return verdict
        found = [registry.windows[name] for name in group.windows if name in registry.windows]
        verdict = windows.judge(found, now, seconds)
        if len(self._known) > 1_000:
            self._known.clear()
        self._known[key] = now, verdict
        return verdict

    def predicted(self, registry: Registry, group: Group) -> float:
        """Seconds."""
        expected = windows.expected(registry, group.windows)
        return expected if group.stretch is None else self._predictions.of(group.stretch, expected)

    def held(self, registry: Registry, shard: str, counts: Sequence[tuple[Group, int]]) -> list[Held]:
        """Which of these groups, each with its number of targets, wait for their windows."""
        found = []
        for group, count in counts:
            verdict = self.verdict(registry, group) if group.windows and count else None
            if verdict is not None and not verdict.opens:
                found.append(Held(shard, count, verdict, self.predicted(registry, group)))
        return found


def stretch(rollout: Rollout, migration: Migration) -> Stretch:
    """The way that a migration goes; on the way back, from where it came."""
    if migration.reverting:
        return _stretch(migration.track, migration.shard, migration.to_heads, migration.from_heads or ())
    aim = rollout.aims.get(migration.track)
    return _stretch(migration.track, migration.shard, migration.from_heads, aim.goal if aim else ())


def remember(predictions: Predictions, event: events.Event) -> None:
    """What a migration took is what is predicted for others; of one that was tried again, it tells little, and of one
    with a backfill nothing: that stops and goes on as it must."""
    if not isinstance(event, events.MigrationFinished) or event.attempts != 1 or not event.steps:
        return
    if event.execution == BACKFILL:
        return
    if event.outcome == MigrationState.SUCCEEDED:
        predictions.note(_stretch(event.track, event.shard, event.from_heads, event.to_heads), event.seconds)
    elif event.outcome == MigrationState.ROLLED_BACK:  # the event does not tell from where
        predictions.note(_stretch(event.track, event.shard, None, event.to_heads), event.seconds)


def _stretch(track: str, shard: str, begin: Heads | None, end: Heads) -> Stretch:
    return Stretch(track, shard, None if begin is None else tuple(sorted(begin)), tuple(sorted(end)))
