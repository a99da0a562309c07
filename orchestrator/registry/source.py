"""The registry as a running process sees it: read again when asked, or when its files change."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import anyio
import anyio.to_thread

from orchestrator.errors import RegistryError
from orchestrator.registry import manifest, secrets
from orchestrator.registry.model import Registry

POLL_SECONDS = 1.0
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


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """The registry after a reload; `changed` tells whether it is another one than before."""

    changed: bool
    registry: Registry


class RegistrySource:
    """Reads the registry file at `path`, in worker threads. `current` is the last one that had no mistakes."""

    def __init__(self, path: Path, environ: Mapping[str, str] = os.environ) -> None:
        self.path = path
        self._environ = environ
        self._reading = anyio.Lock()
        self._current: Registry | None = None
        self._seen: Stamps | None = None

    @property
    def current(self) -> Registry:
        """The running registry. Raises RuntimeError before the first `reload` that succeeded."""
        if self._current is None:
            raise RuntimeError("the registry has not been read: await reload() first")
        return self._current

    async def reload(self) -> ReloadResult:
        """Read the file again. Raises RegistryError when it has mistakes, and keeps the running registry."""
        async with self._reading:
            outcome = await self._read()
            if isinstance(outcome, RegistryError):
                raise outcome
            if self._current is not None and self._current.digest == outcome.digest:
                return ReloadResult(False, self._current)
            self._current = outcome
            return ReloadResult(True, outcome)

    async def watch(
        self, on_result: Callable[[ReloadResult | RegistryError], None], *, poll_seconds: float = POLL_SECONDS
    ) -> None:
        """Look at the file, and at the secret files it refers to, for ever; `on_result` is told of each re-reading.

        A change is read once it has stayed the same from one look to the next: so a file that is still being written
        is neither complained about nor, worse, taken for a shorter list of tenants. Changes that a `reload` has
        already read are not told again.
        """
        before: Stamps | None = None
        while True:
            await anyio.sleep(poll_seconds)
            now = await self._look()
            if now != self._seen and now == before:
                on_result(await self._attempt())
            before = now

    async def _read(self) -> Registry | RegistryError:
        """Read until nothing was written meanwhile, or for the last time."""
        for _ in range(READINGS):
            self._seen = await self._look()
            outcome = await anyio.to_thread.run_sync(_load, self.path, self._environ, abandon_on_cancel=True)
            if await self._look() == self._seen:
                break
        return outcome

    async def _attempt(self) -> ReloadResult | RegistryError:
        try:
            return await self.reload()
        except RegistryError as exc:
            return exc

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
