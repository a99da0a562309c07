"""Back a target up before its first change; where that fails, it is not touched."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import anyio

from orchestrator.databases.base import Guard
from orchestrator.databases.dumper import Dumper
from orchestrator.databases.refusals import BACKUP, GUARD_LOST, backup_failed
from orchestrator.databases.watching import lost
from orchestrator.errors import MigrationFailedError, TargetError, TargetUnreachableError
from orchestrator.events import BackupFailed, BackupTaken
from orchestrator.execute.making import Making, Subject, filing
from orchestrator.execute.shelf import About, Kept, Shelf
from orchestrator.execute.slots import Slots
from orchestrator.registry.model import DEFAULT_STRATEGY, Registry
from orchestrator.registry.precautions import Backup


def wanted(registry: Registry, strategy: str, wave: str) -> Backup | None:
    """How targets of this wave are backed up as the registry has it now; None: they are not.

    Raises MigrationFailedError when strategy or wave are gone: then nobody knows whether they should be.
    """
    found = registry.strategies.get(strategy, DEFAULT_STRATEGY if strategy == DEFAULT_STRATEGY.name else None)
    if found is not None:
        for one in found.waves:
            if one.name == wave:
                return one.backup
    gone = f"strategy {strategy!r} is" if found is None else f"wave {wave!r} of strategy {strategy!r} is"
    raise MigrationFailedError(
        f"{gone} no longer in the registry, which says how to back the target up; the target was not touched",
        kind=BACKUP,
        remedy="put it back, then retry; or start another rollout",
    )


class Backups:
    """Takes backups, a few at a time over the process. One instance serves all tasks. `underway`: how many are made or
    wait for their turn, by rollout; each ends by its deadline."""

    def __init__(self) -> None:
        self._slots = Slots(1)
        self.underway: Counter[str] = Counter()
        self._done: dict[object, tuple[About, object]] = {}  # the newest of each target, and in whose turn it was made

    async def take(self, subject: Subject, guard: Guard) -> None:
        """Have a good backup of the target from before this rollout's first change of it, where its wave wants one.

        The target's lock is held meanwhile, also while others have their turn: nobody else but its application can
        change it between backup and migration. Raises MigrationFailedError of kind `backup`, and
        TargetUnreachableError when the lock is lost.
        """
        if not subject.occasion.backs_up:
            return
        backup = wanted(subject.registry, subject.occasion.strategy, subject.occasion.wave)
        if backup is None:
            return
        dumper = guard.dumper
        if not dumper.is_there or await self._is_done(subject, backup):
            return
        with self._counted(subject.occasion.rollout):
            await self._take(subject, backup, dumper, guard)

    async def _take(self, subject: Subject, backup: Backup, dumper: Dumper, guard: Guard) -> None:
        async with self._turn(backup, subject.target.shard, guard):
            began = time.monotonic()
            try:
                kept = await self._made(subject, backup, dumper, guard)
            except TargetError as exc:
                await subject.occasion.record(_failed(subject, exc, time.monotonic() - began))
                raise
            self._done[subject.target.key] = subject.about, subject.occasion.turn
            await subject.occasion.record(_taken(subject, kept, time.monotonic() - began))

    async def _is_done(self, subject: Subject, backup: Backup) -> bool:
        """Whether a try before has made it. A target that was changed in part is not backed up again, which would be
        worse; one that is as it was is, since its application may have written more by now."""
        done, turn = self._done.get(subject.target.key, (None, None))
        about = subject.about
        if done is not None and turn is subject.occasion.turn:
            return (done.rollout, done.direction) == (about.rollout, about.direction)
        if not subject.occasion.changed:
            return False
        if backup.directory is None:
            return True  # nothing is changed before its backup is made
        return await filing(Shelf(backup.directory, about).find) is not None

    @contextmanager
    def _counted(self, rollout: str) -> Iterator[None]:
        self.underway[rollout] += 1
        try:
            yield
        finally:
            self.underway[rollout] -= 1
            if not self.underway[rollout]:
                del self.underway[rollout]

    @asynccontextmanager
    async def _turn(self, backup: Backup, shard: str, guard: Guard) -> AsyncIterator[None]:
        async with AsyncExitStack() as held:

            async def wait() -> None:
                self._slots.resize(backup.concurrency)
                await held.enter_async_context(self._slots.slot(shard, backup.per_shard or backup.concurrency))

            await while_held(guard, wait)
            yield

    async def _made(self, subject: Subject, backup: Backup, dumper: Dumper, guard: Guard) -> Kept | None:
        making = Making(subject, backup, dumper)

        async def make() -> None:
            with anyio.move_on_after(backup.deadline_seconds) as limit:
                await making.run()
            if limit.cancelled_caught:
                raise backup_failed(
                    f"it took longer than {backup.deadline_seconds:g} s", "raise `deadline`, or look at what is slow"
                )

        if backup.command is not None:
            await while_held(guard, make)
        else:
            async with dumper.ready():
                await while_held(guard, make)
        return making.kept


async def while_held(guard: Guard, work: Callable[[], Awaitable[None]]) -> None:
    """Do `work` while the guard holds the lock; when that is lost, `work` is cancelled.

    Raises what `work` raises, and TargetUnreachableError, retriable, when the lock was lost.
    """
    failures: list[TargetError] = []
    async with anyio.create_task_group() as tasks:

        async def watch() -> None:
            await lost(guard, ())
            tasks.cancel_scope.cancel()

        tasks.start_soon(watch)
        try:
            await work()
        except TargetError as exc:
            failures.append(exc)
        tasks.cancel_scope.cancel()
    if guard.lost.is_set():
        raise TargetUnreachableError(
            "the session that held the target's lock was lost while it was backed up; the target was not touched",
            kind=GUARD_LOST,
            remedy="look at the server's log for why it ended the session",
            retriable=True,
        )
    for failure in failures:
        raise failure


def _taken(subject: Subject, kept: Kept | None, seconds: float) -> BackupTaken:
    where: dict[str, Any] = {} if kept is None else {"path": str(kept.file), "bytes": kept.size}
    return BackupTaken(**subject.who, **where, seconds=round(seconds, 6))


def _failed(subject: Subject, exc: TargetError, seconds: float) -> BackupFailed:
    return BackupFailed(**subject.who, message=exc.message, seconds=round(seconds, 6))
