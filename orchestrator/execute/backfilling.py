"""What a migration's backfill is told before its next batch: by its rollout first, then by its shard's throttle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Protocol

from orchestrator.backfill import pace
from orchestrator.backfill.model import Answer, Backfill, Go, Progress, Ran, Report, Stop, Wait
from orchestrator.backfill.records import Record
from orchestrator.registry.backfills import Rules
from orchestrator.registry.model import Target
from orchestrator.rollout.interruptions import Interruption
from orchestrator.rollout.ports import Control
from orchestrator.rollout.state import Migration

# How soon a backfill that is held asks again.
HELD_SECONDS = 0.5


class Turn(Protocol):
    """One migration's backfills, as whoever throttles the shard sees them."""

    async def ask(self, report: Report) -> Answer:
        """Answers within a second or so. What is reported counts, whatever the rollout says to it."""
        ...


class Throttle(Protocol):
    """Shares a shard's capacity among the backfills that run on it."""

    def turn(
        self, rollout: str, target: Target, stop: Callable[[], Interruption | None]
    ) -> AbstractContextManager[Turn]:
        """From a migration's first question to its end. `stop` tells why its rollout keeps it from going on: what is
        `held` is shown as held."""
        ...

    async def left(self, rollout: str, target: Target) -> Sequence[Record]:
        """Backfills of the target in this rollout that are not known to have come to their end."""
        ...

    def found_finished(self, record: Record, progress: Progress) -> None:
        """One of these had, as its checkpoint says; whoever ran it did not live to tell."""
        ...

    async def kept(self) -> None:
        """Return when all that was told of backfills is durable. Raises StoreError."""
        ...


class Unthrottled:
    """Batches as large as their durations let them be, where nobody throttles."""

    @contextmanager
    def turn(self, rollout: str, target: Target, stop: Callable[[], Interruption | None]) -> Iterator[Turn]:
        yield _Adapting()

    async def left(self, rollout: str, target: Target) -> Sequence[Record]:
        return ()

    def found_finished(self, record: Record, progress: Progress) -> None:
        pass

    async def kept(self) -> None:
        pass


class _Adapting:
    def __init__(self) -> None:
        self._rules, self._of = Rules(), None
        self._pace = pace.begin(1, self._rules)

    _of: Backfill | None

    async def ask(self, report: Report) -> Answer:
        if self._of != report.backfill:
            self._of, self._pace = report.backfill, pace.begin(report.backfill.batch_size, self._rules)
        if report.last is None:
            return Go(self._pace.size)
        after = pace.after(self._pace, report.last, self._rules)
        if isinstance(after, Stop):
            return after
        self._pace = after
        return Wait(after.rest_seconds) if after.rest_seconds else Go(after.size)


class Backfilling:
    """One migration's backfills over all its attempts. `interrupted` is what its rollout said last.

    `progressed`: batches were committed since this was last set to False; `any`: there was a backfill at all.
    """

    def __init__(self, throttle: Throttle, control: Control) -> None:
        self._throttle, self._control = throttle, control
        self._open, self._turn = ExitStack(), None
        self.progressed = self.any = False
        self._rows: dict[Backfill, int] = {}
        self.interrupted: Interruption | None = None

    _turn: Turn | None

    async def ask(self, migration: Migration, target: Target, report: Report) -> Answer:
        """What the loop is told; a `Stop` of the rollout goes before all others."""
        self.any = True
        self.progressed = self.progressed or isinstance(report.last, Ran)
        self._rows[report.backfill] = report.progress.changed

        def stop() -> Interruption | None:
            return self._control.interrupts(migration)

        if self._turn is None:
            self._turn = self._open.enter_context(self._throttle.turn(migration.rollout, target, stop))
        answer = await self._turn.ask(report)
        self.interrupted = stop()  # as it is by now
        decided = joined(self.interrupted, answer)
        if report.progress.finished and isinstance(decided, Go):
            self._control.interrupts(migration, backfilling=False)
        return decided

    def found_finished(self, record: Record, progress: Progress) -> None:
        """One that an earlier attempt had underway has ended, though nobody was told."""
        self.any = True
        self._rows[record.view.backfill] = progress.changed
        self._throttle.found_finished(record, progress)

    @property
    def rows(self) -> int:
        """That they have changed, earlier runs of theirs included."""
        return sum(self._rows.values())

    @property
    def left_out(self) -> str | None:
        """Why a person leaves the target out, if one does."""
        told = self.interrupted
        return told.reason if told is not None and told.then == "skipped" else None

    @contextmanager
    def attempting(self) -> Iterator[None]:
        """During one attempt. With it ends its turn, which learns what ended it."""
        with ExitStack() as self._open:
            try:
                yield
            finally:
                self._turn = None


def joined(interrupted: Interruption | None, answer: Answer) -> Answer:
    """What the rollout says, and what the throttle does.

    >>> joined(Interruption("held", "it is paused"), Go(100)), joined(None, Go(100))
    (Wait(seconds=0.5), Go(size=100, seconds=0.0))
    >>> joined(Interruption("skipped", "later"), Wait(1.0))
    Stop(kind='aborted', reason='later')
    """
    if interrupted is None:
        return answer
    if interrupted.then == "held":
        return Wait(HELD_SECONDS) if isinstance(answer, Go) else answer
    return Stop("stopped" if interrupted.then == "pending" else "aborted", interrupted.reason)
