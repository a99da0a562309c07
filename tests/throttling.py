"""A throttle over a server that tells whatever the test says."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import anyio
from sqlalchemy.engine import make_url

from orchestrator.backfill.model import Answer, Backfill, Go, Progress, Ran, Refused, Report, Stop, Wait
from orchestrator.databases.base import Limits, Place
from orchestrator.databases.signals import Reading, Signals
from orchestrator.errors import TargetUnreachableError
from orchestrator.events import Event, now
from orchestrator.execute import backfilling
from orchestrator.execute.surroundings import Surroundings
from orchestrator.execute.throttle import Throttle
from orchestrator.execute.turns import Turn
from orchestrator.registry.backfills import Rules, Threshold
from orchestrator.registry.model import Registry, Shard, Target
from orchestrator.service import keeping
from tests import engine

LAG = "replication_lag"


@dataclass
class Server:
    """`tells` by signal: a number, or why it cannot be read. `fails`: nobody gets a session. `hangs`: nor an answer."""

    tells: dict[str, float | str] = field(default_factory=lambda: {LAG: 0.0})
    fails: str | None = None
    hangs: bool = False
    missing: set[str] = field(default_factory=set)
    sessions: int = 0
    opened: list[str] = field(default_factory=list)
    looks: int = 0

    @asynccontextmanager
    async def open(self, place: Place) -> AsyncIterator[Signals]:
        if self.fails is not None:
            raise TargetUnreachableError(self.fails, kind="unreachable", remedy="look after it", retriable=True)
        if place.target.database in self.missing:
            raise TargetUnreachableError(f"there is no database {place.target.database}", kind="missing_database")
        self.sessions += 1
        self.opened.append(place.target.database)
        try:
            yield self
        finally:
            self.sessions -= 1

    async def read(self, wanted: Collection[str], databases: Collection[str]) -> Sequence[Reading]:
        if self.hangs:
            await anyio.sleep_forever()
        if self.fails is not None:
            raise TargetUnreachableError(self.fails, kind="unreachable", remedy="look after it", retriable=True)
        self.looks += 1
        return [self._reading(signal) for signal in wanted if signal in self.tells]

    def _reading(self, signal: str) -> Reading:
        value = self.tells[signal]
        return Reading(signal, None, value) if isinstance(value, str) else Reading(signal, value, "standby 'a'")


@dataclass
class Clocks:
    """Both clocks, as far ahead as the test puts them."""

    ahead: float = 0.0

    def seconds(self) -> float:
        return time.monotonic() + self.ahead

    def moment(self) -> datetime:
        return now() + timedelta(seconds=self.ahead)


class Bench:
    """A throttle, what it publishes, and whom it tells of deadlines."""

    def __init__(self, rules: Rules, server: Server, shards: Sequence[str] = ("pg",)) -> None:
        self.server, self.clocks = server, Clocks()
        self.events: list[Event] = []
        self.overdue: list[tuple[str, str]] = []
        url = make_url("postgresql://u@h:5432")
        found = [Shard(name, url, backfill=rules) for name in shards]
        self.registry: Registry = engine.registry_of([], found, [])
        around = Surroundings(
            lambda: self.registry,
            Limits(),
            self.events.append,
            lambda rollout, reason: self.overdue.append((rollout, reason)),
            openers={"postgresql": server.open},
            clock=self.clocks.seconds,
            moment=self.clocks.moment,
        )
        self.throttle = Throttle(around)
        self.asked: backfilling.Throttle = self.throttle
        self.shown: keeping.Throttle = self.throttle

    def rule(self, rules: Rules) -> None:
        """The registry is reloaded with these for all shards."""
        shards: Mapping[str, Shard] = {
            name: replace(shard, backfill=rules) for name, shard in self.registry.shards.items()
        }
        self.registry = replace(self.registry, shards=shards)

    @asynccontextmanager
    async def loop(self, tenant: str = "acme", *, shard: str = "pg", **fields: Any) -> AsyncIterator[Loop]:
        target = Target(tenant, "app", shard, f"db_{tenant}")
        stop = fields.pop("stop", lambda: None)
        try:
            with self.throttle.turn(fields.pop("rollout", "r1"), target, stop) as turn:
                yield Loop(turn, **fields)
        finally:
            with anyio.CancelScope(shield=True):
                await self.throttle.closed()

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@dataclass
class Loop:
    """Stands for the loop that changes rows: it asks, and says what came of what it was told."""

    turn: Turn
    revision: str = "4d5e6f"
    batch_size: int = 100
    progress: Progress = field(default_factory=lambda: Progress(estimated=1_000_000))
    last: Ran | Refused | None = None
    waits: str | None = None
    unasked: tuple[Ran, ...] = ()

    async def ask(self) -> Answer:
        backfill = Backfill(self.revision, "upgrade", 1, "set", "tickets", ("id",), self.batch_size)
        last, self.last = self.last, None
        unasked, self.unasked = self.unasked, ()
        return await self.turn.ask(Report(backfill, self.progress, last, self.waits, unasked))

    def ran(self, size: int, seconds: float = 0.01, changed: int | None = None) -> None:
        done = replace(self.progress, seen=self.progress.seen + size, changed=self.progress.changed + size)
        self.progress, self.last = done, Ran(size, size, size if changed is None else changed, seconds)

    async def until(self, kind: type[Answer]) -> Any:
        """Ask until the answer is of that kind."""
        with anyio.fail_after(30):
            while True:
                answer = await self.ask()
                if isinstance(answer, kind):
                    return answer
                if isinstance(answer, Wait):
                    await anyio.sleep(min(answer.seconds, 0.02))
                elif isinstance(answer, Go):
                    self.ran(answer.size)
                    await anyio.sleep(0.001)  # a batch takes its time
                else:
                    raise AssertionError(f"stopped: {answer}")

    async def go(self) -> Go:
        answer = await self.until(Go)
        assert isinstance(answer, Go)
        return answer

    async def held(self) -> Wait:
        answer = await self.until(Wait)
        assert isinstance(answer, Wait)
        return answer

    async def stopped(self) -> Stop:
        answer = await self.until(Stop)
        assert isinstance(answer, Stop)
        return answer


def only(**thresholds: Threshold) -> Rules:
    """Rules with these thresholds and no others."""
    return Rules(thresholds=thresholds)
