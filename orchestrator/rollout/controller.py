"""One rollout from its making to its end: ask, act, record."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import anyio

from orchestrator import events
from orchestrator.errors import ConflictError, HistoryError, StateError
from orchestrator.registry.model import FailureBudget, Target, TargetKey
from orchestrator.rollout import decide, tell
from orchestrator.rollout.ports import Dispatcher, Expedition, Ledger, Share
from orchestrator.rollout.state import Migration, MigrationState, Rollout, RolloutState

Freeze = Callable[[Sequence[Target], int], Sequence[Migration]]


async def _nothing() -> None:
    return None


class Controller:
    """Carries out one rollout; implements `ports.Control` for its shares.

    `run` returns when the rollout has ended, or when `drain` stopped it: then the store holds all that the next
    start needs to go on. Commands may come at any time from other tasks.
    """

    def __init__(
        self,
        rollout: Rollout,
        ledger: Ledger,
        dispatcher: Dispatcher,
        budget: FailureBudget,
        on_loaded: Callable[[], Awaitable[None]] = _nothing,
    ) -> None:
        """`on_loaded` is called once, when the rollout's targets are known and before any of them is touched."""
        self.rollout, self._on_loaded = rollout, on_loaded
        self._ledger, self._dispatcher, self._budget = ledger, dispatcher, budget
        self._states: dict[TargetKey, MigrationState] = {}
        self._counts: Counter[MigrationState] = Counter()
        self._left: set[TargetKey] = set()
        self._loaded = False
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

    # Commands. Each looks at the state under the lock: the rollout may have ended while the command waited for it.

    async def pause(self, reason: str) -> None:
        """No new starts from now on; what runs goes on to its end. Raises StateError, as all commands."""
        async with self._commands:
            decide.check_command(self.rollout, "pause")
            if self.rollout.state is not RolloutState.PAUSED:
                await self._move(RolloutState.PAUSED, reason)

    async def resume(self, reason: str) -> None:
        """Go on; the failures so far are accepted by whoever resumes, and do not pause the rollout again."""
        async with self._commands:
            decide.check_command(self.rollout, "resume")
            if self.rollout.state is RolloutState.PAUSED:
                await self._move(RolloutState.RUNNING, reason, accepted_failures=decide.failures(self._counts))

    async def abort(self, reason: str) -> None:
        """No new starts; when what runs has ended, the rest is cancelled and the rollout is over."""
        async with self._commands:
            decide.check_command(self.rollout, "abort")
            if not self.rollout.aborting:
                await self._move(RolloutState.RUNNING, reason, aborting=True)

    async def retry(self, reason: str) -> None:
        """Put failed targets back to pending, and go on if the rollout is paused."""
        async with self._commands:
            decide.check_command(self.rollout, "retry")
            if self.rollout.state.finished:
                raise StateError(f"rollout {self.rollout.id} has just ended", remedy="retry it again")
            again = decide.retried(await self._ledger.migrations(self.rollout.id))
            await self._ledger.save_migrations(again)
            for migration in again:
                self._note(migration)
            paused = self.rollout.state is RolloutState.PAUSED
            await self._move(RolloutState.RUNNING if paused else self.rollout.state, reason, accepted_failures=0)

    async def welcome(
        self, targets: Sequence[Target], freeze: Freeze, *, append: bool, reason: str | None = None
    ) -> None:
        """Take in those of the targets that are not the rollout's yet, or record that they are left to the next one.

        `freeze` makes them migrations at positions from the given one on; `reason` says why they are left.
        """
        async with self._commands:
            fresh = [target for target in targets if target.key not in self._states and target.key not in self._left]
            if not fresh or not self._loaded or self.rollout.state.finished:
                return
            migrations = freeze(fresh, self.rollout.total)
            if append and not (self.rollout.aborting or self._draining):
                try:
                    return await self._extend(migrations)
                except ConflictError as exc:
                    reason = exc.message
            self._left.update(target.key for target in fresh)
            event = tell.appeared(self.rollout, migrations, appended=False, reason=reason)
            await self._ledger.save_rollout(self.rollout, event)

    async def _extend(self, migrations: Sequence[Migration]) -> None:
        larger = replace(self.rollout, total=self.rollout.total + len(migrations))
        await self._ledger.extend(larger, migrations, tell.appeared(larger, migrations, appended=True))
        self.rollout = larger
        for migration in migrations:
            self._note(migration)
        await self._move(self.rollout.state, self.rollout.reason)

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
        self._loaded = True
        await self._on_loaded()
        await self._plan(expedition)
        while True:
            while pending := await self._pending():
                if not await self.admit():
                    break
                await self._drive(expedition, pending)
            if self._draining and decide.unfinished(self._counts):
                return
            if await self._ended():
                return

    async def _plan(self, expedition: Expedition) -> None:
        if self.rollout.state not in (RolloutState.PENDING, RolloutState.PLANNING):
            await self._tell()  # what a restart found
            return
        await self._step(RolloutState.PENDING, RolloutState.PLANNING)
        await self._survey(expedition)
        await self._step(RolloutState.PLANNING, RolloutState.RUNNING)

    async def _step(self, before: RolloutState, after: RolloutState) -> None:
        """Go on of ourselves, unless a command has moved the rollout meanwhile."""
        async with self._commands:
            if self.rollout.state is before and not self.rollout.aborting:
                await self._move(after, None)

    async def _tell(self) -> None:
        async with self._commands:
            await self._move(self.rollout.state, self.rollout.reason)

    async def _prepared(self) -> Expedition | None:
        """The expedition; a history that cannot be used pauses the rollout until somebody resumes it."""
        while True:
            try:
                return await self._dispatcher.prepare(self.rollout)
            except HistoryError as exc:
                await self._halt(decide.Stop("pause", str(exc)))
            if not await self.admit():
                if self.rollout.aborting:
                    await self._load()
                    await self._ended()
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

    async def _ended(self) -> bool:
        """Close the rollout; False when a retry has made more to do."""
        async with self._commands:
            rest = await self._pending()
            if rest and not self.rollout.aborting:
                return False
            gone = decide.cancelled(rest, events.now())
            await self._ledger.save_migrations(gone, [tell.finished(migration) for migration in gone])
            for migration in gone:
                self._note(migration)
            reason = self.rollout.reason if self.rollout.aborting else None
            await self._move(decide.final_state(self.rollout, self._counts), reason)
        return True

    async def _mind_budget(self) -> None:
        stop = decide.over_budget(self._budget, self.rollout.total, self._counts)
        if stop is not None and decide.failures(self._counts) > self.rollout.accepted_failures:
            await self._halt(stop)

    async def _halt(self, stop: decide.Stop) -> None:
        """React of ourselves; harmless when the rollout is paused, being aborted, or over."""
        async with self._commands:
            if self.rollout.state.finished or self.rollout.aborting:
                return
            if stop.then == "abort":
                await self._move(RolloutState.RUNNING, stop.reason, aborting=True)
            elif self.rollout.state is not RolloutState.PAUSED:
                await self._move(RolloutState.PAUSED, stop.reason)

    def _note(self, migration: Migration) -> None:
        before = self._states.get(migration.key)
        if before is not None:
            self._counts[before] -= 1
        self._states[migration.key] = migration.state
        self._counts[migration.state] += 1

    async def _move(self, state: RolloutState, reason: str | None, **changes: Any) -> None:
        """Write the rollout's new state, then act on it. The caller holds the lock of the commands."""
        now = events.now()
        moved = replace(
            self.rollout,
            state=state,
            reason=reason,
            started_at=self.rollout.started_at or (now if state is not RolloutState.PENDING else None),
            finished_at=now if state.finished else None,
            **changes,
        )
        await self._ledger.save_rollout(moved, tell.state_changed(moved, self._counts))
        self.rollout = moved
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
