"""One backup on its way: written under a name of its own, read again, and only then on its shelf."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import structlog

from orchestrator.databases import dumps, programs
from orchestrator.databases.base import Place
from orchestrator.databases.dumper import Dumper
from orchestrator.databases.refusals import backup_failed
from orchestrator.errors import MigrationFailedError
from orchestrator.execute.occasion import Occasion
from orchestrator.execute.shelf import About, Kept, Shelf, size_of
from orchestrator.plan.steps import Plan
from orchestrator.registry.model import Registry, Target
from orchestrator.registry.precautions import Backup

# https://man.freebsd.org/sysexits: what a command ends with that may do better later.
_TEMPORARY = 75
_DISK = "check space and rights where backups are kept"

_T = TypeVar("_T")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom to back up, and why; `place` is where the target is, with the version table that counts."""

    registry: Registry
    target: Target
    place: Place
    occasion: Occasion
    plan: Plan

    @property
    def who(self) -> dict[str, Any]:
        """The fields that name a migration in its events."""
        target, occasion = self.target, self.occasion
        return {
            "rollout": occasion.rollout,
            "track": target.track,
            "tenant": target.tenant,
            "shard": target.shard,
            "wave": occasion.wave,
        }

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


class Making:
    """One backup on its way."""

    def __init__(self, subject: Subject, backup: Backup, dumper: Dumper) -> None:
        self._subject, self._backup, self._dumper = subject, backup, dumper
        self._shelf = Shelf(backup.directory, subject.about) if backup.directory is not None else None
        self.kept: Kept | None = None

    async def run(self) -> None:
        suffix = "backup" if self._backup.command is not None else self._dumper.suffix
        file = await filing(partial(self._shelf.begin, suffix)) if self._shelf is not None else None
        try:
            try:
                await self._write(file)
            except OSError as exc:
                raise _of_the_disk(exc) from exc
            if file is not None and self._shelf is not None:
                self.kept = await filing(partial(self._shelf.finish, file))
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
            await filing(partial(file.touch, mode=0o600))
            await self._dumper.dump(file)
        if file is not None and not await filing(file.exists):
            remedy = (
                "have it write to ORCHESTRATOR_BACKUP_FILE; or leave `directory` out, where it keeps backups itself"
            )
            raise backup_failed("the command has left no file", remedy)
        if file is not None and await filing(partial(_is_empty, file)):
            raise backup_failed("it is empty", "look at what makes it")
        if self._backup.command is None and file is not None:
            await self._dumper.check(file, provisioned=self._subject.plan.provisioned)
        if self._backup.check is not None:
            await self._command("the check", self._backup.check, file)

    async def _command(self, what: str, command: str, file: Path | None) -> None:
        """A line for the shell, which finds all that it may need in its environment."""
        environment = {**programs.inherited(), **self._dumper.environment, **_variables(self._subject, file)}
        folder = self._subject.registry.source.parent
        ended = await programs.run([*programs.shell(), command], environment, folder=folder)
        if ended.code == _TEMPORARY:
            said = dumps.shown(ended.said, self._subject.place.url.password)
            raise backup_failed(f"{what} asks for another try: {said}", "look at what it says", retriable=True)
        if ended.code:
            raise dumps.failed(what, ended, self._subject.place.url.password)

    async def _rotate(self, shelf: Shelf) -> None:
        try:
            await anyio.to_thread.run_sync(shelf.rotate, self._backup.keep)
        except OSError as exc:  # the backup itself is good
            target = self._subject.target
            log.warning(
                "backups_not_rotated", tenant=target.tenant, track=target.track, shard=target.shard, message=str(exc)
            )


async def filing(work: Callable[[], _T]) -> _T:
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
