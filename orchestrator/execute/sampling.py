"""Reads the signals of one shard, again and again, while backfills run there."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import anyio
import structlog
from anyio.abc import TaskGroup

from orchestrator.backfill.signals import Readings
from orchestrator.databases import mysql_signals, postgresql_signals
from orchestrator.databases.base import Limits, Place
from orchestrator.databases.signals import Signals
from orchestrator.errors import CheckError, TargetError, TargetUnreachableError
from orchestrator.execute.probing import Probes, why
from orchestrator.registry.backfills import ProbeSignal
from orchestrator.registry.model import MYSQL_DIALECTS, Registry, Target

EVERY_SECONDS = 1.0
# All signals of one look; each question has its own, shorter limit.
LOOK_SECONDS = 10.0

Open = Callable[[Place], AbstractAsyncContextManager[Signals]]
OPENERS: Mapping[str, Open] = {
    "postgresql": postgresql_signals.opened,
    **dict.fromkeys(MYSQL_DIALECTS, mysql_signals.opened),
}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be read now: signals of the server by name, and probes; `targets`: where backfills run."""

    signals: Collection[str]
    probes: Collection[ProbeSignal]
    targets: Collection[Target]


class Sampler:
    """Reads what is wanted into `readings`. Of each signal `said` holds whose the reading is, or why there is none."""

    def __init__(
        self,
        readings: Readings,
        wanted: Callable[[], Wanted],
        registry: Callable[[], Registry],
        limits: Limits,
        probes: Probes,
        openers: Mapping[str, Open] = OPENERS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._readings, self._wanted, self._registry = readings, wanted, registry
        self._limits, self._probes, self._openers, self._clock = limits, probes, openers, clock
        self._due: dict[ProbeSignal, float] = {}
        self._turned = 0
        self.said: dict[str, str] = {}

    async def run(self) -> None:
        """Until it is cancelled. Whatever goes wrong is tried again, and what is not read holds backfills."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_probing, tasks)
            while True:
                try:
                    await self._in_a_session()
                except TargetError as exc:
                    self._turned += 1  # one database may be missing
                    self._fail(self._wanted().signals, why(exc))
                except Exception as exc:
                    log.exception("reading_signals_crashed")
                    self._fail(self._wanted().signals, f"{type(exc).__name__}, see the daemon's log")
                await anyio.sleep(EVERY_SECONDS)

    async def _in_a_session(self) -> None:
        """Read until the session's database is none of those where backfills run: nobody's is kept open in vain."""
        wanted = self._wanted()
        target = self._target(wanted)
        if target is None or not wanted.signals:
            return
        place = Place(target, self._registry().url_for(target), self._limits)
        opener = self._openers.get(place.url.get_backend_name())
        if opener is None:
            return
        async with opener(place) as session:
            while wanted.signals and any(one.database == target.database for one in wanted.targets):
                began = self._clock()
                await self._look(session, wanted, began)
                await anyio.sleep(max(0.0, began + EVERY_SECONDS - self._clock()))
                wanted = self._wanted()

    async def _look(self, session: Signals, wanted: Wanted, now: float) -> None:
        databases = {target.database for target in wanted.targets}
        with anyio.move_on_after(LOOK_SECONDS) as scope:
            readings = await session.read(wanted.signals, databases)
        if scope.cancelled_caught:
            raise TargetUnreachableError(f"the server gave no answer within {LOOK_SECONDS:g} s", kind="slow")
        for reading in readings:
            if reading.value is None:
                self._fail([reading.signal], reading.said)
            else:
                self._hear(reading.signal, reading.value, reading.said, now)

    async def _keep_probing(self, tasks: TaskGroup) -> None:
        """Ask each probe as often as it says, whatever becomes of the others."""
        while True:
            now, wanted = self._clock(), self._wanted().probes
            self._due = {probe: self._due.get(probe, now) for probe in wanted}
            for probe in [probe for probe, due in self._due.items() if now >= due]:
                self._due[probe] = math.inf  # while it is being asked
                tasks.start_soon(self._probe, probe)
            await anyio.sleep(EVERY_SECONDS / 2)

    async def _probe(self, probe: ProbeSignal) -> None:
        now = self._clock()
        try:
            if (target := self._target(self._wanted())) is not None:
                self._hear(probe.name, await self._probes.ask(self._registry(), probe, target), "", now)
        except (CheckError, TargetError) as exc:
            self._fail([probe.name], why(exc))
        except Exception as exc:
            log.exception("asking_probe_crashed", probe=probe.check.name)
            self._fail([probe.name], f"{type(exc).__name__}, see the daemon's log")
        if probe in self._due:
            self._due[probe] = now + probe.check.every_seconds

    def _target(self, wanted: Wanted) -> Target | None:
        """One through which the shard is asked; another one each time that this fails."""
        targets = list(wanted.targets)
        return targets[self._turned % len(targets)] if targets else None

    def _hear(self, name: str, value: float, said: str, now: float) -> None:
        self._readings.hear(name, value, now)
        self.said[name] = said

    def _fail(self, names: Collection[str], said: str) -> None:
        for name in names:
            self._readings.fail(name, said, self._clock())
            self.said[name] = said
