"""Make the parts and join them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import anyio
import anyio.to_thread
import stamina.instrumentation

from orchestrator.databases import scram
from orchestrator.databases.base import Database, Limits
from orchestrator.databases.deposed import Owner
from orchestrator.databases.mysql import MySQL
from orchestrator.databases.postgresql import PostgreSQL
from orchestrator.databases.sqlite import SQLite
from orchestrator.events import Event, now
from orchestrator.execute import gate as gates
from orchestrator.execute import render
from orchestrator.execute.checks import WaveChecks
from orchestrator.execute.dispatch import Histories, LocalDispatcher
from orchestrator.execute.drive import Driver
from orchestrator.execute.gate import Gate
from orchestrator.execute.migrate import Migrator
from orchestrator.execute.online import OnlineRunner
from orchestrator.execute.predictions import Predictions
from orchestrator.execute.retry import RetryPolicy
from orchestrator.execute.slots import Slots
from orchestrator.execute.surroundings import Surroundings
from orchestrator.execute.survey import Surveyor
from orchestrator.execute.throttle import Throttle
from orchestrator.history import tasklocal
from orchestrator.history.library import Library
from orchestrator.history.workers import Workers
from orchestrator.observe import lines
from orchestrator.observe.bus import Bus
from orchestrator.observe.fleet import Fleet
from orchestrator.observe.metrics import Metrics
from orchestrator.observe.tracing import Tracing
from orchestrator.registry.model import MYSQL_DIALECTS, Target
from orchestrator.registry.source import RegistrySource
from orchestrator.registry.whereabouts import whereabouts
from orchestrator.rollout import progress
from orchestrator.rollout.ports import Checks
from orchestrator.service.keeping import Keeper
from orchestrator.service.traces import traced
from orchestrator.settings import Settings
from orchestrator.store.engine import Store, open_store

# What the sessions that read servers' load may take to close.
CLOSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything that lives as long as the process works, with its store open."""

    settings: Settings
    source: RegistrySource
    bus: Bus
    fleet: Fleet
    metrics: Metrics
    store: Store
    histories: Histories
    surveyor: Surveyor
    dispatcher: LocalDispatcher
    workers: Workers
    databases: Mapping[str, Database]
    checks: Checks
    gate: Gate
    predictions: Predictions
    clock: Callable[[], datetime]
    throttle: Throttle
    keeper: Keeper
    migrator: Migrator
    tracing: Tracing | None = None


@asynccontextmanager
async def assembled(
    settings: Settings,
    source: RegistrySource,
    workers: Workers | None = None,
    clock: Callable[[], datetime] = now,
) -> AsyncIterator[Parts]:
    """Prove that Alembic can be used concurrently, open the store, and join the parts; `workers`, new ones if None, are
    closed at the end. Schedules and windows go by `clock`.

    Raises UnsupportedAlembicError, StoreError, and ConfigurationError where traces cannot be made.
    """
    tasklocal.install()
    scram.install()
    await anyio.to_thread.run_sync(tasklocal.verify)
    stamina.instrumentation.set_on_retry_hooks([])  # retries are told of by our own events
    bus, fleet = Bus(), Fleet()
    workers = workers or Workers()
    async with traced(settings, bus, fleet.rollouts) as tracing:
        metrics = Metrics(
            fleet,
            eta=progress.eta_seconds,
            laggards=settings.metrics_laggards,
            shards=settings.metrics_shards,
            exemplar=tracing.exemplar if tracing is not None else None,
        )
        bus.subscribe(fleet.apply)
        bus.subscribe(metrics.apply)
        ids = tracing.ids if tracing is not None else lambda event: {}
        bus.subscribe(lines.writer(lambda event: whereabouts(source.current, event), ids))
        workers.start()
        try:
            url, lease_seconds = settings.store_url.get_secret_value(), settings.lease_seconds
            async with open_store(url, bus.publish, lease_seconds=lease_seconds) as store:
                parts = _joined(settings, source, bus, fleet, metrics, store, workers, clock, tracing)
                async with parts.keeper.keeping(), _closing(parts.throttle):
                    yield parts
        finally:
            workers.close()


@asynccontextmanager
async def _closing(throttle: Throttle) -> AsyncIterator[None]:
    try:
        yield
    finally:
        with anyio.move_on_after(CLOSE_SECONDS, shield=True):
            await throttle.closed()


def _joined(
    settings: Settings,
    source: RegistrySource,
    bus: Bus,
    fleet: Fleet,
    metrics: Metrics,
    store: Store,
    workers: Workers,
    clock: Callable[[], datetime],
    tracing: Tracing | None,
) -> Parts:
    def publish(event: Event) -> None:
        bus.publish(event)

    total = settings.max_concurrent
    owner = Owner(store.mark, store.deposed)
    databases: dict[str, Database] = {
        "postgresql": PostgreSQL(owner),
        "sqlite": SQLite(),
        **dict.fromkeys(MYSQL_DIALECTS, MySQL(owner)),
    }
    histories = Histories(Library(workers))
    runner = OnlineRunner(workers, total)
    migrator = Migrator(databases, runner, limits(settings), publish, histories.settled, traced=tracing is not None)
    predictions = Predictions()
    bus.subscribe(partial(gates.remember, predictions))
    gate = Gate(predictions, store.freeze.current, clock)
    keeper = Keeper(store.backfills.records, publish)
    bus.subscribe(keeper.forget)
    throttle = Throttle(
        Surroundings(
            lambda: source.current,
            limits(settings),
            keeper.publish,
            on_deadline=_nobody,
            moment=clock,
            left=keeper.left,
            kept=keeper.catch_up,
        )
    )
    keeper.throttle = throttle
    metrics.backfills.throttled, metrics.backfills.signals = throttle.throttled_seconds, throttle.signals
    metrics.backfills.in_progress = throttle.in_progress
    metrics.of_rollouts.resting, metrics.of_rollouts.backing_up = throttle.resting, migrator.backups_underway
    metrics.process.store_errors = store.errors
    policy = RetryPolicy.within(settings.lock_retry_seconds)
    driver = Driver(migrator, Slots(total), policy, publish, gate, throttle)
    surveyor = Surveyor(migrator, total)

    def is_behind(target: Target) -> bool:
        return fleet.is_behind(target.tenant, target.track, now(), within_seconds=2 * settings.survey_seconds)

    compile_plan = partial(render.compile_plan, workers)
    dispatcher = LocalDispatcher(lambda: source.current, histories, driver, surveyor, publish, is_behind, compile_plan)
    return Parts(
        settings=settings,
        source=source,
        bus=bus,
        fleet=fleet,
        metrics=metrics,
        store=store,
        histories=histories,
        surveyor=surveyor,
        dispatcher=dispatcher,
        workers=workers,
        databases=databases,
        checks=WaveChecks(lambda: source.current, limits(settings), total),
        gate=gate,
        predictions=predictions,
        clock=clock,
        throttle=throttle,
        keeper=keeper,
        migrator=migrator,
        tracing=tracing,
    )


def _nobody(rollout: str, reason: str) -> None:
    """Nobody drives rollouts yet."""


def limits(settings: Settings) -> Limits:
    return Limits(
        connect=settings.connect_timeout_seconds,
        lock_wait=settings.lock_wait_seconds,
        lock_timeout=settings.lock_timeout_seconds,
        statement_timeout=settings.statement_timeout_seconds,
        build_timeout=settings.build_timeout_seconds,
    )
