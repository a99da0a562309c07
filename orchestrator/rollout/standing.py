"""A rollout as it stands: in the store first, then in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import anyio

from orchestrator import events
from orchestrator.errors import StoreError
from orchestrator.registry.model import TargetKey
from orchestrator.rollout import decide, tell
from orchestrator.rollout.ports import Ledger
from orchestrator.rollout.state import FAILURES, Migration, MigrationState, Rollout, RolloutState, covered
from orchestrator.rollout.tally import Tally


class Standing:
    """One rollout with its counts. Whoever changes the rollout itself holds `lock`; `changed` is set, and replaced,
    with each change."""

    def __init__(self, rollout: Rollout, ledger: Ledger) -> None:
        self.rollout, self.ledger = rollout, ledger
        self.tally = Tally()
        self.lock = anyio.Lock()
        self.changed = anyio.Event()
        self.loaded = False
        # Failed targets that are pending again, until the rollout's next state tells so.
        self._again: set[TargetKey] = set()

    async def load(self, why: str | None = None) -> Sequence[Migration]:
        """Read the ledger; what was left running is pending again, and returned."""
        migrations = await self.ledger.migrations(self.rollout.id)
        again = decide.interrupted(migrations, why) if why else decide.interrupted(migrations)
        await self.ledger.save_migrations(again)
        self.tally, self.loaded = Tally(migrations), True
        for migration in again:
            self.tally.note(migration)
        return again

    async def pending(self, wave: str | None = None) -> Sequence[Migration]:
        found = await self.ledger.migrations(self.rollout.id, states=[MigrationState.PENDING])
        return [migration for migration in found if wave is None or migration.wave == wave]

    async def record(self, migration: Migration, event: events.RolloutEvent | None = None) -> None:
        await self.ledger.save_migration(migration, event)
        self._again.discard(migration.key)
        self.tally.note(migration)

    async def save(self, migrations: Sequence[Migration]) -> None:
        """Several migrations at once; the end of each that has one is told."""
        ended = [tell.finished(migration) for migration in migrations if migration.state.finished]
        await self.ledger.save_migrations(migrations, ended)
        for migration in migrations:
            if migration.state is MigrationState.PENDING and self._may_have_failed(migration.key):
                self._again.add(migration.key)
            self.tally.note(migration)

    def _may_have_failed(self, key: TargetKey) -> bool:
        return key not in self.tally or self.tally.state(key) in FAILURES

    async def move(self, state: RolloutState, reason: str | None, *, by: str | None = None, **changes: Any) -> None:
        """Write the rollout's new state, then act on it. The caller holds the lock. `by`: who has paused it.

        Raises StoreError when not every target is accounted for: then nothing may go on.
        """
        if self.loaded and not covered(self.rollout.total, self.tally.counts):
            raise StoreError(
                f"coverage: rollout {self.rollout.id} is over {self.rollout.total} targets, and "
                f"{self.tally.counts.total()} are accounted for",
                remedy="this is a bug: please report it; the rollout stays as it was",
            )
        now = events.now()
        moved = replace(
            self.rollout,
            **{
                "waiting": self.rollout.waiting if state is self.rollout.state else None,
                **changes,
                "state": state,
                "reason": reason,
                "started_at": self.rollout.started_at or (now if state is not RolloutState.PENDING else None),
                "finished_at": now if state.finished else None,
            },
        )
        failures = await self.ledger.failures(moved.id, tenants=1) if state.finished else ()
        again, self._again = self._again, set()
        told = tell.state_changed(moved, self.tally.by_wave(), by, failures, again)
        await self.ledger.save_rollout(moved, told)
        self.rollout = moved
        self.wake()

    async def mark(self, index: int, event: events.RolloutEvent, **changes: Any) -> None:
        """Change one of the rollout's waves; nothing else. The caller holds the lock."""
        waves = list(self.rollout.waves)
        waves[index] = replace(waves[index], **changes)
        await self.change(event, waves=tuple(waves), waiting=None)

    async def change(self, event: events.RolloutEvent, **changes: Any) -> None:
        """Change the rollout, but not its state. The caller holds the lock."""
        changed = replace(self.rollout, **changes)
        await self.ledger.save_rollout(changed, event)
        self.rollout = changed
        self.wake()

    def wake(self) -> None:
        self.changed.set()
        self.changed = anyio.Event()
