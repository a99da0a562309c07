"""The daemon: the service, its HTTP surface and its watchers in one task group, from start to signal to end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial

import anyio
import anyio.abc
import structlog

from orchestrator.databases.discovery import Lookups
from orchestrator.errors import RegistryError
from orchestrator.registry import selector
from orchestrator.registry.model import Target
from orchestrator.registry.source import RegistrySource
from orchestrator.service import door as doors
from orchestrator.service import ending, notifying
from orchestrator.service.door import Door
from orchestrator.service.drift_watch import DriftWatch
from orchestrator.service.leading import Lead, standing
from orchestrator.service.orchestrator import Orchestrator
from orchestrator.service.pending_watch import PendingWatch
from orchestrator.service.scheduling import Scheduler
from orchestrator.service.wiring import Parts, assembled, limits
from orchestrator.settings import Settings
from orchestrator.store.leadership import Candidate

log = structlog.get_logger(__name__)

# After the grace time env.py threads are ended through their connections; one that sleeps in Python cannot be, and
# would keep the process for ever. Ending it hard loses nothing: the next start reads the version tables.
HARD_EXIT_SECONDS = 20.0
# What the HTTP surface may take to end its answers and streams.
CLOSING_SECONDS = 5.0


async def serve(settings: Settings, *, announce: Callable[[str], None] = lambda url: None) -> None:
    """Run the daemon until SIGTERM or SIGINT; `announce` is given the URL once it listens.

    Raises ConfigurationError, RegistryError, StoreError before anything was started.
    """
    source = await opened(settings)
    with ending.telling():
        await _serve(settings, source, announce)


async def _serve(settings: Settings, source: RegistrySource, announce: Callable[[str], None]) -> None:
    async with (
        assembled(settings, source) as parts,
        standing(parts) as candidate,
        anyio.create_task_group() as background,
    ):
        door = doors.opened(settings, parts.store.tokens)
        with ending.telling():  # closing may take its time
            async with working(parts, settings) as service:
                daemon = _Daemon(service, parts, settings, candidate, door)
                await daemon.run(background, announce)
        if candidate is not None:
            await candidate.release()  # nothing of ours runs any more: another may take over while we close
        # HTTP answers until the last migration has ended: whoever watches a drain must see its end.
        daemon.stopping.set()
        with anyio.move_on_after(CLOSING_SECONDS):
            await daemon.closed.wait()
            await door.flush()
        background.cancel_scope.cancel()


async def opened(settings: Settings) -> RegistrySource:
    """The registry's source: its file was read, and nobody was asked yet. Raises RegistryError."""
    source = RegistrySource(settings.config, lookup=Lookups(limits(settings)))
    await source.read()
    return source


@asynccontextmanager
async def working(parts: Parts, settings: Settings) -> AsyncIterator[Orchestrator]:
    """The service and the task group of its rollouts. On leaving, what runs has the grace time to end."""
    grace = settings.shutdown_grace_seconds
    with anyio.CancelScope() as scope, _hard_exit() as exit_hard_after:
        async with anyio.create_task_group() as tasks:
            service = Orchestrator(parts, tasks)
            try:
                yield service
            except BaseException:
                # Something we cannot go on without has failed, say the store: what runs is being cancelled.
                service.drain()
                exit_hard_after(HARD_EXIT_SECONDS)
                raise
            service.drain()
            if service.active:
                log.info("draining", rollouts=len(service.active), grace_seconds=grace)
            scope.deadline = anyio.current_time() + grace
            exit_hard_after(grace + HARD_EXIT_SECONDS)
    await parts.keeper.close()  # while we lead still: of backfills that have just ended, too
    if scope.cancelled_caught:
        log.warning("drained_by_force", remedy="the next start goes on with what was cancelled")


@contextmanager
def _hard_exit() -> Iterator[Callable[[float], None]]:
    """Gives a function that ends the process after some seconds, unless the block was left by then."""
    timers: list[threading.Timer] = []

    def after(seconds: float) -> None:
        timers.append(threading.Timer(seconds, ending.at_once))
        timers[-1].daemon = True
        timers[-1].start()

    try:
        yield after
    finally:
        for timer in timers:
            timer.cancel()


class _Daemon:
    def __init__(
        self, service: Orchestrator, parts: Parts, settings: Settings, candidate: Candidate | None, door: Door
    ) -> None:
        self._service, self._parts, self._settings = service, parts, settings
        self._candidate, self._door = candidate, door
        self._asked_to_stop = anyio.Event()
        self.stopping = anyio.Event()
        self.closed = anyio.Event()

    async def run(self, background: anyio.abc.TaskGroup, announce: Callable[[str], None]) -> None:
        """Find the tenants, listen, take up what was left or stand by, watch; return when asked to stop."""
        await doors.refuse_exposed(self._settings, self._door)
        lead = Lead(self._candidate, self._service, self._parts, self._door) if self._candidate is not None else None
        await self._service.discover()
        if lead is not None:
            await lead.begin()
        url = await background.start(self._listen)
        await background.start(self._signals)
        if lead is not None:
            await background.start(lead.run)
        else:
            self._parts.metrics.leader.set(1)  # nobody else can
            await self._door.lead()
            await self._service.resume_active()
        background.start_soon(self._parts.source.watch, self._service.registry_read)
        background.start_soon(self._parts.source.refresh, partial(self._service.registry_read, only_new=True))
        background.start_soon(self._service.survey.run)
        background.start_soon(self._parts.metrics.process.watch)
        background.start_soon(self._door.record_uses)
        background.start_soon(self._door.watch)
        background.start_soon(Scheduler(self._parts, self._service).run)
        background.start_soon(DriftWatch(self._parts, self._service).run)
        background.start_soon(PendingWatch(self._parts, self._service).run)
        background.start_soon(notifying.notifier(self._parts, lambda: self._service.steering.leads).run)
        log.info("listening", url=url, store=str(self._parts.store.place), targets=len(self._service.registry.targets))
        announce(url)
        await self._asked_to_stop.wait()
        if self._candidate is not None and not self._candidate.elected.is_set():
            await self._candidate.release()  # who stops must not become the leader meanwhile

    async def _listen(self, *, task_status: anyio.abc.TaskStatus[str]) -> None:
        from orchestrator.api import application, server  # FastAPI is needed by nothing else: import it late
        from orchestrator.api.access import Access
        from orchestrator.api.tls import Certificates

        settings = self._settings
        access = Access(
            self._door,
            self._parts.store.audit,
            settings.metrics_need_token,
            doors.proxies(settings),
            None if settings.allow_unauthenticated else settings.host,
        )
        app = application.create(
            self._service,
            select=_matcher,
            metrics=self._parts.metrics.render,
            stopping=self.stopping,
            access=access,
            requests_per_second=settings.requests_per_second,
        )
        certificates = Certificates(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
        async with anyio.create_task_group() as watching:
            watching.start_soon(certificates.watch)
            await server.serve(
                app,
                settings.host,
                settings.port,
                stopping=self.stopping,
                tls=certificates.context,
                task_status=task_status,
            )
            watching.cancel_scope.cancel()
        self.closed.set()

    async def _signals(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as received:
            task_status.started()
            async for number in received:
                if number == signal.SIGHUP:
                    await self._reload()
                elif self._asked_to_stop.is_set():
                    log.info("stopped_at_once", signal=signal.Signals(number).name)
                    os._exit(130)
                else:
                    log.info("stopping", signal=signal.Signals(number).name)
                    self._asked_to_stop.set()

    async def _reload(self) -> None:
        with suppress(RegistryError):  # told of by the service, as `registry_reloaded`
            await self._service.reload()


def _matcher(text: str) -> Callable[[Target], bool]:
    return selector.parse(text).matches
