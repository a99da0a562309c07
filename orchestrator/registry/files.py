"""The registry file on disk: read in worker threads until it is whole, and watched."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import NamedTuple

import anyio
import anyio.to_thread

from orchestrator.errors import RegistryError
from orchestrator.registry import manifest, secrets
from orchestrator.registry.model import Registry

READINGS = 3


class _Stamp(NamedTuple):
    """What changes when a file is written, replaced, or reached through another symbolic link."""

    real_path: str
    device: int
    inode: int
    modified_ns: int
    changed_ns: int
    size: int


Stamps = Mapping[Path, _Stamp | None]


class RegistryFile:
    """The file at `path`, and the secret files it refers to."""

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        self.path = path
        self._environ = environ
        self._seen: Stamps | None = None

    async def read(self) -> Registry:
        """Read until nothing was written meanwhile, or for the last time. Raises RegistryError."""
        for _ in range(READINGS):
            self._seen = await self._look()
            outcome = await anyio.to_thread.run_sync(_load, self.path, self._environ, abandon_on_cancel=True)
            if await self._look() == self._seen:
                break
        if isinstance(outcome, RegistryError):
            raise outcome
        return outcome

    async def changes(self, poll_seconds: float) -> AsyncIterator[None]:
        """Come round, for ever, when there is something else to read than was read last.

        That is once it has stayed the same from one look to the next: so a file that is still being written is neither
        complained about nor, worse, taken for a shorter list of tenants.
        """
        before: Stamps | None = None
        while True:
            await anyio.sleep(poll_seconds)
            now = await self._look()
            if now != self._seen and now == before:
                yield
            before = now

    async def _look(self) -> Stamps:
        return await anyio.to_thread.run_sync(_stamps, self.path, abandon_on_cancel=True)


def _load(path: Path, environ: Mapping[str, str]) -> Registry | RegistryError:
    try:
        return manifest.load(path, environ)
    except RegistryError as exc:
        return exc


def _stamps(path: Path) -> Stamps:
    return {file: _stamp(file) for file in (path, *_secret_files(path))}


def _secret_files(path: Path) -> frozenset[Path]:
    try:
        if not path.is_file():
            return frozenset()  # opening a pipe would wait for whoever writes to it
        return secrets.files(path.read_text(encoding="utf-8"), path.absolute().parent)
    except (OSError, ValueError):
        return frozenset()


def _stamp(path: Path) -> _Stamp | None:
    try:
        status = path.stat()
        real_path = os.path.realpath(path)
    except (OSError, ValueError):
        return None
    return _Stamp(real_path, status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size)
