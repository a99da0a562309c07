"""One target from connect to close: prove, lock, read, plan, run, verify."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial

import structlog

from orchestrator.backfill.model import Answer, Report
from orchestrator.databases.base import Database, Found, Guard, Limits, Neighbours, Place, Replayer
from orchestrator.databases.occupancy import Occupancy
from orchestrator.errors import (
    HistoryError,
    MigrationFailedError,
    TargetError,
    TargetLockedError,
)
from orchestrator.events import Event, LockWaited
from orchestrator.execute import leavings, leftovers, newcomers, standing, untold
from orchestrator.execute.course import Course
from orchestrator.execute.courses import Courses
from orchestrator.execute.doubts import Doubts
from orchestrator.execute.given import env_url, env_variables, hidden
from orchestrator.execute.meanwhile import Ours
from orchestrator.execute.occasion import Occasion
from orchestrator.execute.online import OnlineRunner
from orchestrator.execute.precautions import Care, Precautions
from orchestrator.execute.proving import Turn
from orchestrator.execute.questions import OnBatch
from orchestrator.execute.refusing import not_there, refuse_impossible, refuse_mixed, unplanned
from orchestrator.execute.tracing import UNTRACED, Tracing
from orchestrator.history import failures
from orchestrator.history.jobs import MigrateJob
from orchestrator.history.revisions import History
from orchestrator.plan.back import Return
from orchestrator.plan.catalog import Catalog
from orchestrator.plan.steps import Plan, Planning
from orchestrator.registry.model import Heads, Registry, Target, Track
from orchestrator.rollout.state import Failure

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Work:
    """One target's migration: who, where, along which history, to which goal.

    `since`: the heads that the target had when this rollout first touched it, where it did before.
    `suspect`: an attempt before ended with the worker process, so this one gets a process of its own: a revision that
    crashes must not take other targets with it twice. `cut_short`: an attempt before ended in the middle; `doubt`: what
    it may have left (`plan.doubt`). `on_doubt` makes the same of this attempt durable. `counted`, `on_counted`: rows by
    table before the first change.
    `bound`: only what was planned may run; `left_alone`: that is nothing; `reviewed`: digest of the SQL that
    was planned, None where there is none to be held to. `on_batch`: asked before each batch of a backfill; None: they
    pace themselves. `unfinished`: backfills of earlier attempts whose end nobody knows of, to be told of by
    `on_finished`; None: there can be none.
    """

    registry: Registry
    target: Target
    history: History
    planner: Planning
    courses: Courses
    on_heads: Callable[[Plan], Awaitable[None]]
    on_step: Callable[[str, float], None]
    on_refused: Callable[[TargetError], None]
    occasion: Occasion
    on_doubt: Callable[[str | None], Awaitable[None]]
    on_counted: Callable[[Mapping[str, int | None]], Awaitable[None]]
    since: Heads | None = None
    doubt: str | None = None
    counted: Mapping[str, int | None] | None = None
    suspect: bool = False
    cut_short: bool = False
    bound: bool = False
    left_alone: bool = False
    reviewed: str | None = None
    on_batch: OnBatch | None = None
    unfinished: untold.Left | None = None
    on_finished: untold.OnFinished | None = None

    @property
    def reverting(self) -> bool:
        """Whether what the rollout has done is taken back."""
        return isinstance(self.planner, Return)

    @property
    def alone(self) -> bool:
        return self.suspect or self.track.isolation == "process"

    def origin(self, plan: Plan) -> Heads:
        """What a relative goal counts from, given the plan of this attempt."""
        return plan.heads if self.since is None else self.since

    @property
    def track(self) -> Track:
        return self.registry.tracks[self.target.track]


@dataclass(frozen=True, slots=True)
class Done:
    """What was found, and what holds now. `steps` counts the revisions that were run; `left` is what a way back has not
    taken back."""

    from_heads: Heads
    to_heads: Heads
    steps: int
    left: Failure | None = None


@dataclass(slots=True)
class Attempt:
    """What one attempt learned before it ended, however it ended; `adopted`: the target was stamped first; `judged`:
    nothing is in doubt any more, neither of this attempt nor of one before; `doubt`: this is, from now on.
    `lock_wait_seconds`: from connecting to holding the target's lock, or to giving up."""

    lock_wait_seconds: float = 0.0
    adopted: bool = False
    to_heads: Heads | None = None
    execution: str | None = None
    judged: bool = False
    doubt: str | None = None


class Migrator:
    """Migrates targets of any kind of database. One instance serves all tasks."""

    def __init__(
        self,
        databases: Mapping[str, Database],
        runner: OnlineRunner,
        limits: Limits,
        publish: Callable[[Event], None],
        settled: Callable[[Target], Target],
        *,
        traced: bool = False,
    ) -> None:
        """`settled` gives a target the version table that its track's env.py works on, as it is known by now.
        `traced`: statements and their times are recorded, and published segment by segment."""
        self._traced = traced
        self._databases, self._runner, self._limits, self._publish = databases, runner, limits, publish
        self._settled, self._care = settled, Care()

    def backups_underway(self) -> Mapping[str, int]:
        """How many targets are backed up now or wait for their turn, by rollout."""
        return self._care.backups.underway

    async def read_heads(self, registry: Registry, target: Target) -> Heads | None:
        """What the target's version table holds; None: no version table. Raises TargetError."""
        place = self._place(registry, self._settled(target))
        return await self._databases[place.url.get_backend_name()].read_heads(place)

    async def read_many(self, registry: Registry, targets: Sequence[Target], found: Found) -> None:
        """As `read_heads`, for targets in one database; `found` is called for each. Raises TargetError for the rest."""
        places = [self._place(registry, self._settled(target)) for target in targets]
        await self._databases[places[0].url.get_backend_name()].read_many(places, found)

    async def catalog(self, registry: Registry, target: Target) -> Catalog:
        """The target's schema as lines, with its heads. Raises TargetError."""
        place = self._place(registry, self._settled(target))
        beside = [self._place(registry, self._settled(other)) for other in registry.beside(target)]
        return await self._databases[place.url.get_backend_name()].catalog(place, beside)

    async def occupancy(self, registry: Registry, target: Target) -> Occupancy | None:
        """Who has the connections of the target's server; None where there is none. Raises TargetError."""
        place = self._place(registry, target)
        return await self._databases[place.url.get_backend_name()].occupancy(place)

    async def look_back(
        self,
        registry: Registry,
        target: Target,
        history: History,
        left: untold.Left,
        on_finished: untold.OnFinished,
    ) -> Heads:
        """The heads of a target on which nothing is run any more, after what a killed run left behind was ended;
        `on_finished` is called as by `untold.tell`. Raises TargetError."""
        place = self._place(registry, history.env_py.settled(target))
        async with self._databases[place.url.get_backend_name()].guard(place) as guard:
            heads = await guard.heads() or ()
            await untold.tell(place, guard, None, left, on_finished)
            return heads

    async def attempt(self, work: Work, attempt: Attempt) -> Done:
        """Try once to bring the target to the goal; what is learned on the way is noted in `attempt`.

        Raises TargetError. The target's lock is free and no session of ours is left when this ends in any way.
        """
        place = self._place(work.registry, work.history.env_py.settled(work.target))
        ours = Ours(work.history.after)
        work = replace(work, on_step=ours.noting(work.on_step))
        began = time.monotonic()
        database = self._databases[place.url.get_backend_name()]
        async with AsyncExitStack() as stack:
            try:
                guard = await stack.enter_async_context(database.guard(place))
            except TargetLockedError:
                self._publish(_waited(work, began, acquired=False))
                raise
            finally:
                attempt.lock_wait_seconds = time.monotonic() - began
            self._publish(_waited(work, began, acquired=True))
            precautions, doubts = Precautions(self._care, work, place, guard), Doubts(work, place, attempt)
            try:
                heads = await self._provided(work, place, guard, attempt, precautions, ours)
                plan = work.planner.plan(heads, work.since)
                refuse_impossible(plan, work.bound)
                refuse_mixed(work.history, plan)
                ours.begins(plan)
                await work.on_heads(plan)
                await doubts.judge(plan)
                if work.unfinished is not None and work.on_finished is not None:
                    await untold.tell(place, guard, plan, work.unfinished, work.on_finished)
                if not plan.steps:
                    attempt.to_heads = plan.heads
                    await precautions.after(plan, plan.heads)
                    return Done(plan.heads, plan.heads, 0, await _left(work, place, guard, plan))
                if work.cut_short or work.suspect:
                    await leftovers.tell(work.target, guard)
                await precautions.before(plan)
                server, read = await _replaying(work, guard, plan), standing.reader(place, guard)
                async with work.courses.turn(work.registry, work.target, plan, server, read, work.reviewed) as turn:
                    await doubts.begins(plan)
                    done = await self._brought(work, place, plan, guard, turn, attempt, ours, doubts)
                doubts.ended(None)
                await precautions.after(plan, done.to_heads)
                return replace(done, left=await _left(work, place, guard, plan))
            except TargetError as exc:
                attempt.to_heads = attempt.to_heads or await _heads_if_possible(guard)
                doubts.ended(exc)
                if (half := doubts.instead_of(exc, attempt.to_heads)) is not None:
                    raise half from exc
                await leftovers.name(exc, guard)
                if (meanwhile := ours.instead_of(exc, attempt.to_heads)) is not None:
                    raise meanwhile from exc
                raise

    async def _provided(
        self, work: Work, place: Place, guard: Guard, attempt: Attempt, precautions: Precautions, ours: Ours
    ) -> Heads | None:
        """The target's heads, after what is to be done first where there is no version table."""
        heads = await guard.heads()
        plan = work.planner.plan(heads, work.since)
        ours.begins(plan)
        if heads is not None or plan.direction == "downgrade" or not plan.steps:
            return heads
        if plan.direction == "upgrade":
            verdict = newcomers.verdict(work.track, work.target, await guard.tables())
            if isinstance(verdict, TargetError):
                raise verdict
            if work.left_alone:
                raise unplanned("the plan was to leave it alone. Nothing was run")
            if verdict is not None:
                await precautions.before(plan)
                return await self._adopted(work, place, guard, verdict, attempt)
        await precautions.before(plan)
        await guard.make_schema()
        return None

    async def _adopted(self, work: Work, place: Place, guard: Guard, revision: str, attempt: Attempt) -> Heads:
        """Stamp a target that somebody else has brought to this revision."""
        try:
            goal = work.history.resolve(revision, "stamp")
        except HistoryError as exc:
            raise MigrationFailedError(f"`adopt`: {exc.message}", kind="adopt", remedy=exc.remedy) from exc
        stamp = Plan((), goal, "stamp", goal, provisioned=False)
        await self._runner.run(self._job(work, place, stamp, guard), guard, work.on_step, alone=work.alone)
        heads = await guard.heads()
        if heads != goal:
            raise not_there(heads or (), f"{', '.join(goal)} was stamped")
        attempt.adopted = True
        target = work.target
        log.info(
            "adopted",
            rollout=work.occasion.rollout,
            tenant=target.tenant,
            track=target.track,
            shard=target.shard,
            to=list(goal),
        )
        return heads

    async def _brought(
        self,
        work: Work,
        place: Place,
        plan: Plan,
        guard: Guard,
        turn: Turn,
        attempt: Attempt,
        ours: Ours,
        doubts: Doubts,
    ) -> Done:
        lasting = partial(doubts.note, plan)
        asked = partial(_asked, work.on_batch, doubts) if work.on_batch is not None else None

        tracing = self._tracing(work, place)

        async def online(part: Plan) -> None:
            job = replace(self._job(work, place, part, guard), observed=turn.watched)
            if turn.watched and turn.compiled is None:
                job = replace(job, schema=standing.question(place))
            run = partial(self._runner.run, on_observed=turn.noticed, on_lasting=lasting, on_batch=asked)
            with tracing.segment("online", part.steps) as segment:
                if segment is not None:
                    job, run = replace(job, traced=True), partial(run, on_traced=segment.heard)
                await run(job, guard, work.on_step, alone=work.alone)

        course = Course(
            guard,
            turn,
            plan=partial(work.planner.plan, since=work.origin(plan)),
            online=online,
            on_step=work.on_step,
            on_refused=work.on_refused,
            moved=ours.moved,
            on_lasting=lasting,
            redact=partial(_redacted, work),
            tracing=tracing,
        )
        try:
            await course.run(plan)
        finally:
            attempt.execution = course.execution
        heads = course.heads if course.heads is not None else await guard.heads()
        done = self._verified(work, plan, heads, attempt)
        if turn.watched and guard.replayer is not None:
            await _witness(guard.replayer, turn, place)
        return done

    def _tracing(self, work: Work, place: Place) -> Tracing:
        if not self._traced:
            return UNTRACED
        target, occasion = work.target, work.occasion
        who = {"tenant": target.tenant, "track": target.track, "shard": target.shard}
        return Tracing(place, {**who, "rollout": occasion.rollout, "wave": occasion.wave}, self._publish)

    def _verified(self, work: Work, plan: Plan, heads: Heads | None, attempt: Attempt) -> Done:
        """Env.py returning says little: what the version table holds now is what was done."""
        after = work.planner.plan(heads, work.origin(plan))
        attempt.to_heads = after.heads
        if after.steps or after.unknown:
            raise not_there(after.heads, f"still to run: {', '.join(after.steps or after.unknown)}")
        return Done(plan.heads, after.heads, len(plan.steps))

    def _job(self, work: Work, place: Place, plan: Plan, guard: Guard) -> MigrateJob:
        url = env_url(work.registry, work.target, work.history.is_async)
        environment = env_variables(work.registry, work.target, url)
        return MigrateJob(
            track=work.track,
            digest=work.history.digest,
            modules=work.history.snapshot.modules,
            tenant=work.target.tenant,
            plan=plan,
            version_table=place.target.version_table,
            version_table_schema=place.target.version_table_schema or place.target.schema,
            rules=guard.rules,
            url=url.render_as_string(hide_password=False),
            environment=environment,
            secrets=hidden(url, environment),
        )

    def _place(self, registry: Registry, target: Target) -> Place:
        def neighbours() -> Neighbours:
            others = map(self._settled, registry.beside(target))
            tables = frozenset(other.version_table for other in others)
            return Neighbours(tables, tuple(registry.schemas_of(target)) if target.schema is None else ())

        return Place(target, registry.url_for(target), self._limits, neighbours)


def _waited(work: Work, began: float, *, acquired: bool) -> LockWaited:
    target = work.target
    return LockWaited(
        shard=target.shard,
        seconds=time.monotonic() - began,
        acquired=acquired,
        rollout=work.occasion.rollout,
        track=target.track,
        tenant=target.tenant,
    )


async def _asked(on_batch: OnBatch, doubts: Doubts, report: Report) -> Answer:
    await doubts.batch(report)
    return await on_batch(report)


def _redacted(work: Work, text: str) -> str:
    url = env_url(work.registry, work.target, work.history.is_async)
    return failures.redact(text, hidden(url, env_variables(work.registry, work.target, url)))


async def _replaying(work: Work, guard: Guard, plan: Plan) -> str | None:
    """What the server calls its version, where compiled SQL may be sent to it."""
    replayer = guard.replayer
    if replayer is None or plan.direction == "stamp" or work.track.execution == "online":
        return None
    return None if await replayer.is_for_env_py() else replayer.server


async def _witness(replayer: Replayer, turn: Turn, place: Place) -> None:
    """What the target has become, and whether env.py does what compiled SQL would not."""
    try:
        if turn.compiled is None:
            turn.compare(await replayer.state())
            turn.recording = standing.named_alike(turn.recording, place)
        turn.saw(await replayer.fingerprint())
    except TargetError as exc:
        turn.saw(exc)  # the target is at the goal all the same


async def _heads_if_possible(guard: Guard) -> Heads | None:
    try:
        return await guard.heads() or ()
    except TargetError:
        return None


async def _left(work: Work, place: Place, guard: Guard, plan: Plan) -> Failure | None:
    """Rows that stay changed on the way back of a target; None: none, or it is not on its way back."""
    if not isinstance(work.planner, Return) or work.since is None:
        return None
    steps, direction = work.planner.forward(work.since)
    return await leavings.left(place, guard, steps, direction, moved=bool(plan.steps)) if steps else None
