"""The way to a verdict: who goes online, who is replayed to compare, who waits, and what ends it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from orchestrator.errors import MigrationFailedError, TargetError, TargetUnreachableError
from orchestrator.execute.certify import MOST_FAILED, Certification
from orchestrator.execute.proving import Turn, Verdict
from orchestrator.history.jobs import Observed
from orchestrator.plan.compiled import Compiled, Online, Script
from orchestrator.plan.steps import Plan

PLAN = Plan((), ("a",), "upgrade", ("a",))
SQL = Compiled(PLAN, (Script(True, (), ("a",), ("SELECT 1",), revisions=("a",)),))
ASKS = Compiled(PLAN, (Online((), ("a",), ("a",), ("it asks",)),))
SAME, OTHER = ("one",), ("two",)


class Scene:
    """A certification whose rendering gives `rendered`, or raises it."""

    def __init__(self, rendered: Compiled | Exception = SQL, **options: Any) -> None:
        self.rendered, self.renderings, self.rendering_seconds = rendered, 0, 0.0
        self.verdicts: list[Verdict] = []
        options = {"patience": 5.0, "wanted": 2, **options}
        self.it = Certification(
            render=self._render, compare=lambda one, two: f"{one} {two}", on_verdict=self.verdicts.append, **options
        )

    async def _render(self) -> Compiled:
        self.renderings += 1
        await anyio.sleep(self.rendering_seconds)
        if isinstance(self.rendered, Exception):
            raise self.rendered
        return self.rendered

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[Turn]:
        with anyio.fail_after(60):
            async with self.it.turn() as turn:
                yield turn

    async def target(
        self,
        fingerprint: tuple[str, ...] | TargetError | None = SAME,
        *,
        fails: TargetError | None = None,
        refused: str | None = None,
    ) -> Turn:
        """One target from its turn to its end."""
        try:
            async with self._turn() as turn:
                turn.refused = refused if turn.compiled is not None else None
                if turn.watched and fingerprint is not None and fails is None:
                    turn.saw(fingerprint)
                if fails is not None:
                    raise fails
        except TargetError:
            pass
        return turn


async def test_two_witnesses_one_proof_and_then_the_rest() -> None:
    scene = Scene()
    turns = [await scene.target() for _ in range(5)]
    assert [turn.compiled for turn in turns] == [None, None, SQL, SQL, SQL]
    assert [turn.watched for turn in turns] == [True, True, True, False, False]
    assert (scene.verdicts, scene.renderings) == ([Verdict(SQL)], 1)


async def test_many_at_once_wait_for_the_verdict_and_are_rendered_for_once() -> None:
    scene = Scene()
    turns: list[Turn] = []

    async def one() -> None:
        turns.append(await scene.target())

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(one)
    assert sum(turn.compiled is None for turn in turns) == 2
    assert scene.renderings == 1


@pytest.mark.parametrize(
    ("fingerprints", "said"),
    [
        ([SAME, OTHER], "targets that were migrated online differ from each other: ('one',) ('two',)"),
        ([SAME, SAME, OTHER], "a replayed target differs from one that was migrated online: ('one',) ('two',)"),
    ],
)
async def test_a_difference_ends_it(fingerprints: list[tuple[str, ...]], said: str) -> None:
    scene = Scene()
    for fingerprint in fingerprints:
        await scene.target(fingerprint)
    assert scene.verdicts == [Verdict(None, said, differs=True)]
    assert (await scene.target()).compiled is None


@pytest.mark.parametrize(
    ("rendered", "said"),
    [
        (ASKS, "a: it asks"),
        (MigrationFailedError("env.py connects"), "it cannot be rendered: env.py connects"),
        (ZeroDivisionError("oops"), "rendering it failed: ZeroDivisionError: oops"),
    ],
)
async def test_what_cannot_be_rendered_goes_online(rendered: Compiled | Exception, said: str) -> None:
    scene = Scene(rendered)
    turns = [await scene.target() for _ in range(4)]
    assert [turn.compiled for turn in turns] == [None] * 4
    assert scene.verdicts == [Verdict(None, said)]


async def test_a_schema_that_cannot_be_read_goes_online() -> None:
    scene = Scene()
    await scene.target(TargetError("permission denied"))
    assert scene.verdicts == [Verdict(None, "the schema cannot be read to compare it: permission denied")]


async def test_a_witness_that_fails_is_replaced() -> None:
    scene = Scene()
    for fails in (MigrationFailedError("no"), None, MigrationFailedError("no"), None):
        assert (await scene.target(fails=fails)).compiled is None
    assert scene.verdicts == []
    assert (await scene.target()).compiled is SQL
    assert scene.verdicts == [Verdict(SQL)]


async def test_a_proof_that_fails_for_reasons_of_its_own_is_tried_with_others_some_times() -> None:
    scene = Scene()
    for _ in range(2):
        await scene.target()
    for _ in range(MOST_FAILED):
        assert scene.verdicts == []
        assert (await scene.target(fails=TargetUnreachableError("gone", retriable=True))).compiled is SQL
    assert scene.verdicts == [Verdict(None, "no target could be replayed")]


async def test_a_proof_that_fails_for_good_is_not_tried_with_others() -> None:
    """What it left behind, if it did, is left behind on one target only."""
    scene = Scene()
    for _ in range(2):
        await scene.target()
    assert (await scene.target(fails=MigrationFailedError("label exists", code="42710"))).compiled is SQL
    assert scene.verdicts == [Verdict(None, "it failed where it was tried: label exists")]


async def test_sessions_that_are_not_alike_end_it() -> None:
    scene = Scene()
    async with scene._turn() as turn:
        turn.noticed(Observed({"TimeZone": "Asia/Tokyo", "the role": "owner"}, ("env.py sends SQL of its own: SET",)))
        turn.compare({"TimeZone": "UTC", "the role": "owner"})
        turn.saw(SAME)
    (verdict,) = scene.verdicts
    assert verdict.differs
    assert verdict.reason == (
        "env.py sends SQL of its own: SET; env.py's sessions have TimeZone = Asia/Tokyo, ours UTC"
    )


async def test_a_session_that_was_not_observed_ends_it() -> None:
    scene = Scene()
    async with scene._turn() as turn:
        turn.compare({})
        turn.saw(SAME)
    assert scene.verdicts[0].compiled is None


async def test_a_proof_that_is_refused_where_env_py_goes_through_ends_it() -> None:
    scene = Scene()
    for _ in range(2):
        await scene.target()
    await scene.target(refused="division by zero")
    assert [verdict.differs for verdict in scene.verdicts] == [True]
    assert "division by zero" in str(scene.verdicts[0].reason)


async def test_a_plan_that_is_refused_again_and_again_is_no_longer_replayed() -> None:
    scene = Scene()
    for _ in range(3):
        await scene.target()
    for _ in range(MOST_FAILED):
        assert (await scene.target(refused="no")).compiled is SQL
    assert [verdict.compiled for verdict in scene.verdicts] == [SQL, None]
    assert (await scene.target()).compiled is None


async def test_nobody_waits_for_good() -> None:
    scene = Scene(patience=0.05)
    async with scene._turn(), scene._turn():  # two witnesses that take long
        turn = await scene.target()
        assert (turn.compiled, turn.watched) == (None, False)


async def test_whoever_renders_for_longer_than_others_are_waited_for_is_replayed_all_the_same() -> None:
    scene = Scene(patience=0.05, trusted=True)
    scene.rendering_seconds = 0.2
    assert (await scene.target()).compiled is SQL


async def test_whoever_is_cancelled_while_rendering_leaves_it_to_the_next() -> None:
    scene = Scene()
    for _ in range(2):
        await scene.target()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await scene.target()
    assert (await scene.target()).compiled is SQL


async def test_what_is_trusted_needs_no_proof() -> None:
    scene = Scene(trusted=True)
    turns = [await scene.target() for _ in range(2)]
    assert [(turn.compiled, turn.watched) for turn in turns] == [(SQL, False)] * 2
