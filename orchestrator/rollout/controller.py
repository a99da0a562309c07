"""One rollout from its making to its end: ask, act, record."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

import anyio

from orchestrator import events
from orchestrator.errors import HistoryError
from orchestrator.registry.model import FailureBudget, TargetKey
from orchestrator.rollout import decide, tell
from orchestrator.rollout.ports import Dispatcher, Expedition, Ledger, Share
from orchestrator.rollout.state import Migration, MigrationState, Rollout, RolloutState


class Controller:
    """Carries out one rollout; implements `ports.Control` for its shares.

    `run` returns when the rollout has ended, or when `drain` stopped it: then the store holds all that the next
    start needs to go on. Commands may come at any time from other tasks.
    """

    def __init__(self, rollout: Rollout, ledger: Ledger, dispatcher: Dispatcher, budget: FailureBudget) -> None:
        self.rollout = rollout
        self._ledger, self._dispatcher, self._budget = ledger, dispatcher, budget
        self._states: dict[TargetKey, MigrationState] = {}
        self._counts: Counter[MigrationState] = Counter()
        self._draining = False
        self._changed = anyio.Event()
        self._commands = anyio.Lock()

    # Control, as the drivers of shares see it

    @property
    def admits(self) -> bool:
        return not (self._draining or self.rollout.aborting or self.rollout.state is RolloutState.PAUSED)

    async def admit(self) -> bool:
        while self.rollout.state is RolloutState.PAUSED and not (self._draining or self.rollout.aborting):
            await self._changed.wait()
        return self.admits

    async def record(self, migration: Migration, event: events.RolloutEvent | None = None) -> None:
        await self._ledger.save_migration(migration, event)
        self._note(migration)
        await self._mind_budget()

    # Commands

    async def pause(self, reason: str) -> None:
        """No new starts from now on; what runs goes on to its end."""
        async with self._commands:
            if self.rollout.state is not RolloutState.PAUSED and not self.rollout.aborting:
                await self._move(RolloutState.PAUSED, reason)

    async def resume(self, reason: str) -> None:
        async with self._commands:
            if self.rollout.state is RolloutState.PAUSED:
                # The failures that paused it are accepted by whoever resumes: they do not pause it again.
                self._accepted = decide.failures(self._counts)
                await self._move(RolloutState.RUNNING, reason)

    async def abort(self, reason: str) -> None:
        """No new starts; when what runs has ended, the rest is cancelled and the rollout is over."""
        async with self._commands:
            if not self.rollout.aborting:
                self.rollout = replace(self.rollout, aborting=True)
                await self._move(RolloutState.RUNNING, reason)

    async def retry(self) -> int:
        """Put failed targets back to pending; the number of them. They are driven by the running `run`."""
        async with self._commands:
            again = decide.retried(await self._ledger.migrations(self.rollout.id))
            await self._ledger.save_migrations(again)
            for migration in again:
                self._note(migration)
            await self._move(self.rollout.state, self.rollout.reason)
        return len(again)

    def drain(self) -> None:
        """Start nothing more; `run` returns when what runs has ended."""
        self._draining = True
        self._wake()

    # The rollout itself

    async def run(self) -> None:
        expedition = await self._prepared()
        if expedition is None:
            return
        await self._load()
        if self.rollout.state in (RolloutState.PENDING, RolloutState.PLANNING):
            await self._move(RolloutState.PLANNING, None)
            await self._survey(expedition)
            if self.rollout.state is RolloutState.PLANNING:
                await self._move(RolloutState.RUNNING, None)
        else:
            await self._move(self.rollout.state, self.rollout.reason)  # tells what a restart found
        while pending := await self._pending():
            if not await self.admit():
                break
            await self._drive(expedition, pending)
        if not self._draining or not decide.unfinished(self._counts):
            await self._end()

    async def _prepared(self) -> Expedition | None:
        """The expedition; a history that cannot be used pauses the rollout until somebody resumes it."""
        while True:
            try:
                return await self._dispatcher.prepare(self.rollout)
            except HistoryError as exc:
                await self.pause(f"{exc.message} ({exc.remedy})" if exc.remedy else exc.message)
            if not await self.admit():
                if self.rollout.aborting:
                    await self._load()
                    await self._end()
                return None

    async def _load(self) -> None:
        """Read the ledger; what a crash left running is pending again."""
        migrations = await self._ledger.migrations(self.rollout.id)
        again = decide.interrupted(migrations)
        await self._ledger.save_migrations(again)
        for migration in (*migrations, *again):
            self._note(migration)

    async def _survey(self, expedition: Expedition) -> None:
        """Read all heads first: targets at the goal need nothing more, and the others' plans are known."""
        now = events.now()
        found = [decide.settled(r, now) for r in await expedition.survey(await self._pending()) if r.plan is not None]
        ended = [tell.finished(migration) for migration in found if migration.state.finished]
        await self._ledger.save_migrations(found, ended)
        for migration in found:
            self._note(migration)

    async def _drive(self, expedition: Expedition, pending: Sequence[Migration]) -> None:
        shares: dict[str, list[Migration]] = defaultdict(list)
        for migration in pending:
            shares[migration.shard].append(migration)
        async with anyio.create_task_group() as tasks:
            for shard, migrations in shares.items():
                share = Share(self.rollout, migrations[0].wave, shard, migrations)
                tasks.start_soon(expedition.run, share, self)

    async def _pending(self) -> Sequence[Migration]:
        return await self._ledger.migrations(self.rollout.id, states=[MigrationState.PENDING])

    async def _end(self) -> None:
        async with self._commands:
            if self.rollout.aborting:
                rest = decide.cancelled(await self._pending(), events.now())
                await self._ledger.save_migrations(rest, [tell.finished(migration) for migration in rest])
                for migration in rest:
                    self._note(migration)
            reason = self.rollout.reason if self.rollout.aborting else None
            await self._move(decide.final_state(self.rollout, self._counts), reason)

    async def _mind_budget(self) -> None:
        stop = decide.over_budget(self._budget, self.rollout.total, self._counts)
        if stop is None or decide.failures(self._counts) <= self._accepted:
            return
        if stop.then == "abort":
            await self.abort(stop.reason)
        else:
            await self.pause(stop.reason)

    _accepted = 0

    def _note(self, migration: Migration) -> None:
        before = self._states.get(migration.key)
        if before is not None:
            self._counts[before] -= 1
        self._states[migration.key] = migration.state
        self._counts[migration.state] += 1

    async def _move(self, state: RolloutState, reason: str | None) -> None:
        """Write the rollout's new state, then act on it."""
        now = events.now()
        moved = replace(
            self.rollout,
            state=state,
            reason=reason,
            started_at=self.rollout.started_at or (now if state is not RolloutState.PENDING else None),
            finished_at=now if state.finished else None,
        )
        await self._ledger.save_rollout(moved, tell.state_changed(moved, self._counts))
        self.rollout = moved
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
