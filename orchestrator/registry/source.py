"""The registry as a running process sees it: the file, read again when asked or when it changes, and the tenants that
its sources name, asked again at their intervals."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import anyio
import anyio.to_thread
import structlog

from orchestrator import events
from orchestrator.errors import DiscoveryError, RegistryError
from orchestrator.registry import changes, discovery
from orchestrator.registry.answers import Row
from orchestrator.registry.discovery import Looked, Lookup, Source, Sources
from orchestrator.registry.files import RegistryFile
from orchestrator.registry.model import Discovery, Registry

POLL_SECONDS = 1.0
LOOK_SECONDS = 30.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """The registry after a reload; `changed` tells whether it is another one than before, `read` whether its file was
    read, and not only its sources asked.

    `events` tell what became of the sources and of targets that are gone; whoever asked publishes them.
    """

    changed: bool
    registry: Registry
    appeared: int = 0
    vanished: int = 0
    events: tuple[events.Event, ...] = ()
    read: bool = True


OnResult = Callable[[ReloadResult | RegistryError], None]


class RegistrySource:
    """Reads the registry file at `path`, in worker threads, and has `lookup` ask its sources.

    `current` is the last file that had no mistakes, with the tenants of the sources' last good answers.
    """

    def __init__(self, path: Path, environ: Mapping[str, str] = os.environ, lookup: Lookup | None = None) -> None:
        self._file, self._lookup = RegistryFile(path, environ), lookup
        self._reading, self._merging = anyio.Lock(), anyio.Lock()
        self._named: Registry | None = None
        self._current: Registry | None = None
        self._sources: Sources = {}
        self._asked: dict[str, float] = {}

    @property
    def current(self) -> Registry:
        """The running registry. Raises RuntimeError before the first `reload` or `read` that succeeded."""
        if self._current is None:
            raise RuntimeError("the registry has not been read: await reload() first")
        return self._current

    @property
    def sources(self) -> Sequence[Source]:
        """The registry's sources, in the order of the file."""
        return tuple(self._sources.values())

    async def read(self) -> ReloadResult:
        """Read the file again and ask nobody. Raises RegistryError when it has mistakes, and keeps what is running."""
        async with self._reading:
            return await self._merge(await self._file.read(), {}, trusting=False)

    async def reload(self, *, trusting: bool = True) -> ReloadResult:
        """Read the file again and ask all of its sources.

        With `trusting`, as a person who asks for it means it, also an answer that lacks most of a source's tenants is
        taken. Raises RegistryError when the file has mistakes, and keeps what is running.
        """
        async with self._reading:
            file = await self._file.read()
            looked = await self._look(file, file.discoveries, time.monotonic())
            return await self._merge(file, looked, trusting=trusting)

    async def discover(self, *entries: Discovery) -> ReloadResult:
        """Ask these sources of the running registry; all when none are given."""
        file, began = self.current, time.monotonic()
        asked = entries or file.discoveries
        looked = await self._look(file, asked, began)

        def counts(entry: Discovery) -> bool:
            """Not where it was asked again meanwhile, or is no entry any more, or another."""
            return self._asked[entry.name] == began and entry in self.current.discoveries

        def still() -> Collection[str]:
            return {entry.name for entry in asked if counts(entry)}

        return replace(await self._merge(None, looked, trusting=False, counting=still), read=False)

    async def refresh(self, on_result: OnResult, *, poll_seconds: float = POLL_SECONDS) -> None:
        """Ask each source at its interval, for ever, none waiting for another; `on_result` is told of each answer."""
        busy: set[str] = set()

        async def ask(entry: Discovery) -> None:
            try:
                on_result(await self.discover(entry))
            finally:
                busy.discard(entry.name)

        async with anyio.create_task_group() as tasks:
            while True:
                for entry in self.current.discoveries:
                    due = self._asked.get(entry.name, -math.inf) + entry.refresh_seconds
                    if entry.name not in busy and due <= time.monotonic():
                        busy.add(entry.name)
                        tasks.start_soon(ask, entry)
                await anyio.sleep(poll_seconds)

    async def watch(self, on_result: OnResult, *, poll_seconds: float = POLL_SECONDS) -> None:
        """Look at the file, and at the secret files it refers to, for ever; `on_result` is told of each re-reading.

        Changes that a `reload` has already read are not told again.
        """
        async for _ in self._file.changes(poll_seconds):
            on_result(await self._attempt())

    async def _look(self, file: Registry, entries: Sequence[Discovery], began: float) -> Looked:
        """Ask sources, all at once and in bounded time."""
        self._asked.update((entry.name, began) for entry in entries)
        looked: dict[str, Sequence[Row] | DiscoveryError] = {}

        async def ask(lookup: Lookup, entry: Discovery) -> None:
            try:
                with anyio.fail_after(LOOK_SECONDS):
                    looked[entry.name] = await lookup.ask(file, entry)
            except DiscoveryError as exc:
                looked[entry.name] = exc
            except TimeoutError:
                looked[entry.name] = DiscoveryError(f"no answer within {LOOK_SECONDS:g} s", remedy="look at its load")
            except Exception as exc:  # one source's surprise is not the daemon's end
                log.exception("discovery_crashed", source=entry.name)
                looked[entry.name] = DiscoveryError(
                    f"the orchestrator failed: {type(exc).__name__}", remedy="this is a bug: please report it"
                )

        if self._lookup is not None:
            async with anyio.create_task_group() as tasks:
                for entry in entries:
                    tasks.start_soon(ask, self._lookup, entry)
        return looked

    async def _merge(
        self,
        file: Registry | None,
        looked: Looked,
        *,
        trusting: bool,
        counting: Callable[[], Collection[str]] | None = None,
    ) -> ReloadResult:
        """Take over a file that was read, if one was, and those answers that are `counting` when it comes to it."""
        async with self._merging:
            if counting is not None:
                still = counting()
                looked = {name: answer for name, answer in looked.items() if name in still}
            moment, before, sources = events.now(), self._current, self._sources
            if file is None and before is not None and _says_nothing_new(sources, looked):
                good = [name for name, answer in looked.items() if not isinstance(answer, DiscoveryError)]
                fresh = {name: replace(sources[name], refreshed_at=moment) for name in good}
                self._sources = {**sources, **fresh}
                return ReloadResult(False, before)
            file = self._named if file is None else file
            assert file is not None
            merged, said = await anyio.to_thread.run_sync(
                _merged, file, before, sources, looked, moment, trusting, abandon_on_cancel=True
            )
            self._named, self._sources = file, merged.sources
            if before is not None and before.digest == merged.registry.digest:
                return ReloadResult(False, before, events=said.events)
            self._current = merged.registry
            return ReloadResult(True, merged.registry, said.appeared, said.vanished, said.events)

    async def _attempt(self) -> ReloadResult | RegistryError:
        try:
            return await self.reload(trusting=False)
        except RegistryError as exc:
            return exc


def _says_nothing_new(sources: Sources, looked: Looked) -> bool:
    """Whether every answer is what is held already: the usual case, which need not cost what merging costs."""

    def is_known(held: Source, answer: Sequence[Row] | DiscoveryError) -> bool:
        if isinstance(answer, DiscoveryError):
            return held.reason == str(answer)
        return held.stale_since is None and held.rows == answer

    return all(is_known(sources[name], answer) for name, answer in looked.items())


def _merged(
    file: Registry, before: Registry | None, held: Sources, looked: Looked, now: datetime, trusting: bool
) -> tuple[discovery.Merged, changes.Changes]:
    merged = discovery.merge(file, before, held, looked, now=now, trusting=trusting)
    return merged, changes.between(before, held, *merged)
