"""A throttle for tests: it lets through as many batches as it is told, and keeps what it was told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from orchestrator.backfill.model import Answer, Go, Progress, Ran, Report, Stop, Wait
from orchestrator.backfill.records import Record
from orchestrator.execute.backfilling import Turn
from orchestrator.registry.model import Target
from orchestrator.rollout.interruptions import Interruption
from tests.engine import Engine

WAIT_SECONDS = 0.02


class Tap:
    """Implements `execute.backfilling.Throttle`. `most`: batches that may be committed over all, but for those of the
    turns that are `free`, counted from 1; `stop`, if any, is what is answered instead."""

    def __init__(self, most: int, size: int = 10) -> None:
        self.most, self.size = most, size
        self.ran = self.asked = self.turns = self.open = 0
        self.stop: Stop | None = None
        self.free = set[int]()
        self.said = list[Interruption | None]()
        self.reports = list[Report]()

    @classmethod
    def of(cls, running: Engine, most: int, size: int = 10) -> Tap:
        """One that throttles what this engine runs."""
        tap = cls(most, size)
        driver: Any = running.parts.dispatcher._driver
        driver._throttle = tap
        return tap

    @property
    def is_dry(self) -> bool:
        """Whether it holds a backfill that has come as far as it may."""
        return self.ran >= self.most and bool(self.reports) and self.reports[-1].last is None

    @contextmanager
    def turn(self, rollout: str, target: Target, stop: Callable[[], Interruption | None]) -> Iterator[Turn]:
        self.turns += 1
        self.open += 1
        try:
            yield _Turn(self, self.turns, stop)
        finally:
            self.open -= 1

    async def left(self, rollout: str, target: Target) -> Sequence[Record]:
        return ()

    def found_finished(self, record: Record, progress: Progress) -> None: ...

    async def kept(self) -> None: ...

    def answer(self, turn: int, report: Report, said: Interruption | None) -> Answer:
        self.asked += 1
        self.said.append(said)
        self.reports.append(report)
        self.ran += isinstance(report.last, Ran)
        if report.progress.finished:
            return Go(self.size)
        if self.stop is not None:
            return self.stop
        return Go(self.size) if self.ran < self.most or turn in self.free else Wait(WAIT_SECONDS)


class _Turn:
    def __init__(self, tap: Tap, number: int, stop: Callable[[], Interruption | None]) -> None:
        self._tap, self._number, self._stop = tap, number, stop

    async def ask(self, report: Report) -> Answer:
        return self._tap.answer(self._number, report, self._stop())
