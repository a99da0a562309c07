"""Drive one share: start its migrations as slots come free, try again what may be cured, record every end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import anyio
import stamina
import structlog

from orchestrator import events
from orchestrator.backfill.model import Answer, Report
from orchestrator.errors import (
    BACKFILL_ABORTED,
    BACKFILL_STOPPED,
    FrozenError,
    HeadsChangedError,
    OrchestratorError,
    TargetError,
    TargetSkippedError,
    TargetUnreachableError,
)
from orchestrator.execute import classify
from orchestrator.execute.admission import LOOK_SECONDS, Admission
from orchestrator.execute.backfilling import Backfilling, Throttle, Unthrottled
from orchestrator.execute.courses import Courses
from orchestrator.execute.frozen import find_target
from orchestrator.execute.gate import Gate
from orchestrator.execute.lookback import LookBack
from orchestrator.execute.migrate import Attempt, Done, Migrator, Work
from orchestrator.execute.occasion import Occasion
from orchestrator.execute.retry import Retries, RetryPolicy
from orchestrator.execute.rooms import HeadRooms
from orchestrator.execute.slots import Part, Slots
from orchestrator.execute.survey import ShardHealth
from orchestrator.history.revisions import History
from orchestrator.history.workers import WORKER_DIED
from orchestrator.plan import doubt
from orchestrator.plan.back import Return
from orchestrator.plan.bound import BoundPlanner, Planned
from orchestrator.plan.steps import Plan, Planner, Planning
from orchestrator.registry.model import Registry, Target
from orchestrator.rollout import decide, tell
from orchestrator.rollout.ports import Control, Share
from orchestrator.rollout.state import BACKFILL, Migration, MigrationState

log = structlog.get_logger(__name__)

# A backfill that was stopped for a reason that is not its rollout's is tried again after so long.
STOPPED_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Way:
    """Along which history, to which goal, the targets of one track are brought; and how what was done is taken back.
    `bound` makes the planner of one target where the rollout is bound to a plan."""

    history: History
    planner: Planner
    back: Return
    courses: Courses
    bound: Callable[[Planned | None], BoundPlanner] | None = None
    is_relative: bool = False

    def planner_for(self, migration: Migration) -> Planning:
        if migration.reverting:
            return self.back
        return self.planner if self.bound is None else self.bound(migration.planned)


@dataclass(frozen=True, slots=True)
class Route:
    """What all shares of a rollout have in common; `ways` by track, `part` of the slots."""

    part: Part
    registry: Callable[[], Registry]
    ways: Mapping[str, Way]


class Driver:
    """Drives shares of any rollout; the slots over all rollouts are its own."""

    def __init__(
        self,
        migrator: Migrator,
        slots: Slots,
        policy: RetryPolicy,
        publish: Callable[[events.Event], None],
        gate: Gate | None = None,
        throttle: Throttle | None = None,
    ) -> None:
        self._gate, self._throttle = gate or Gate(), throttle or Unthrottled()
        self._migrator, self._slots, self._policy, self._publish = migrator, slots, policy, publish
        self._rooms = HeadRooms(slots, migrator.occupancy, publish)

    def allow(self, route: Route, most: int | None) -> None:
        """Let so many migrations of the rollout run at once from now on; None: as many as there are slots."""
        self._slots.allow(route.part, most)

    def lookback(self, slots: Slots) -> LookBack:
        """Whoever tells what has become of migrations that are not driven any more, with `slots` of its own."""
        return LookBack(self._migrator, slots, self._throttle)

    async def run(self, share: Share, route: Route, control: Control) -> None:
        """Start the share's migrations one by one; return when all that were started have ended."""
        drive = _Drive(self, share, route, control)
        async with drive.admission.open(), anyio.create_task_group() as tasks:
            while (migration := await drive.admission.next()) is not None:
                if control.begin(migration):
                    tasks.start_soon(drive.migrate, migration)
                else:
                    drive.admission.leave(migration)


class _Drive:
    """One share on its way."""

    def __init__(self, driver: Driver, share: Share, route: Route, control: Control) -> None:
        self._migrator = driver._migrator
        self._policy, self._publish = driver._policy, driver._publish
        self.share, self.route, self.control, self.throttle = share, route, control, driver._throttle
        self.admission = Admission(
            share, route.part, driver._slots, driver._rooms, route.registry, control, driver._gate
        )
        self.health = ShardHealth()

    async def migrate(self, migration: Migration) -> None:
        """Bring one migration to its end; the caller's slot is held on entry and free afterwards."""
        one = _One(self, migration)
        try:
            await one.run()
        finally:
            if one.in_slot:
                self.admission.leave(migration)


class _One:
    """One migration over all its attempts."""

    def __init__(self, drive: _Drive, migration: Migration) -> None:
        self.drive, self.migration = drive, migration
        self.in_slot = True
        self.attempt = Attempt()
        self.retries, self.spent = Retries(drive._policy), tell.Spent()
        self.backfilling = Backfilling(drive.throttle, drive.control)
        self.suspect = False
        self.cut_short = migration.attempts > 0 and migration.was_cut_short
        if self.cut_short and migration.doubt is None:  # written by an earlier release
            self.migration = replace(migration, doubt=doubt.UNKNOWN)
        # What an attempt before is known to have come to: what is found beyond it, somebody else has done.
        self.reached = migration.to_heads if migration.attempts and not self.cut_short else None
        self.began = time.monotonic()

    async def run(self) -> None:
        down = self.drive.health.reason
        if down is not None:
            return await self._finish_with(_not_tried(down, self.drive.share.shard))
        try:
            done = await self._attempts()
        except TargetError as exc:
            self.drive.health.note(exc)
            return await self._finish_with(exc)
        except OrchestratorError:
            raise  # the store: without it nothing may go on
        except Exception as exc:
            log.exception("migration_crashed", **tell.who(self.migration))
            return await self._finish_with(_bug(exc))
        self.drive.health.note(None)
        if done is not None:
            await self._finish(self._succeeded(done))

    async def _attempts(self) -> Done | None:
        """Try until it is done or a failure is final; None when it may not go on (paused rollouts wait here)."""
        async for attempt in stamina.retry_context(on=self._after_failure, attempts=None, timeout=None):
            with attempt:
                if not self.in_slot and not await self._back_in():
                    return None
                while (target := await self._started()) is None:
                    self._leave_slot()
                    if not await self._back_in(LOOK_SECONDS):
                        return None
                return await self._attempted(target)
        raise AssertionError("the loop above ends by returning or raising")

    async def _attempted(self, target: Target) -> Done:
        try:
            with self.backfilling.attempting():
                return await self.drive._migrator.attempt(self._work(target), self.attempt)
        except TargetError as exc:
            if exc.kind == BACKFILL_ABORTED and (left_out := self.backfilling.left_out) is not None:
                raise TargetSkippedError(left_out, kind="skipped") from exc
            raise
        finally:
            self.spent.lock_wait_seconds += self.attempt.lock_wait_seconds
            if self.attempt.judged:
                self.migration = replace(self.migration, doubt=None)
            elif self.attempt.doubt is not None:
                self.migration = replace(self.migration, doubt=self.attempt.doubt)

    async def _back_in(self, seconds: float = 0.0) -> bool:
        """Wait for a slot again, and at least for so long; False when it may not go on, and is pending once more."""
        left = time.monotonic()
        await anyio.sleep(seconds)
        if not await self.drive.admission.again(self.migration):
            await self.drive.control.record(replace(self.migration, state=MigrationState.PENDING))
            return False
        self.in_slot = True
        stood = time.monotonic() - left
        self.retries.stood(stood)
        self.began += stood  # what it took is told without the time in a queue, a window or a freeze
        return True

    async def _started(self) -> Target | None:
        """Record the start of an attempt; None when the fleet was frozen just before. Raises TargetError."""
        if (refusal := self.drive.admission.refusal) is not None:
            raise refusal
        registry = self.drive.route.registry()  # each time: it may change
        target = find_target(registry, self.migration)
        self.migration = replace(self.migration, place=registry.place_of(target))
        try:
            await self._start()
        except FrozenError:
            return None
        return target

    def _leave_slot(self) -> None:
        if self.in_slot:
            self.in_slot = False
            self.drive.admission.leave(self.migration)

    def _after_failure(self, exc: Exception) -> float | bool:
        """Stamina's question: try again after how many seconds?"""
        if not isinstance(exc, TargetError):
            return False
        self.drive.admission.note(exc)
        if self.backfilling.progressed:  # an attempt of hours is not over its deadline for one that failed before it
            self.retries.progressed()
            self.backfilling.progressed = False
        stopped = exc.kind == BACKFILL_STOPPED
        wait = self._until_next_look() if stopped else self.retries.after(exc)
        if wait is None:
            return False  # the slot is kept until the failure is recorded: it may pause the rollout
        self.suspect = exc.kind == WORKER_DIED
        if isinstance(exc, HeadsChangedError):
            self.reached = self.migration.from_heads
        elif self.attempt.to_heads is not None and not self.suspect:
            self.reached = self.attempt.to_heads
        self._leave_slot()
        if stopped:
            return wait
        reason = classify.classify(exc).value
        self.spent.retries[reason] += 1
        self.drive._publish(
            events.MigrationRetried(
                **tell.who(self.migration),
                attempt=self.migration.attempts,
                reason=reason,
                message=exc.message,
                wait_seconds=round(wait, 3),
            )
        )
        return wait

    def _until_next_look(self) -> float:
        """Seconds until it is seen whether a backfill that was stopped may go on: at once where it may not."""
        return STOPPED_SECONDS if self.drive.control.admits else 0.001

    async def _start(self) -> None:
        self.attempt = Attempt()
        begun = decide.begun(self.migration, events.now())
        started = events.MigrationStarted(**tell.who(begun), attempt=begun.attempts)
        await self.drive.control.record(begun, started)
        self.migration = begun

    def _work(self, target: Target) -> Work:
        route = self.drive.route
        way = route.ways[self.migration.track]
        return Work(
            route.registry(),
            target,
            way.history,
            way.planner_for(self.migration),
            way.courses,
            on_heads=self._note_heads,
            on_step=self._note_step,
            on_refused=self._note_refusal,
            occasion=self._occasion(),
            on_doubt=self._note_doubt,
            on_counted=self._note_counted,
            doubt=self.migration.doubt,
            counted=self.migration.counted,
            since=self.migration.from_heads,
            suspect=self.suspect,
            cut_short=self.cut_short,
            bound=way.bound is not None,
            on_batch=partial(self._asked, target),
            unfinished=partial(self.drive.throttle.left, self.migration.rollout, target) if self._has_left() else None,
            on_finished=self.backfilling.found_finished,
            reviewed=planned.sql if (planned := self.migration.planned) and not self.migration.reverting else None,
            left_alone=way.bound is not None and not (self.migration.planned and self.migration.planned.steps),
        )

    def _has_left(self) -> bool:
        """Whether an attempt before may have had backfills."""
        history = self.drive.route.ways[self.migration.track].history
        return self.migration.attempts > 1 and bool(history.backfills("upgrade") | history.backfills("downgrade"))

    def _occasion(self) -> Occasion:
        rollout, wave = self.drive.share.rollout, self.migration.wave
        backs_up = any(one.backup for one in rollout.waves if one.name == wave)
        before = self.reached if self.migration.attempts > 1 else self.migration.from_heads
        moved = self.migration.attempts > 1 and before != self.migration.from_heads
        changed = self.cut_short or self.suspect or moved or self.migration.execution == BACKFILL
        return Occasion(rollout.id, rollout.request.strategy, wave, self._record, backs_up, changed, self)

    async def _asked(self, target: Target, report: Report) -> Answer:
        return await self.backfilling.ask(self.migration, target, report)

    async def _record(self, event: events.MigrationEvent) -> None:
        await self.drive.control.record(self.migration, event)

    async def _note_heads(self, plan: Plan) -> None:
        """Heads as found, durable before any DDL; kept from the first touch of this rollout on."""
        first = self.migration.attempts == 1 and not self.drive.route.ways[self.migration.track].is_relative
        if self.migration.from_heads is None or first:
            self.migration = replace(self.migration, from_heads=plan.heads, steps=len(plan.steps))
            if plan.steps:
                await self.drive.control.record(self.migration)

    async def _note_doubt(self, found: str | None) -> None:
        self.migration = replace(self.migration, doubt=found)
        await self.drive.control.record(self.migration)

    async def _note_counted(self, found: Mapping[str, int | None]) -> None:
        self.migration = replace(self.migration, counted=found)
        await self.drive.control.record(self.migration)

    def _note_step(self, revision: str, seconds: float) -> None:
        self.drive._publish(
            events.StepApplied(**tell.who(self.migration), revision=revision, seconds=round(seconds, 6))
        )

    def _note_refusal(self, exc: TargetError) -> None:
        self.drive._publish(events.ReplayRefused(**tell.who(self.migration), message=exc.message, code=exc.code))

    def _succeeded(self, done: Done) -> Migration:
        if self.migration.reverting:
            return replace(self.migration, state=MigrationState.ROLLED_BACK, to_heads=done.to_heads, failure=done.left)
        if not done.steps and not self.attempt.adopted and self._is_anothers(done):
            found = replace(self.migration, from_heads=done.to_heads, to_heads=done.to_heads)
            return replace(found, state=MigrationState.UP_TO_DATE, failure=None)
        # After a crash the target may be at the goal already: it was this rollout that brought it there.
        changed = done.steps > 0 or self.attempt.adopted or self.migration.from_heads not in (None, done.to_heads)
        state = MigrationState.SUCCEEDED if changed else MigrationState.UP_TO_DATE
        return replace(self.migration, state=state, to_heads=done.to_heads, failure=None)

    def _is_anothers(self, done: Done) -> bool:
        """Whether what is found is not our work: no attempt of ours can have brought it there."""
        return self.reached is not None and self.reached != done.to_heads

    async def _finish_with(self, exc: TargetError) -> None:
        failed = classify.failure(exc)
        state = classify.outcome(exc)
        await self._finish(replace(self.migration, state=state, failure=failed, to_heads=self.attempt.to_heads))

    async def _finish(self, migration: Migration) -> None:
        touched = migration.changed or migration.is_half_applied or self.backfilling.any
        counted = migration.counted if migration.failure is not None and touched else None
        way = BACKFILL if self.backfilling.any else self.attempt.execution
        self.migration = replace(migration, execution=way, finished_at=events.now(), counted=counted)
        if self.backfilling.any:  # who finds the migration at its end finds its backfills so
            await self.drive.throttle.kept()
        self.spent.seconds, self.spent.backfill_rows = time.monotonic() - self.began, self.backfilling.rows
        await self.drive.control.record(self.migration, tell.finished(self.migration, self.spent))


def _bug(exc: Exception) -> TargetError:
    return TargetError(
        f"the orchestrator failed: {type(exc).__name__}: {exc}",
        kind="bug",
        remedy="this is a bug: please report it with the daemon's log; the version table tells what is applied",
    )


def _not_tried(reason: TargetError, shard: str) -> TargetUnreachableError:
    return TargetUnreachableError(
        f"not tried: shard {shard} did not answer for other targets just before ({reason.message})",
        kind=reason.kind,
        remedy=reason.remedy,
    )
