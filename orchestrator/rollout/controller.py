"""One rollout from its making to its end: ask what is next, do it, record it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace

import anyio

from orchestrator import events
from orchestrator.errors import ConflictError, HistoryError, NotFoundError, StateError
from orchestrator.registry.model import Target, TargetKey
from orchestrator.rollout import decide, step, tell
from orchestrator.rollout.budgets import Stop
from orchestrator.rollout.gatekeeper import Gatekeeper
from orchestrator.rollout.interruptions import Interruption, interruption
from orchestrator.rollout.ports import Aftermath, Checks, Dispatcher, Expedition, Ledger, Share
from orchestrator.rollout.standing import Standing
from orchestrator.rollout.state import Migration, MigrationState, Override, Rollout, RolloutState
from orchestrator.rollout.waiting import Waiting
from orchestrator.rollout.windows import Freeze as Frozen
from orchestrator.rollout.windows import Held

Freeze = Callable[[Sequence[Target], int], Sequence[Migration]]
BY_FORCE = "ended by force in the middle; its open transaction was rolled back, what was committed before stays"


async def _nothing() -> None:
    return None


class Controller:
    """Carries out one rollout; implements `ports.Control` for its shares.

    `run` returns when the rollout has ended, or when `drain` stopped it: then the store holds all that the next
    start needs to go on. Commands may come at any time from other tasks; each looks at the state under the lock, since
    the rollout may have ended while it waited for that, and raises StateError when it comes too late.
    """

    def __init__(
        self,
        rollout: Rollout,
        ledger: Ledger,
        dispatcher: Dispatcher,
        checks: Checks,
        on_loaded: Callable[[], Awaitable[None]] = _nothing,
    ) -> None:
        """`on_loaded` is called once, when the rollout's targets are known and before any of them is touched."""
        self._standing, self._on_loaded = Standing(rollout, ledger), on_loaded
        self._ledger, self._dispatcher = ledger, dispatcher
        self._gates = Gatekeeper(self._standing, checks)
        self._waiting = Waiting(self._standing)
        self._expedition: Expedition | None = None
        self._left: set[TargetKey] = set()
        self._begun: set[TargetKey] = set()
        self._skipped: set[TargetKey] = set()
        # Those between whose batches a backfill may be stopped, with the reason of whoever leaves one out.
        self._backfilling: dict[TargetKey, str | None] = {}
        self._going_back = rollout.rolling_back
        self._draining = self._renewing = False
        self._driving: anyio.CancelScope | None = None

    @property
    def rollout(self) -> Rollout:
        return self._standing.rollout

    # Control, as the drivers of shares see it

    @property
    def admits(self) -> bool:
        return not (self._draining or self._renewing) and decide.admits(self.rollout, back=self._going_back)

    @property
    def _leaving(self) -> bool:
        """Whether what is driven now is to come to an end."""
        turning = self.rollout.rolling_back is not self._going_back
        return self._draining or self._renewing or self.rollout.aborting or turning

    async def admit(self) -> bool:
        while self.rollout.state is RolloutState.PAUSED and not self._leaving:
            await self._standing.changed.wait()
        return self.admits

    @property
    def overrides(self) -> bool:
        return self.rollout.override is not None

    async def hold(self, shard: str, held: Sequence[Held], freeze: Frozen | None) -> None:
        await self._waiting.note(shard, held, freeze)

    def begin(self, migration: Migration) -> bool:
        """Whether the migration is still to be carried out; from now on nobody can skip it."""
        if migration.key in self._skipped or not self.admits:
            return False
        self._begun.add(migration.key)
        return True

    def interrupts(self, migration: Migration, *, backfilling: bool = True) -> Interruption | None:
        if not backfilling:
            self._backfilling.pop(migration.key, None)
            return None
        return interruption(
            self.rollout,
            back=migration.reverting,
            draining=self._draining,
            renewing=self._renewing,
            skipped=self._backfilling.setdefault(migration.key, None),
        )

    async def record(self, migration: Migration, event: events.RolloutEvent | None = None) -> None:
        await self._standing.record(migration, event)
        if migration.state is not MigrationState.RUNNING:
            self._begun.discard(migration.key)
            self._backfilling.pop(migration.key, None)
        if not self.rollout.rolling_back:
            wave = next(wave for wave in self.rollout.waves if wave.name == migration.wave)
            if (stop := step.exceeded(self.rollout, self._standing.tally, wave)) is not None:
                await self._halt(stop)

    # Commands

    async def pause(self, reason: str, *, by: str) -> None:
        """No new starts from now on, as `by` wants it; what runs goes on to its end, but for backfills, which are held
        before their next batch."""
        async with self._standing.lock:
            decide.check_command(self.rollout, "pause")
            if self.rollout.state is not RolloutState.PAUSED:
                await self._standing.move(RolloutState.PAUSED, reason, by=by)

    async def pause_for(self, reason: str) -> None:
        """Pause of ourselves and wait for a person, on the way back as well; nothing where it is paused, or over."""
        async with self._standing.lock:
            if not (self.rollout.state.finished or self.rollout.aborting or self.rollout.state is RolloutState.PAUSED):
                await self._standing.move(RolloutState.PAUSED, reason)

    async def resume(self, reason: str) -> None:
        """Go on; the failures so far are accepted by whoever resumes, and do not pause the rollout again."""
        async with self._standing.lock:
            decide.check_command(self.rollout, "resume")
            if self.rollout.state is RolloutState.PAUSED:
                self._standing.tally.forget_streaks()
                await self._renew()
                await self._standing.move(
                    RolloutState.RUNNING, reason, waves=decide.accepting(self.rollout, self._standing.tally)
                )

    async def approve(self, by: str, wave: str | None = None) -> None:
        """Let the rollout pass the gate that it waits at; `wave` names the one that is meant, empty for the first."""
        async with self._standing.lock:
            decide.check_command(self.rollout, "approve")
            decide.check_approval(self.rollout, by, wave)
            await self._gates.approve(by)

    async def abort(self, reason: str, *, force: bool = False) -> None:
        """No new starts, and no further batch of a backfill; when what runs has ended (or was cancelled, with `force`),
        the rest is cancelled and the rollout is over."""
        async with self._standing.lock:
            decide.check_command(self.rollout, "abort")
            if not self.rollout.aborting:
                await self._standing.move(RolloutState.RUNNING, reason, aborting=True)
        if force and self._driving is not None:
            self._driving.cancel()

    async def retry(self, reason: str, signature: str | None = None) -> int:
        """Put failed targets back to pending, all or those that failed in one way, and go on if the rollout is paused,
        with the files as they are by now. Returns how many; other failures count again when the wave has ended."""
        async with self._standing.lock:
            decide.check_command(self.rollout, "retry")
            self._refuse_ended("retry")
            again = decide.retried(self.rollout, await self._ledger.migrations(self.rollout.id), signature)
            if not again and signature is not None:
                raise decide.nothing_to_retry(self.rollout, signature)
            if not again:
                return 0
            await self._standing.save(again)
            self._skipped.difference_update(migration.key for migration in again)
            self._standing.tally.forget_streaks()
            await self._renew()
            waiting = self.rollout.state in (RolloutState.PAUSED, RolloutState.AWAITING_APPROVAL)
            state = RolloutState.RUNNING if waiting else self.rollout.state
            waves = decide.tolerating(self.rollout, self._standing.tally)
            await self._standing.move(state, reason, waves=waves)
        return len(again)

    async def _renew(self) -> None:
        """Take the files as they are by now: what runs ends before anything else is started with them."""
        self._renewing = self._expedition is not None and await self._expedition.outdated()

    async def rollback(self, reason: str) -> None:
        """Bring the targets that this rollout changed back to where it found them, in reverse order of the waves."""
        async with self._standing.lock:
            decide.check_command(self.rollout, "rollback")
            self._refuse_ended("roll back")
            try:
                expedition = self._expedition or await self._dispatcher.prepare(decide.back(self.rollout))
            except HistoryError as exc:
                raise decide.irreversible(self.rollout, f"its files cannot be used: {exc.message}") from exc
            if (problem := await self._irreversible(expedition)) is not None:
                raise decide.irreversible(self.rollout, problem)
            await self._standing.move(RolloutState.RUNNING, reason, rolling_back=True)

    async def skip(self, tenant: str, track: str | None, reason: str) -> int:
        """Leave a tenant's targets out that are pending or have failed, or whose backfill can be stopped before its
        next batch. Returns how many."""
        async with self._standing.lock:
            decide.check_command(self.rollout, "skip")
            self._refuse_ended("skip a target of")
            found = await self._ledger.migrations(self.rollout.id)
            meant = [m for m in found if m.tenant == tenant and track in (None, m.track)]
            if not meant:
                raise NotFoundError(f"rollout {self.rollout.id} has no target of tenant {tenant!r}")
            stopped = [m for m in meant if m.key in self._backfilling and not m.reverting]
            gone: Sequence[Migration] = ()
            with suppress(StateError) if stopped else nullcontext():
                gone = decide.skipped(meant, self._begun, reason, events.now(), self.rollout.request.direction)
            self._backfilling.update({migration.key: reason for migration in stopped})
            self._skipped.update(migration.key for migration in gone)
            await self._standing.save(gone)
            fewer = decide.accepting(self.rollout, self._standing.tally, fewer=True)
            await self._standing.move(self.rollout.state, self.rollout.reason, waves=fewer)
        return len(gone) + len(stopped)

    async def limit(self, most: int) -> None:
        """So many of the rollout's targets at once from now on, instead of what its strategy and waves say."""
        async with self._standing.lock:
            decide.check_command(self.rollout, "limit")
            request = replace(self.rollout.request, max_concurrent=most)
            await self._standing.move(self.rollout.state, self.rollout.reason, request=request)
            if self._expedition is not None:
                self._expedition.limit(most)

    async def override(self, by: str, reason: str) -> None:
        """Let what is left of the rollout start outside of its targets' windows, too; nothing takes that back."""
        async with self._standing.lock:
            decide.check_command(self.rollout, "override")
            given = Override(by, reason, events.now())
            await self._standing.change(tell.overridden(self.rollout, given), override=given)

    async def welcome(
        self, targets: Sequence[Target], freeze: Freeze, *, append: bool, reason: str | None = None
    ) -> None:
        """Take in those of the targets that are not the rollout's yet, or record that they are left to the next one.

        `freeze` makes them migrations at positions from the given one on; `reason` says why they are left.
        """
        async with self._standing.lock:
            known = self._standing.tally
            fresh = [target for target in targets if target.key not in known and target.key not in self._left]
            if not fresh or not self._standing.loaded or self.rollout.state.finished:
                return
            migrations = freeze(fresh, self.rollout.total)
            if append and not (self.rollout.aborting or self.rollout.rolling_back or self._draining):
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
        self._standing.rollout = larger
        for migration in migrations:
            self._standing.tally.note(migration)
        await self._standing.move(self.rollout.state, self.rollout.reason)

    def drain(self) -> None:
        """Start nothing more; `run` returns when what runs has ended, backfills before their next batch."""
        self._draining = True
        self._standing.wake()

    # The rollout itself

    async def run(self) -> None:
        expedition = await self._prepared()
        if expedition is None:
            return
        await self._standing.load()
        await self._on_loaded()
        await self._plan(expedition)
        while not (self._draining and decide.unfinished(self._standing.tally.counts)):
            if self._renewing and (expedition := await self._prepared()) is None:
                return
            changed = self._standing.changed
            following = step.next_step(self.rollout, self._standing.tally, events.now())
            if await self._carry_out(following, expedition, changed):
                return

    async def _carry_out(self, following: step.Step, expedition: Expedition, changed: anyio.Event) -> bool:
        """Do one step; True when there is none after it."""
        match following:
            case step.Run(index):
                await self._run_wave(expedition, index)
            case step.Turn():
                await self._turn()
            case step.End():
                return await self._ended()
            case Stop():
                await self._halt(following)
            case _ if self._draining:
                return True
            case _:
                await self._gates.carry_out(following, changed)
        return False

    async def _prepared(self) -> Expedition | None:
        """The expedition, with the files as they are now; a history that cannot be used pauses the rollout until
        somebody resumes it, aborts it or takes it back. None when there is nothing more to do."""
        while not self._draining:
            self._renewing = False
            try:
                self._expedition = await self._dispatcher.prepare(self.rollout)
                return self._expedition
            except HistoryError as exc:
                self._expedition = None
                await self.pause_for(str(exc))
            while self.rollout.state is RolloutState.PAUSED and not self._draining:
                await self._standing.changed.wait()
            if self.rollout.aborting:
                await self._standing.load()
                await self._ended()
                return None
        return None

    async def _plan(self, expedition: Expedition) -> None:
        if self.rollout.state not in (RolloutState.PENDING, RolloutState.PLANNING):
            async with self._standing.lock:  # tell what a restart found
                await self._standing.move(self.rollout.state, self.rollout.reason)
            return
        await self._step(RolloutState.PENDING, RolloutState.PLANNING)
        await self._survey(expedition)
        await self._step(RolloutState.PLANNING, RolloutState.RUNNING)

    async def _step(self, before: RolloutState, after: RolloutState) -> None:
        """Go on of ourselves, unless a command has moved the rollout meanwhile."""
        async with self._standing.lock:
            if self.rollout.state is before and not self.rollout.aborting:
                await self._standing.move(after, None)

    async def _survey(self, expedition: Expedition) -> None:
        """Read all heads first: targets at the goal need nothing more, and the others' plans are known."""
        now = events.now()
        readings = await expedition.survey(await self._standing.pending())
        async with self._standing.lock:  # a command may have changed some of them while they were read
            tally = self._standing.tally
            fresh = [r for r in readings if r.plan and tally.state(r.migration.key) is MigrationState.PENDING]
            await self._standing.save([decide.settled(reading, now) for reading in fresh])
            # Saved with the next step.
            self._standing.rollout = decide.lasting(self.rollout, expedition.lasting(readings))

    async def _run_wave(self, expedition: Expedition, index: int) -> None:
        wave = await self._gates.open(index)
        expedition.limit(self.rollout.request.max_concurrent or wave.max_concurrent)
        self._going_back = self.rollout.rolling_back
        if not await self.admit():
            return
        with anyio.CancelScope() as self._driving:
            await self._drive(expedition, await self._standing.pending(wave.name))
        self._driving = None
        self._begun.clear()
        if self.rollout.aborting:
            await self._cut_short(expedition)

    async def _drive(self, expedition: Expedition, pending: Sequence[Migration]) -> None:
        shares: dict[str, list[Migration]] = defaultdict(list)
        for migration in pending:
            shares[migration.shard].append(migration)
        async with anyio.create_task_group() as tasks:
            for shard, migrations in shares.items():
                share = Share(self.rollout, migrations[0].wave, shard, migrations)
                tasks.start_soon(expedition.run, share, self)
        await self._waiting.forget()

    async def _cut_short(self, expedition: Expedition) -> None:
        """After an abort by force: what ran is pending again, with the heads that it has come to."""
        cut = await self._standing.load(BY_FORCE)
        found = {r.migration.key: r.plan.heads for r in await expedition.survey(cut, every=True) if r.plan is not None}
        await self._standing.save([replace(m, to_heads=found[m.key]) for m in cut if m.key in found])

    async def _turn(self) -> None:
        async with self._standing.lock:
            turned = decide.turned(await self._ledger.migrations(self.rollout.id), events.now())
            self._skipped.difference_update(migration.key for migration in turned)
            await self._standing.save(turned)

    async def _ended(self) -> bool:
        """Close the rollout; False when a retry has made more to do."""
        async with self._standing.lock:
            rest = await self._standing.pending()
            if rest and not self.rollout.aborting:
                return False
            await self._cancel(rest)
            reason = self.rollout.reason if self.rollout.aborting or self.rollout.rolling_back else None
            if self.rollout.rolling_back:
                reason = tell.what_stays(reason, await self._ledger.failures(self.rollout.id, tenants=1))
            await self._standing.move(decide.final_state(self.rollout, self._standing.tally), reason)
        return True

    async def _cancel(self, rest: Sequence[Migration]) -> None:
        """Those that were found running are not carried out again: their targets tell what they have come to."""
        cut = [migration for migration in rest if decide.is_unknown(migration)]
        found = await self._aftermath(cut)
        keys = {migration.key for migration in cut}
        await self._standing.save(decide.cancelled([m for m in rest if m.key not in keys], events.now()))
        for migration, one in zip(cut, found, strict=True):
            [ended] = decide.cancelled([decide.known(migration, one)], events.now())
            spent = tell.Spent(backfill_rows=one.rows or 0)
            await self._standing.record(ended, tell.finished(ended, spent))

    async def _aftermath(self, cut: Sequence[Migration]) -> Sequence[Aftermath]:
        if self._expedition is None:
            return [Aftermath(problem="the files of its track cannot be used")] * len(cut)
        return await self._expedition.aftermath(cut) if cut else ()

    async def _halt(self, stop: Stop) -> None:
        """React of ourselves; harmless when the rollout is paused, being aborted or taken back, or over."""
        async with self._standing.lock:
            problem = None
            if stop.then == "rollback" and self._expedition is not None:
                problem = await self._irreversible(self._expedition)
            if (changes := decide.reaction(self.rollout, stop, problem)) is not None:
                await self._standing.move(**changes)

    async def _irreversible(self, expedition: Expedition) -> str | None:
        migrations = await self._ledger.migrations(self.rollout.id)
        begun = [m for m in migrations if m.attempts and m.from_heads is None and not m.state.finished]
        if begun and self.rollout.irreversible:
            step = next(iter(self.rollout.irreversible))
            return f"{len(begun)} targets have just been begun and may run {step}; ask again in a moment"
        return expedition.irreversible([m for m in migrations if m.changed and not m.is_half_applied])

    def _refuse_ended(self, what: str) -> None:
        if self.rollout.state.finished:
            raise StateError(f"rollout {self.rollout.id} has just ended", remedy=f"{what} it again")
