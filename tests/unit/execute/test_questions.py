"""Questions of a backfill from a worker's thread to the loop: no thread is left waiting, whatever becomes of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast

import anyio
import pytest

from orchestrator.backfill.model import Answer, Backfill, Go, Progress, Report, Stop, Wait
from orchestrator.databases import watching
from orchestrator.databases.refusals import GUARD_LOST
from orchestrator.errors import MigrationFailedError, StoreError, TargetUnreachableError
from orchestrator.execute import questions
from orchestrator.execute.online import OnlineRunner
from orchestrator.execute.questions import OnBatch
from orchestrator.history.progress import Observer
from orchestrator.history.workers import Handle, Workers
from tests.engine import until
from tests.unit.execute.test_online import JOB, Guarding, Working

REPORT = Report(Backfill("a1", "upgrade", 1, "set", "t", ("id",), 100), Progress())
Work = Callable[[Observer, Handle], None]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "WATCH_SECONDS", 0.02)


async def _run(work: Work, guard: Guarding, on_batch: OnBatch | None) -> None:
    runner = OnlineRunner(cast(Workers, Working(work)), 1)
    with anyio.fail_after(60):
        await runner.run(JOB, cast(Any, guard), lambda *_: None, alone=False, on_batch=on_batch)


class Asking:
    """Work that asks until it is told to stop, and then fails as the loop of a backfill does."""

    def __init__(self, most: int = 1_000_000) -> None:
        self.answers, self._most = list[Answer](), most

    def __call__(self, observer: Observer, handle: Handle) -> None:
        assert observer.batch is not None
        while len(self.answers) < self._most:
            self.answers.append(observer.batch(REPORT))
            if isinstance(self.answers[-1], Stop):
                raise MigrationFailedError("stopped", kind="backfill_stopped", retriable=True)


class Holding:
    """Answers nothing; `asked` is set once it was asked."""

    def __init__(self) -> None:
        self.asked, self.left = anyio.Event(), anyio.Event()

    async def __call__(self, report: Report) -> Answer:
        self.asked.set()
        try:
            await anyio.sleep_forever()
        finally:
            self.left.set()
        raise AssertionError


async def test_answers_come_back_to_the_thread_that_asked() -> None:
    async def count(report: Report) -> Answer:
        return Go(len(work.answers) + 1)

    work = Asking(3)
    await _run(work, Guarding(), count)
    assert work.answers == [Go(1), Go(2), Go(3)]


async def test_without_anybody_to_answer_the_job_paces_itself() -> None:
    seen = list[bool]()

    class Looking(Working):
        def migrate(self, job: Any, observer: Observer, handle: Handle) -> None:
            seen.append(job.paced)
            assert (observer.batch is not None) is job.paced

    for on_batch in (None, Holding()):
        runner = OnlineRunner(cast(Workers, Looking(lambda *_: None)), 1)
        await runner.run(JOB, cast(Any, Guarding()), lambda *_: None, alone=False, on_batch=on_batch)
    assert seen == [False, True]


async def test_cancelling_answers_the_question_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "ANSWER_SECONDS", 3600.0)
    work, holding = Asking(), Holding()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_run, work, Guarding(), holding)
        await holding.asked.wait()
        tasks.cancel_scope.cancel()
    assert work.answers == [questions.OVER]
    assert holding.left.is_set()


async def test_a_guard_that_is_lost_answers_the_question_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "ANSWER_SECONDS", 3600.0)
    work, holding, guard = Asking(), Holding(), Guarding()

    async def lose() -> None:
        await holding.asked.wait()
        guard.lost.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lose)
        with pytest.raises(TargetUnreachableError) as told:
            await _run(work, guard, holding)
    assert told.value.kind == GUARD_LOST
    assert work.answers == [questions.OVER]


async def test_who_takes_too_long_to_answer_says_not_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "ANSWER_SECONDS", 0.05)
    work = Asking(2)
    await _run(work, Guarding(), Holding())
    assert work.answers == [Wait(questions.AGAIN_SECONDS)] * 2


async def test_no_answer_is_waited_for_from_a_loop_that_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "ANSWER_SECONDS", 0.05)
    answers, told = list[Answer](), list[Report]()

    async def count(report: Report) -> Answer:
        told.append(report)
        return Go(1)

    asking = questions.Questions(count)
    thread = threading.Thread(target=lambda: answers.append(asking.ask(REPORT)), daemon=True)
    thread.start()
    thread.join(60)  # on the loop
    assert answers == [Wait(questions.AGAIN_SECONDS)]
    await until(lambda: told == [REPORT])


async def test_who_fails_to_answer_stops_the_backfill_and_is_told_of() -> None:
    async def fail(report: Report) -> Answer:
        raise StoreError("the store is gone")

    work = Asking()
    with pytest.raises(StoreError, match="the store is gone"):
        await _run(work, Guarding(), fail)
    [answer] = work.answers
    assert isinstance(answer, Stop)
    assert answer.kind == "stopped"
