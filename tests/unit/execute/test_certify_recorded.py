"""The way to a verdict where revisions may be recorded: targets are told apart by the schema that they begin with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel

from orchestrator.errors import TargetError
from orchestrator.execute.certify import MOST_GROUPS, Certification
from orchestrator.execute.proving import Standing, Turn, Verdict
from orchestrator.history.jobs import Observed
from orchestrator.plan.compiled import Compiled, Mark, RenderedStep, Rendering, Script, compiled
from orchestrator.plan.recorded import RecordedStep
from orchestrator.plan.sent import expected
from orchestrator.plan.steps import Plan

PLAN = Plan((), ("a",), "upgrade", ("a",))
ASKS = Rendering((RenderedStep("a", ("a",), (Mark.BEGIN, Mark.COMMIT), "it asks the connection", asks=True),))
HAS: Standing = ("has a table",)
LACKS: Standing = ("lacks a table",)
SENT: dict[Standing, tuple[str, ...]] = {HAS: ("ALTER TABLE t",), LACKS: ("CREATE TABLE t", "ALTER TABLE t")}
EQUAL = ("t",)


class Scene:
    """A certification of a plan that asks. `asked`: how often a schema was read before a plan."""

    def __init__(self, rendering: Rendering = ASKS, **options: Any) -> None:
        self.verdicts: list[Verdict] = []
        self.apart: list[str] = []
        self.rendering, self.asked = rendering, 0
        options = {"patience": 5.0, "wanted": 2, **options}
        self.it = Certification(
            render=self._render,
            compare=lambda one, two: f"{one} {two}",
            on_verdict=self.verdicts.append,
            **options,
        )

    async def _render(self) -> Compiled:
        await anyio.lowlevel.checkpoint()
        return compiled(PLAN, self.rendering)

    @asynccontextmanager
    async def turn(self, standing: Standing | None) -> AsyncIterator[Turn]:
        async def read() -> Standing | None:
            self.asked += 1
            await anyio.lowlevel.checkpoint()
            return standing

        with anyio.fail_after(60):
            async with self.it.turn(read, self.apart.append) as turn:
                yield turn

    async def target(
        self,
        standing: Standing | None,
        sent: Sequence[str] | None = None,
        *,
        becomes: tuple[str, ...] = EQUAL,
        reason: str | None = None,
        fails: TargetError | None = None,
    ) -> Turn:
        """One target, from its turn to its end."""
        try:
            async with self.turn(standing) as turn:
                if fails is not None:
                    raise fails
                if turn.watched:
                    items = tuple(SENT.get(standing or (), ()) if sent is None else sent)
                    recording = {"a": RecordedStep(items if reason is None else (), reason)}
                    lines = expected(self.rendering)
                    turn.noticed(Observed({"transaction_per_migration": "True"}, (), recording, lines))
                    if turn.compiled is None:
                        turn.compare({})
                    turn.saw(becomes)
        except TargetError:
            pass
        return turn


def sent(turn: Turn) -> tuple[str, ...]:
    """What is replayed on it; nothing where it goes online."""
    segments = turn.compiled.segments if turn.compiled is not None else ()
    scripts = [one for one in segments if isinstance(one, Script)]
    return tuple(item for one in scripts for item in one.items if isinstance(item, str))


async def test_two_are_recorded_one_proves_it_and_the_rest_is_replayed() -> None:
    scene = Scene()
    turns = [await scene.target(LACKS) for _ in range(5)]
    assert [sent(turn) for turn in turns] == [(), (), *[SENT[LACKS]] * 3]
    assert [turn.watched for turn in turns] == [True, True, True, False, False]
    (verdict,) = scene.verdicts
    assert verdict.compiled is not None
    assert (verdict.compiled.recorded, scene.asked) == (("a",), 5)


async def test_each_schema_is_recorded_for_itself() -> None:
    scene = Scene()
    turns = [await scene.target(standing) for standing in (HAS, LACKS, LACKS, HAS, HAS, LACKS, HAS, LACKS)]
    assert [sent(turn) for turn in turns] == [(), (), (), (), SENT[HAS], SENT[LACKS], SENT[HAS], SENT[LACKS]]
    assert [verdict.reason for verdict in scene.verdicts] == [None, None]
    assert scene.apart == [f"{HAS} {LACKS}"]


async def test_many_at_once_of_two_schemas() -> None:
    scene = Scene()
    turns: list[tuple[Standing, Turn]] = []

    async def one(standing: Standing) -> None:
        turns.append((standing, await scene.target(standing)))

    async with anyio.create_task_group() as tasks:
        for number in range(40):
            tasks.start_soon(one, HAS if number % 2 else LACKS)
    for standing in (HAS, LACKS):
        found = [sent(turn) for other, turn in turns if other == standing]
        online = found.count(())
        assert 2 <= online <= 3
        assert found.count(SENT[standing]) == len(found) - online


async def test_a_schema_of_its_own_goes_online_and_is_told() -> None:
    scene = Scene()
    for _ in range(3):
        await scene.target(LACKS)
    drifted = await scene.target(("something else",))
    assert sent(drifted) == ()
    assert scene.apart == [f"{LACKS} ('something else',)"]
    assert sent(await scene.target(LACKS)) == SENT[LACKS]


async def test_schemas_without_end_are_not_all_kept() -> None:
    scene = Scene()
    for number in range(2 * MOST_GROUPS):
        assert sent(await scene.target((f"schema {number}",))) == ()
    assert len(scene.it._apart) == MOST_GROUPS
    assert len(scene.apart) == 2 * MOST_GROUPS - 1


async def test_a_schema_that_cannot_be_read_goes_online() -> None:
    scene = Scene()
    for _ in range(3):
        await scene.target(LACKS)
    assert sent(await scene.target(None)) == ()
    assert sent(await scene.target(LACKS)) == SENT[LACKS]


async def test_recordings_that_differ_go_online_and_nobodys_schema_is_read_any_more() -> None:
    scene = Scene()
    await scene.target(LACKS, ["COMMENT ON acme"])
    await scene.target(LACKS, ["COMMENT ON globex"])
    assert sent(await scene.target(LACKS)) == ()
    (verdict,) = scene.verdicts
    assert verdict == Verdict(None, "a: what was recorded of it on two targets differs")
    before = scene.asked
    assert sent(await scene.target(LACKS)) == ()
    assert scene.asked == before


async def test_what_reads_the_users_tables_goes_online_with_the_reason() -> None:
    scene = Scene()
    turns = [await scene.target(LACKS, reason="it reads users") for _ in range(4)]
    assert {sent(turn) for turn in turns} == {()}
    assert scene.verdicts == [Verdict(None, "a: it reads users")]


async def test_a_plan_of_which_nothing_is_recorded_is_replayed_as_far_as_it_is_sql() -> None:
    plan = Plan((), ("b",), "upgrade", ("a", "b"))
    first = RenderedStep("b", ("b",), (Mark.BEGIN, "SQL", Mark.COMMIT))
    rendering = Rendering((*ASKS.steps, first))

    class Longer(Scene):
        async def _render(self) -> Compiled:
            return compiled(plan, rendering)

    scene = Longer(rendering)
    turns = [await scene.target(LACKS, reason="it reads users") for _ in range(4)]
    assert [sent(turn) for turn in turns] == [(), (), ("SQL",), ("SQL",)]
    assert scene.asked == 3, "by the third it was known; the fourth is not asked"


async def test_a_replay_that_comes_to_something_else_ends_it_for_its_schema() -> None:
    scene = Scene()
    for _ in range(2):
        await scene.target(LACKS)
    await scene.target(LACKS, becomes=("less",))
    (verdict,) = scene.verdicts
    assert verdict.differs
    assert "a replayed target differs from one that was migrated online" in str(verdict.reason)
    assert sent(await scene.target(LACKS)) == ()
    for _ in range(2):
        await scene.target(HAS)
    assert sent(await scene.target(HAS)) == SENT[HAS]


async def test_one_whose_schema_strays_on_the_way_proves_nothing() -> None:
    scene = Scene()
    for _ in range(2):
        await scene.target(LACKS)
    async with scene.turn(LACKS) as turn:
        assert sent(turn) == SENT[LACKS]
        turn.strays()
        turn.saw(("more",))
    assert scene.verdicts == []
    assert [sent(await scene.target(LACKS)) for _ in range(2)] == [SENT[LACKS]] * 2
    (verdict,) = scene.verdicts
    assert verdict.compiled is not None


async def test_a_schema_that_somebody_changes_while_its_target_waits_is_looked_at_again() -> None:
    scene = Scene()
    for _ in range(2):
        await scene.target(LACKS)
    standing, turns = LACKS, list[Turn]()

    async def read() -> Standing:
        await anyio.lowlevel.checkpoint()
        return standing

    async def wait() -> None:
        async with scene.it.turn(read) as turn:
            turns.append(turn)

    async with anyio.create_task_group() as tasks, scene.turn(LACKS) as proof:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        standing = HAS
        proof.noticed(Observed({"transaction_per_migration": "True"}, (), {}, expected(scene.rendering)))
        proof.saw(EQUAL)
    assert [verdict.reason for verdict in scene.verdicts] == [None]
    assert [sent(turn) for turn in turns] == [()]


async def test_what_was_reviewed_records_nothing() -> None:
    scene = Scene(reviewed=compiled(PLAN, ASKS).digest)
    assert [sent(await scene.target(LACKS)) for _ in range(4)] == [()] * 4
    assert [(one.compiled, one.reason) for one in scene.verdicts] == [(None, "a: it asks the connection")]


async def test_one_recording_is_never_enough() -> None:
    scene = Scene(wanted=0)
    assert [sent(await scene.target(LACKS)) for _ in range(3)] == [(), (), SENT[LACKS]]


async def test_what_is_trusted_records_nothing() -> None:
    """`execution: replay` has no targets online to record on."""
    rendering = Rendering((*ASKS.steps,))
    scene = Scene(rendering, trusted=True)
    assert [sent(await scene.target(LACKS)) for _ in range(3)] == [(), (), ()]
    assert (scene.verdicts, scene.asked) == ([Verdict(None, "a: it asks the connection")], 0)


async def test_witnesses_that_become_something_else_from_the_same_schema_end_it() -> None:
    scene = Scene()
    await scene.target(LACKS)
    await scene.target(LACKS, becomes=("more",))
    (verdict,) = scene.verdicts
    assert "targets that were migrated online differ from each other" in str(verdict.reason)


async def test_of_a_plan_that_is_sql_targets_that_are_not_alike_are_found_once_it_is_known() -> None:
    sql = Rendering((RenderedStep("a", ("a",), (Mark.BEGIN, "SQL", Mark.COMMIT)),))
    scene = Scene(sql)
    await scene.target(HAS, becomes=("one",))
    await scene.target(LACKS, becomes=("two",))
    assert scene.verdicts == []
    assert sent(await scene.target(HAS)) == ()
    (verdict,) = scene.verdicts
    assert "targets that were migrated online differ from each other" in str(verdict.reason)
