"""Run env.py for one target off the event loop, and watch over it from the loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import anyio
import anyio.to_thread
from anyio.lowlevel import checkpoint_if_cancelled

from orchestrator.databases import giving_way, refusals, watching
from orchestrator.databases.base import Guard
from orchestrator.databases.waiting import Waiting
from orchestrator.errors import HALF_APPLIED, MigrationFailedError, TargetError
from orchestrator.execute.classify import is_lock_timeout
from orchestrator.execute.questions import OnBatch, Questions
from orchestrator.history.jobs import MigrateJob, Observed
from orchestrator.history.progress import Observer
from orchestrator.history.traced import Traced
from orchestrator.history.workers import WORKER_DIED, Handle, Workers

OnLasting = Callable[[str], Awaitable[None]]


class OnlineRunner:
    """Runs jobs in worker processes, at most `limit` at once: in a thread of a shared one, or in one of its own."""

    def __init__(self, workers: Workers, limit: int) -> None:
        self._workers = workers
        self._threads = anyio.CapacityLimiter(limit)

    async def run(
        self,
        job: MigrateJob,
        guard: Guard,
        on_step: Callable[[str, float], None],
        *,
        alone: bool,
        on_observed: Callable[[Observed], None] = lambda observed: None,
        on_lasting: OnLasting | None = None,
        on_batch: OnBatch | None = None,
        on_traced: Callable[[Traced], None] = lambda traced: None,
    ) -> None:
        """Bring the target along its plan; returns when env.py has ended.

        `on_observed` is called from another thread, of a job that is `observed`; so is `on_traced`, of one that is
        `traced`. `on_lasting` is awaited before a
        revision does the first thing that stays whatever becomes of it, and `on_batch` before batches of a backfill;
        without it, backfills pace themselves. `alone`: in a process of its own.
        Raises TargetError. When the guard is lost or this task is cancelled, the migration's backends are ended on the
        server and env.py's end is waited for: nothing of it runs on after this returns or raises, but for a thread of a
        host that cannot be ended (see `_Watch._end`).
        """
        watch = _Watch(guard, alone, Waiting(job.tenant, job.track.name))
        patience = guard.patience
        questions = Questions(on_batch) if on_batch is not None else None
        job = replace(job, paced=questions is not None)
        observer = Observer(
            watch.add,
            _Steps(on_step).tell,
            on_observed,
            _from_thread(on_lasting or _unnoted, patience.seconds if patience else None),
            questions.ask if questions is not None else None,
            on_traced,
        )
        migrate = self._workers.migrate_alone if alone else self._workers.migrate
        call = partial(migrate, job, observer, watch.handle)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watch.run)
                tasks.start_soon(watch.notice_end)
                if questions is not None:
                    tasks.start_soon(questions.mind, watch.ended.wait)
                try:
                    await anyio.to_thread.run_sync(call, limiter=self._threads)
                except TargetError as exc:
                    watch.explain(exc)
                    watch.failure = exc
                finally:
                    watch.done.set()
        except ExceptionGroup as group:
            error = _unwrapped(group)
            raise error from error.__cause__
        await checkpoint_if_cancelled()  # the thread's end hides a cancellation until the next wait
        half_applied = watch.failure is not None and watch.failure.kind == HALF_APPLIED
        if guard.lost.is_set() and not half_applied:
            raise refusals.guard_lost() from watch.failure
        if questions is not None and questions.failure is not None:
            raise questions.failure
        if watch.failure is not None:
            raise watch.failure


async def _unnoted(revision: str) -> None:
    return None


def _from_thread(on_lasting: OnLasting, seconds: float | None) -> Callable[[str], None]:
    """`on_lasting`, to be called from the thread that listens to the worker. env.py holds its locks meanwhile, so it
    has so many seconds; then the revision is rolled back, before anything of it stays."""
    loop = asyncio.get_running_loop()

    async def noted(revision: str) -> None:
        with anyio.move_on_after(seconds) as scope:
            await on_lasting(revision)
        if scope.cancelled_caught:
            raise MigrationFailedError(
                f"the store took longer than {seconds:g} s to write down what revision {revision} is about to commit",
                kind="store_slow",
                remedy="look at the store's load; the target is tried again by itself, and nothing of it was changed",
                retriable=True,
            )

    return lambda revision: asyncio.run_coroutine_threadsafe(noted(revision), loop).result()


class _Watch:
    """Looks after one running env.py: its backends, who blocks them, and whether the guard lives."""

    def __init__(self, guard: Guard, alone: bool, waiting: Waiting) -> None:
        self.guard, self._alone, self._waiting = guard, alone, waiting
        self.handle = Handle()
        self.done = anyio.Event()
        self.ended = anyio.Event()
        self.failure: TargetError | None = None
        self._backends: list[int] = []
        self._gave_way: str | None = None
        self._missed = 0
        self._looked = 0.0
        self._bell = anyio.Event()

    def add(self, backend: int) -> None:
        """Called from the thread that listens to the worker; appending to a list is atomic."""
        self._backends.append(backend)

    def explain(self, exc: TargetError) -> None:
        """Name who held the lock that a statement waited for in vain, or to whom it gave way."""
        if giving_way.explain(exc, self._gave_way):
            return
        if is_lock_timeout(exc) and self._waiting.blocker:
            said, line_end, rest = exc.message.partition("\n")
            exc.message = f"{said}; held by {self._waiting.blocker}{line_end}{rest}"
            if exc.kind != HALF_APPLIED:
                exc.remedy = "end that session or its transaction, or retry at a quieter time"

    async def run(self) -> None:
        patience = self.guard.patience
        pause = min(watching.WATCH_SECONDS, patience.pause) if patience is not None else watching.WATCH_SECONDS
        self._looked = anyio.current_time()
        try:
            while not self.done.is_set() and not self.guard.lost.is_set():
                await self._pause(pause)
                if not self.done.is_set() and not self.guard.lost.is_set():
                    await self._look()
        finally:
            with anyio.CancelScope(shield=True):
                await self._end()

    def _note(self, gave_way: str | None) -> None:
        self._gave_way = gave_way

    async def notice_end(self) -> None:
        """Set `ended` when env.py has ended, or the guard is lost; that ends a pause, too."""
        async with anyio.create_task_group() as tasks:

            async def stop_on(event: anyio.Event) -> None:
                await event.wait()
                tasks.cancel_scope.cancel()

            tasks.start_soon(stop_on, self.done)
            tasks.start_soon(stop_on, self.guard.lost)
        self.ended.set()
        self._bell.set()

    async def _pause(self, seconds: float) -> None:
        """Of hundreds of migrations at once each pauses each second. A deadline that cancels tasks would leave cycles
        of some forty objects behind, each time, and to collect them keeps the loop from all else for 50 ms."""
        self._bell = anyio.Event()
        timer = asyncio.get_running_loop().call_later(seconds, self._bell.set)
        try:
            if not self.ended.is_set():
                await self._bell.wait()
        finally:
            timer.cancel()

    async def _look(self) -> None:
        with anyio.CancelScope(shield=True):
            try:
                await self.guard.give_way(self._backends, self._note)
                if anyio.current_time() >= self._looked + watching.WATCH_SECONDS:
                    self._looked = anyio.current_time()
                    self._waiting.seen(await self.guard.blockers(self._backends))
            except TargetError:
                self._missed += 1
            else:
                self._missed = 0
        if self._missed >= watching.MISSED_LOOKS:
            self.guard.lost.set()

    async def _end(self) -> None:
        """Leave nothing of env.py behind. It may open another connection while it ends: so again, until it is done.

        A thread of a host that cannot be ended (its server is frozen, it sleeps in Python) is abandoned in the end.
        That is safe: the target's lock goes with the guard, what is left on the server is ended by the next run under
        its lock before it starts, and the fence of its rules refuses the thread any new connection.
        """
        began = anyio.current_time()
        if self._alone and not self.done.is_set():
            self.handle.end()
        while not self.done.is_set():
            await self.guard.end_backends(self._backends)
            with anyio.move_on_after(0.2):
                await self.done.wait()
            if not self.done.is_set() and anyio.current_time() - began >= watching.ABANDON_SECONDS:
                self.handle.end()  # hangs up: the thread that listens returns
                return
        if self.failure is not None and self.failure.kind == WORKER_DIED:
            await self.guard.end_backends(self._backends)  # the server may not know yet that its client is dead


def _unwrapped(group: ExceptionGroup[Exception]) -> Exception:
    """The one error in a task group's, however deep; the group itself when there are more."""
    error: Exception = group
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


class _Steps:
    """Brings steps from the thread that listens to the worker to the loop, those of a burst together."""

    def __init__(self, on_step: Callable[[str, float], None]) -> None:
        self._on_step, self._loop = on_step, asyncio.get_running_loop()
        self._told: deque[tuple[str, float]] = deque()

    def tell(self, revision: str, seconds: float) -> None:
        """Called from that thread; never waits."""
        self._told.append((revision, seconds))
        if len(self._told) == 1:
            self._loop.call_soon_threadsafe(self._flush)

    def _flush(self) -> None:
        while self._told:
            self._on_step(*self._told.popleft())
