"""The watch over one running env.py: what it ends, whom it waits for, and when it gives up."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from orchestrator.databases import watching
from orchestrator.errors import MigrationFailedError, TargetError, TargetUnreachableError
from orchestrator.execute.online import OnlineRunner
from orchestrator.history.jobs import MigrateJob
from orchestrator.history.progress import Observer
from orchestrator.history.workers import Handle, Workers
from orchestrator.plan.steps import Plan
from orchestrator.registry.model import Track
from orchestrator.sessions import SessionRules

JOB = MigrateJob(
    Track("app", script_location=Path("/srv/alembic")),
    "digest",
    "acme",
    Plan((), ("a1",), "upgrade", ("a1",)),
    "alembic_version",
    None,
    SessionRules("postgresql", "SELECT 1", (), "acme"),
    "postgresql://nowhere.invalid/acme",
)


class Guarding:
    """A guard that answers with `answer`, and notes which backends it was told to end."""

    def __init__(self, answer: Exception | None = None) -> None:
        self.lost, self.answer = anyio.Event(), answer
        self.looks, self.ended = 0, list[list[int]]()

    async def blockers(self, backends: Sequence[int]) -> str | None:
        self.looks += 1
        if self.answer is not None:
            raise self.answer
        return None

    patience = None

    async def give_way(self, backends: Sequence[int], note: Callable[[str | None], None]) -> None:
        return None

    async def invalid_indexes(self) -> tuple[str, ...]:
        return ()

    async def end_backends(self, backends: Sequence[int]) -> None:
        self.ended.append(list(backends))


class Working:
    """Workers whose jobs do `work`."""

    def __init__(self, work: Callable[[Observer, Handle], None]) -> None:
        self._work = work

    def migrate(self, job: MigrateJob, observer: Observer, handle: Handle) -> None:
        self._work(observer, handle)

    migrate_alone = migrate


class Hanging:
    """Work that ends only when its handle is ended, as a thread that hears nothing of a frozen server."""

    def __init__(self) -> None:
        self._end = threading.Event()

    def __call__(self, observer: Observer, handle: Handle) -> None:
        handle.end = self._end.set  # type: ignore[method-assign]
        assert self._end.wait(20)
        raise MigrationFailedError("hung up", kind="worker_died", retriable=True)


async def _run(work: Callable[[Observer, Handle], None], guard: Guarding, *, alone: bool = False) -> None:
    runner = OnlineRunner(cast(Workers, Working(work)), 1)
    with anyio.fail_after(60):
        await runner.run(JOB, cast(Any, guard), lambda *_: None, alone=alone)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "WATCH_SECONDS", 0.02)
    monkeypatch.setattr(watching, "ABANDON_SECONDS", 0.3)


@pytest.mark.parametrize("alone", [False, True])
async def test_a_guard_that_answers_no_more_is_lost_and_the_work_is_abandoned(alone: bool) -> None:
    guard = Guarding(TargetUnreachableError("no answer"))
    with pytest.raises(TargetUnreachableError) as told:
        await _run(Hanging(), guard, alone=alone)
    assert told.value.kind == "guard_lost"
    assert guard.looks == 2, "looked before any backend was known, and once more before it gave up"
    assert guard.ended


async def test_cancelling_gets_through_work_that_cannot_be_ended() -> None:
    guard = Guarding()
    with anyio.move_on_after(0.1) as scope:
        await _run(Hanging(), guard)
    assert scope.cancelled_caught
    assert len(guard.ended) > 1, "its backends were ended again and again before it was abandoned"


async def test_a_long_watch_leaves_no_more_garbage_than_a_short_one() -> None:
    """Hundreds of them at once would: each collection keeps the loop from everything else."""

    async def left(seconds: float) -> int:
        gc.collect()
        await _run(lambda observer, handle: time.sleep(seconds), guard)
        return gc.collect()

    guard = Guarding()
    await left(0.0)  # what is made once
    gc.disable()
    try:
        short = await left(0.0)
        assert await left(0.5) < short + 100
    finally:
        gc.enable()
    assert guard.looks > 5


async def test_what_a_dead_worker_left_on_the_server_is_ended() -> None:
    def die(observer: Observer, handle: Handle) -> None:
        observer.backend(42)
        raise MigrationFailedError("died", kind="worker_died", retriable=True)

    guard = Guarding()
    with pytest.raises(MigrationFailedError):
        await _run(die, guard)
    assert guard.ended == [[42]]


async def test_a_failure_of_env_py_ends_nothing() -> None:
    def fail(observer: Observer, handle: Handle) -> None:
        observer.backend(42)
        raise TargetError("no")

    guard = Guarding()
    with pytest.raises(TargetError):
        await _run(fail, guard)
    assert guard.ended == []


async def test_a_bug_leaves_as_itself_not_as_a_group() -> None:
    def fail(observer: Observer, handle: Handle) -> None:
        raise ZeroDivisionError("bug")

    with pytest.raises(ZeroDivisionError):
        await _run(fail, Guarding())
