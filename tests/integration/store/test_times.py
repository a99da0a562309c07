"""What the store keeps of schedules and of a freeze, on both kinds of store."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Connection, text

from orchestrator.errors import FrozenError, StateError
from orchestrator.rollout.schedules import Run, RunOutcome, Standing
from orchestrator.rollout.state import MigrationState, Rollout, Scheduled
from orchestrator.rollout.windows import Freeze
from orchestrator.store import schedules, starts
from orchestrator.store.engine import Store
from tests.integration.store.samples import START, a_rollout, created, migrations_of, started

MINUTE = timedelta(minutes=1)


def run(number: int = 0, outcome: RunOutcome = RunOutcome.SKIPPED, **fields: str) -> Run:
    return Run("nightly", START + number * MINUTE, outcome, START, **fields)


async def test_a_run_is_recorded_once(store: Store) -> None:
    assert await store.schedules.record(run(reason="held"))
    assert not await store.schedules.record(run(outcome=RunOutcome.FAILED))
    assert await store.schedules.runs("nightly") == [run(reason="held")]
    assert await store.schedules.runs("other") == []


async def test_a_schedule_counts_from_when_it_was_seen_changed_or_came_back(store: Store) -> None:
    assert await store.schedules.follow({"nightly": "a", "other": "x"}, START)
    assert not await store.schedules.follow({"nightly": "a", "other": "x"}, START + MINUTE)
    assert await store.schedules.standings(START) == {"nightly": Standing(START), "other": Standing(START)}
    assert await store.schedules.follow({"nightly": "b"}, START + 2 * MINUTE)
    assert await store.schedules.standings(START) == {"nightly": Standing(START + 2 * MINUTE)}
    await store.schedules.switch("nightly", "b", False, "anna", START + 3 * MINUTE, filed=True)
    assert await store.schedules.follow({"nightly": "b", "other": "x"}, START + 4 * MINUTE)
    found = await store.schedules.standings(START)
    assert found["nightly"] == Standing(START + 2 * MINUTE, None, False, "anna", START + 3 * MINUTE)
    assert found["other"] == Standing(START + 4 * MINUTE)
    await store.schedules.switch("nightly", "b", True, "bob", START + 5 * MINUTE, filed=True)
    assert (await store.schedules.standings(START))["nightly"].since == START + 5 * MINUTE


@pytest.mark.parametrize("filed", [True, False])
async def test_enabling_what_is_enabled_leaves_what_is_due(store: Store, filed: bool) -> None:
    await store.schedules.follow({"nightly": "a"}, START)
    await store.schedules.switch("nightly", "a", True, "bob", START + MINUTE, filed)
    counts_from = START if filed else START + MINUTE
    assert (await store.schedules.standings(START))["nightly"].since == counts_from
    await store.schedules.switch("nightly", "a", True, "bob", START + 2 * MINUTE, filed)
    assert (await store.schedules.standings(START))["nightly"].since == counts_from


async def test_the_latest_run_is_the_clocks_and_not_that_of_a_wrong_one(store: Store) -> None:
    await store.schedules.follow({"nightly": "a"}, START)
    for one in (run(1), run(2), run(3, by="anna"), run(60 * 24 * 30)):
        assert await store.schedules.record(one)
    assert (await store.schedules.standings(START))["nightly"].handled == START + 2 * MINUTE


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_the_latest_runs_are_found_without_looking_at_all_of_them(store: Store) -> None:
    def plan(connection: Connection) -> str:
        asked = schedules._present(START).compile(connection.engine, compile_kwargs={"literal_binds": True})
        return str(connection.execute(text(f"EXPLAIN QUERY PLAN {asked}")).all())

    found = await store.ledger._connections.read(plan)
    assert "SEARCH schedule_runs USING INDEX" in found
    assert "TEMP B-TREE" not in found  # nothing is sorted


async def test_only_so_many_runs_are_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starts, "KEPT", 3)
    for number in (0, 1, 2, 3, 4, 60 * 24 * 400):
        assert await store.schedules.record(run(number))
    assert [one.planned_at for one in await store.schedules.runs("nightly")] == [
        START + number * MINUTE for number in (60 * 24 * 400, 4, 3)
    ]


async def test_a_run_and_its_rollout_are_written_together_or_not_at_all(store: Store) -> None:
    first = _of_schedule("r1")
    await store.ledger.create(first, migrations_of(first), created(first))
    again = _of_schedule("r2")
    assert (await store.ledger.create(again, migrations_of(again), created(again))).id == "r1"
    [kept] = await store.schedules.runs("nightly")
    assert (kept.outcome, kept.rollout, kept.by) == (RunOutcome.STARTED, "r1", None)
    held = _of_schedule("r3", 1)  # its target is held by the first: nothing of it stays
    with pytest.raises(Exception, match="r1 is active"):
        await store.ledger.create(held, migrations_of(held), created(held))
    assert len(await store.schedules.runs("nightly")) == 1
    await store.schedules.record(run(2))
    skipped = _of_schedule("r4", 2)
    with pytest.raises(StateError, match="recorded already: skipped"):
        await store.ledger.create(skipped, migrations_of(skipped), created(skipped))


async def test_a_freeze_refuses_starts_and_nothing_else(store: Store) -> None:
    rollout = a_rollout("r1", 2)
    one, other = migrations_of(rollout)
    await store.ledger.create(rollout, [one, other], created(rollout))
    running = replace(one, state=MigrationState.RUNNING, attempts=1)
    await store.ledger.save_migration(running, started(running))
    assert await store.freeze.current() is None
    freeze = await store.freeze.set("anna", "incident 7", START)
    assert freeze == await store.freeze.set("bob", "more", START + MINUTE) == await store.freeze.current()
    begun = replace(other, state=MigrationState.RUNNING, attempts=1)
    with pytest.raises(FrozenError, match="incident 7"):
        await store.ledger.save_migration(begun, started(begun))
    await store.ledger.save_migration(replace(running, state=MigrationState.SUCCEEDED, finished_at=START))
    states = [migration.state for migration in await store.ledger.migrations("r1")]
    assert states == [MigrationState.SUCCEEDED, MigrationState.PENDING]
    assert await store.freeze.lift() == Freeze("anna", "incident 7", START)
    assert await store.freeze.lift() is None
    await store.ledger.save_migration(begun, started(begun))


def _of_schedule(name: str, number: int = 0) -> Rollout:
    rollout = a_rollout(name, 1)
    planned = Scheduled("nightly", START + number * MINUTE)
    return replace(rollout, request=replace(rollout.request, scheduled=planned))
