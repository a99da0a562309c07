"""Back a target up before its first change; where that fails, it is not touched."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread
import structlog

from orchestrator.databases import dumps, programs
from orchestrator.databases.base import Guard, Place
from orchestrator.databases.dumper import Dumper
from orchestrator.databases.refusals import BACKUP, backup_failed
from orchestrator.errors import MigrationFailedError, TargetError, TargetUnreachableError
from orchestrator.events import BackupFailed, BackupTaken
from orchestrator.execute.occasion import Occasion
from orchestrator.execute.online import lost
from orchestrator.execute.shelf import About, Kept, Shelf, size_of
from orchestrator.execute.slots import Slots
from orchestrator.plan.steps import Plan
from orchestrator.registry.model import DEFAULT_STRATEGY, Registry, Target
from orchestrator.registry.precautions import Backup

# https://man.freebsd.org/sysexits: what a command ends with that may do better later.
_TEMPORARY = 75
_DISK = "check space and rights where backups are kept"

_T = TypeVar("_T")

log = structlog.get_logger(__name__)


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


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom to back up, and why; `place` is where the target is, with the version table that counts."""

    registry: Registry
    target: Target
    place: Place
    occasion: Occasion
    plan: Plan

    @property
    def about(self) -> About:
        target, plan = self.target, self.plan
        return About(
            self.occasion.rollout,
            plan.direction,
            target.tenant,
            target.track,
            target.shard,
            self.registry.place_of(target),
            plan.heads if plan.provisioned else None,
        )


class Backups:
    """Takes backups, a few at a time over the process. One instance serves all tasks."""

    def __init__(self) -> None:
        self._slots = Slots(1)
        self._done: dict[object, About] = {}  # of commands that keep them where we cannot look

    async def take(self, subject: Subject, guard: Guard) -> None:
        """Have a good backup of the target from before this rollout's first change of it, where its wave wants one.

        The target's lock is held meanwhile, also while others have their turn: nobody else but its application can
        change it between backup and migration. Raises MigrationFailedError of kind `backup`, and
        TargetUnreachableError when the lock is lost.
        """
        backup = wanted(subject.registry, subject.occasion.strategy, subject.occasion.wave)
        if backup is None:
            return
        dumper = guard.dumper
        if not dumper.is_there or await self._is_done(subject, backup):
            return
        async with self._turn(backup, subject.target.shard, guard):
            began = time.monotonic()
            try:
                kept = await self._made(subject, backup, dumper, guard)
            except TargetError as exc:
                await subject.occasion.record(_failed(subject, exc, time.monotonic() - began))
                raise
            self._done[subject.target.key] = subject.about
            await subject.occasion.record(_taken(subject, kept, time.monotonic() - began))

    async def _is_done(self, subject: Subject, backup: Backup) -> bool:
        """Whether a try before has made it: a second one, of a target that was changed in part, would be worse."""
        if backup.directory is not None:
            shelf = Shelf(backup.directory, subject.about)
            if await _filing(shelf.find) is not None:
                return True
            return backup.command is not None and self._remembers(subject)
        return self._remembers(subject)

    def _remembers(self, subject: Subject) -> bool:
        done, about = self._done.get(subject.target.key), subject.about
        return done is not None and (done.rollout, done.direction) == (about.rollout, about.direction)

    @asynccontextmanager
    async def _turn(self, backup: Backup, shard: str, guard: Guard) -> AsyncIterator[None]:
        held: list[bool] = []

        async def wait() -> None:
            self._slots.total = backup.concurrency
            await self._slots.acquire(shard, backup.per_shard or backup.concurrency)
            held.append(True)

        try:
            await while_held(guard, wait)
            yield
        finally:
            if held:
                self._slots.release(shard)

    async def _made(self, subject: Subject, backup: Backup, dumper: Dumper, guard: Guard) -> Kept | None:
        making = _Making(subject, backup, dumper)

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


class _Making:
    """One backup on its way."""

    def __init__(self, subject: Subject, backup: Backup, dumper: Dumper) -> None:
        self._subject, self._backup, self._dumper = subject, backup, dumper
        self._shelf = Shelf(backup.directory, subject.about) if backup.directory is not None else None
        self.kept: Kept | None = None

    async def run(self) -> None:
        suffix = "backup" if self._backup.command is not None else self._dumper.suffix
        file = await _filing(partial(self._shelf.begin, suffix)) if self._shelf is not None else None
        try:
            try:
                await self._write(file)
            except OSError as exc:
                raise _of_the_disk(exc) from exc
            if file is not None and self._shelf is not None and await _filing(file.exists):
                self.kept = await _filing(partial(self._shelf.finish, file))
        finally:
            if file is not None and self._shelf is not None and self.kept is None:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(self._shelf.discard, file)
        if self._shelf is not None:
            await self._rotate(self._shelf)

    async def _write(self, file: Path | None) -> None:
        if self._backup.command is not None:
            await self._command("the command", self._backup.command, file)
        else:
            assert file is not None
            await _filing(partial(file.touch, mode=0o600))
            await self._dumper.dump(file)
        if file is not None and await _filing(partial(_is_empty, file)):
            raise backup_failed("it is empty", "look at what makes it")
        if self._backup.command is None and file is not None:
            await self._dumper.check(file, provisioned=self._subject.plan.provisioned)
        if self._backup.check is not None:
            await self._command("the check", self._backup.check, file)

    async def _command(self, what: str, command: str, file: Path | None) -> None:
        """A line for the shell, which finds all that it may need in its environment."""
        environment = {**programs.inherited(), **self._dumper.environment, **_variables(self._subject, file)}
        folder = self._subject.registry.source.parent
        ended = await programs.run(["/bin/sh", "-c", command], environment, folder=folder)
        if ended.code == _TEMPORARY:
            said = dumps.shown(ended.said, self._subject.place.url.password)
            raise backup_failed(f"{what} asks for another try: {said}", "look at what it says", retriable=True)
        if ended.code:
            raise dumps.failed(what, ended, self._subject.place.url.password)

    async def _rotate(self, shelf: Shelf) -> None:
        try:
            await anyio.to_thread.run_sync(shelf.rotate, self._backup.keep)
        except OSError as exc:  # the backup itself is good
            log.warning("backups_not_rotated", tenant=self._subject.target.tenant, reason=str(exc))


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
            kind="guard_lost",
            remedy="look at the server's log for why it ended the session",
            retriable=True,
        )
    for failure in failures:
        raise failure


async def _filing(work: Callable[[], _T]) -> _T:
    """Work on files, in a thread."""
    try:
        return await anyio.to_thread.run_sync(work)
    except OSError as exc:
        raise _of_the_disk(exc) from exc


def _is_empty(file: Path) -> bool:
    return file.exists() and not size_of(file)


def _of_the_disk(exc: OSError) -> MigrationFailedError:
    where = f" {exc.filename}" if exc.filename else ""
    return backup_failed(f"{exc.strerror or exc}{where}", _DISK)


def _variables(subject: Subject, file: Path | None) -> dict[str, str]:
    """What a command is told of the target."""
    target, url = subject.target, subject.place.url
    found = {
        "TENANT": target.tenant,
        "TRACK": target.track,
        "SHARD": target.shard,
        "DIALECT": url.get_backend_name(),
        "DATABASE": url.database or "",
        "SCHEMA": target.schema or "",
        "HEADS": " ".join(subject.plan.heads),
        "ROLLOUT": subject.occasion.rollout,
    }
    if file is not None:
        found["BACKUP_FILE"] = str(file)
    return {f"ORCHESTRATOR_{name}": value for name, value in found.items()}


def _taken(subject: Subject, kept: Kept | None, seconds: float) -> BackupTaken:
    return BackupTaken(
        rollout=subject.occasion.rollout,
        track=subject.target.track,
        tenant=subject.target.tenant,
        shard=subject.target.shard,
        wave=subject.occasion.wave,
        path=str(kept.file) if kept is not None else None,
        bytes=kept.size if kept is not None else None,
        seconds=round(seconds, 6),
    )


def _failed(subject: Subject, exc: TargetError, seconds: float) -> BackupFailed:
    return BackupFailed(
        rollout=subject.occasion.rollout,
        track=subject.target.track,
        tenant=subject.target.tenant,
        shard=subject.target.shard,
        wave=subject.occasion.wave,
        message=exc.message,
        seconds=round(seconds, 6),
    )
