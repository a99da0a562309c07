"""Rollouts that start by the clock, which the test sets, on real databases."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator.access import acts
from orchestrator.access.acts import Act
from orchestrator.databases.embedded import Server
from orchestrator.errors import ConflictError, FrozenError, StateError
from orchestrator.events import ScheduleRan
from orchestrator.registry import cron
from orchestrator.registry.times import Schedule
from orchestrator.rollout.schedules import Run, RunOutcome
from orchestrator.rollout.state import Request, RolloutState, Scheduled
from tests import engine
from tests.engine import Engine, until
from tests.integration.times.conftest import Clock, MakeScene, at, scheduled, schedulers
from tests.servers import MakeDatabases

EVE, TWO, AFTER = "2026-11-21T01:59:50", "2026-11-21T02:00:00", "2026-11-21T02:00:05"


def nightly(text: str = "0 2 * * *", **fields: Any) -> dict[str, Schedule]:
    return {"nightly": Schedule("nightly", cron.parse(text, "UTC"), "app", **fields)}


async def runs(running: Engine) -> list[Run]:
    """Oldest first."""
    return list(reversed(await running.parts.store.schedules.runs("nightly", 100)))


async def looked(running: Engine) -> None:
    """Until the scheduler has followed the registry: what is due after that counts."""
    standings = running.parts.store.schedules.standings

    async def known() -> bool:
        return "nightly" in await standings(running.parts.clock())

    await until(known)


async def ran(running: Engine, count: int = 1) -> list[Run]:
    """So many runs, once there are that many, and each that started has ended."""

    async def there() -> bool:
        return len(await runs(running)) >= count

    await until(there)
    found = await runs(running)
    for one in found:
        if one.rollout is not None:
            with anyio.fail_after(60):
                await running.service.finished(one.rollout)
    assert len(found) == count
    return found


async def settled(running: Engine) -> None:
    """The scheduler has looked a few times more: by then it would have started what it should not."""
    counted = 0
    inner = running.parts.store.schedules.standings

    async def counting(*arguments: Any) -> Any:
        nonlocal counted
        counted += 1
        return await inner(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running.parts.store.schedules, "standings", counting)
        await until(lambda: counted >= 3)
        await until(lambda: not schedulers[id(running)].underway)


async def test_a_scheduled_rollout_starts_by_itself(make_scene: MakeScene) -> None:
    scene, clock = await make_scene(3), Clock(EVE)
    async with scheduled(scene.registry(schedules=nightly(select="tenant!=t002")), clock) as running:
        await looked(running)
        await settled(running)
        assert await runs(running) == []
        clock.set(TWO)
        [run] = await ran(running)
        assert (run.planned_at, run.outcome, run.by) == (at(TWO), RunOutcome.STARTED, None)
        assert run.rollout is not None
        view = await running.service.rollout(run.rollout)
        assert view.rollout.state is RolloutState.SUCCEEDED
        assert view.rollout.request.created_by == "schedule:nightly"
        assert view.rollout.request.scheduled == Scheduled("nightly", at(TWO))
        assert await scene.migrated() == ["t000", "t001"]
        clock.set(AFTER)
        await settled(running)
        assert await runs(running) == [run]
        assert [event.outcome for event in running.of(ScheduleRan)] == ["started"]
        [entry] = await running.parts.store.audit.entries()
        assert (entry.values["action"], entry.values["by"]) == ("run_schedule", "schedule:nightly")
        assert entry.values["rollout"] == run.rollout
        assert entry.values["details"].items() >= {"schedule": "nightly", "run_outcome": "started"}.items()
        metrics, _ = running.parts.metrics.render()
        assert b'orchestrator_schedule_next_run_timestamp_seconds{schedule="nightly"} 1.7953' in metrics
        assert b'orchestrator_schedule_runs_total{outcome="started",schedule="nightly"} 1.0' in metrics
        assert b'orchestrator_schedule_runs_total{outcome="missed",schedule="nightly"} 0.0' in metrics


async def test_with_nothing_pending_nothing_is_started_and_that_is_recorded(make_scene: MakeScene) -> None:
    scene, clock = await make_scene(2), Clock(EVE)
    async with scheduled(scene.registry(schedules=nightly()), clock) as running:
        await running.rollout()
        await looked(running)
        clock.set(TWO)
        [run] = await ran(running)
        assert (run.outcome, run.rollout, run.reason) == (
            RunOutcome.NOTHING_PENDING,
            None,
            "nothing to run on 2 targets",
        )
        assert len(await running.service.rollouts()) == 1
        [entry] = await running.parts.store.audit.entries()
        told = {"schedule": "nightly", "run_outcome": "nothing_pending", "run_reason": "nothing to run on 2 targets"}
        assert entry.values["details"].items() >= told.items()
        with acts.acting(Act("run_schedule", "schedule:nightly")):
            assert not await running.parts.store.schedules.record(run)
        assert len(await running.parts.store.audit.entries()) == 1  # once is enough


async def test_targets_that_cannot_be_read_are_not_nothing(make_scene: MakeScene) -> None:
    scene, clock = await make_scene(2), Clock(EVE)
    async with scheduled(scene.registry(schedules=nightly()), clock) as running:
        await running.rollout()
        gone = [scene.targets[0], replace(scene.targets[1], database="no_such_database")]
        running.source.current = replace(running.source.current, targets=tuple(gone))
        await looked(running)
        clock.set(TWO)
        [run] = await ran(running)
        assert (run.outcome, run.rollout is None) == (RunOutcome.STARTED, False)
        assert run.rollout is not None
        view = await running.service.rollout(run.rollout)
        assert view.rollout.state is not RolloutState.SUCCEEDED
        assert {state.value: count for state, count in view.counts.items()} == {"up_to_date": 1, "unreachable": 1}


async def test_a_selector_that_takes_nobody_starts_nothing(make_scene: MakeScene) -> None:
    scene, clock = await make_scene(1), Clock(EVE)
    async with scheduled(scene.registry(schedules=nightly(select="tier=gold")), clock) as running:
        await looked(running)
        clock.set(TWO)
        [run] = await ran(running)
        assert (run.outcome, run.reason) == (RunOutcome.NOTHING_PENDING, "no target of track app is selected")


async def test_targets_that_another_rollout_holds_are_a_reason_to_skip(make_scene: MakeScene) -> None:
    scene, clock = await make_scene(2), Clock(EVE)
    async with scheduled(scene.registry(schedules=nightly()), clock) as running:
        await running.service.freezing.set(by="anna", reason="so that the other one stays")
        view, _ = await running.service.start_rollout(Request("app", "head", select="tenant=t001"))
        await running.service.pause(view.rollout.id, by="anna")
        await running.service.freezing.lift(by="anna")
        await looked(running)
        clock.set(TWO)
        [run] = await ran(running)
        assert run.outcome is RunOutcome.SKIPPED
        assert (await running.parts.store.audit.entries())[-1].values["details"]["run_outcome"] == "skipped"
        assert run.reason is not None
        assert f"rollout {view.rollout.id} is active and holds t001/app" in run.reason
        await running.service.abort(view.rollout.id, by="anna")
        await running.service.finished(view.rollout.id)
        clock.set("2026-11-22T02:00:30")  # the next night's is not skipped
        assert (await ran(running, 2))[1].outcome is RunOutcome.STARTED


async def test_a_frozen_fleet_is_a_reason_to_skip(make_scene: MakeScene) -> None:
    scene, clock = await make_scene(1), Clock(EVE)
    async with scheduled(scene.registry(schedules=nightly()), clock) as running:
        await running.service.freezing.set(by="anna", reason="incident 7")
        await looked(running)
        clock.set(TWO)
        [run] = await ran(running)
        assert (run.outcome, run.reason) == (
            RunOutcome.SKIPPED,
            "frozen by anna since 2026-11-21T01:59:50.000Z: incident 7",
        )
        with pytest.raises(FrozenError, match="incident 7"):
            await running.service.schedules.run("nightly", by="anna")


async def test_what_was_due_while_it_was_disabled_is_not_made_up_for(make_scene: MakeScene, tmp_path: Path) -> None:
    scene, clock, store = await make_scene(1), Clock(EVE), f"sqlite:///{tmp_path}/store.db"
    registry = scene.registry(schedules=nightly("*/5 * * * *"))
    async with scheduled(registry, clock, store_url=store) as running:
        await looked(running)
        view = await running.service.schedules.switch("nightly", enabled=False, by="anna")
        assert (view.enabled, view.standing.by, view.upcoming) == (False, "anna", [])
        clock.set(TWO)
        await settled(running)
    async with scheduled(replace(registry, digest="changed"), clock, store_url=store) as running:  # it is remembered
        await settled(running)
        assert await runs(running) == []
        clock.set("2026-11-21T02:01:00")
        view = await running.service.schedules.switch("nightly", enabled=True, by="anna")
        assert view.upcoming[0] == at("2026-11-21T02:05:00")
        await settled(running)
        assert await runs(running) == []
        clock.set("2026-11-21T02:05:01")
        [run] = await ran(running)
        assert run.outcome is RunOutcome.STARTED


async def test_what_was_due_while_the_file_had_it_off_is_not_made_up_for(make_scene: MakeScene) -> None:
    scene, clock = await make_scene(1), Clock(EVE)
    on = nightly("*/5 * * * *", missed="run_once", missed_seconds=3600.0)
    off = {"nightly": replace(on["nightly"], enabled=False)}
    async with scheduled(scene.registry(schedules=off), clock) as running:
        await looked(running)
        clock.set("2026-11-21T02:01:00")
        running.source.current = scene.registry(schedules=on, digest="on")
        await settled(running)
        assert await runs(running) == []
        clock.set("2026-11-21T02:05:01")
        assert [run.planned_at for run in await ran(running)] == [at("2026-11-21T02:05:00")]


async def test_one_that_is_disabled_in_the_middle_of_its_start_does_not_start(make_scene: MakeScene) -> None:
    scene, clock = await make_scene(1), Clock(TWO)
    async with engine.running_by(clock, scene.registry(schedules=nightly())) as running:
        await running.service.schedules.switch("nightly", enabled=False, by="anna")
        with pytest.raises(StateError, match="has been disabled"):
            await running.service.start_rollout(Request("app", "head", scheduled=Scheduled("nightly", at(TWO))))
        assert await running.service.rollouts() == []
        run = await running.service.schedules.run("nightly", by="anna")  # a person may
        assert (run.outcome, run.by) == (RunOutcome.STARTED, "anna")


@pytest.mark.parametrize("jump", ["2026-11-21T05:30:00", "2026-11-20T23:00:00", "2027-11-21T02:30:00"])
async def test_a_clock_that_jumps_starts_nothing_twice(make_scene: MakeScene, jump: str) -> None:
    scene, clock = await make_scene(1), Clock(EVE)
    async with scheduled(scene.registry(schedules=nightly("0 * * * *", missed="run_once")), clock) as running:
        await looked(running)
        clock.set(AFTER)
        [first] = await ran(running)
        clock.set(jump)
        await settled(running)
        before = await runs(running)
        for text in (EVE, AFTER, jump, AFTER):
            clock.set(text)
            await settled(running)
        assert await runs(running) == before
        assert [run.planned_at for run in before].count(first.planned_at) == 1
        clock.set("2026-11-21T03:00:01")  # whatever the clock has said meanwhile, the next hour comes
        if jump != "2026-11-21T05:30:00":
            await until(lambda: any(event.planned_at == at("2026-11-21T03:00:00") for event in running.of(ScheduleRan)))


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ({}, RunOutcome.MISSED),
        ({"missed": "run_once"}, RunOutcome.STARTED),
        ({"missed": "run_once", "missed_seconds": 600.0}, RunOutcome.MISSED),
    ],
)
async def test_a_run_that_nobody_was_there_for(
    make_scene: MakeScene, tmp_path: Path, fields: dict[str, Any], outcome: RunOutcome
) -> None:
    scene, clock, store = await make_scene(1), Clock(EVE), f"sqlite:///{tmp_path}/store.db"
    registry = scene.registry(schedules=nightly(**fields))
    async with scheduled(registry, clock, store_url=store) as running:
        await looked(running)
    clock.set("2026-11-21T02:30:00")
    async with scheduled(registry, clock, store_url=store) as running:
        [run] = await ran(running)
        assert (run.planned_at, run.outcome) == (at(TWO), outcome)
        assert (await running.parts.store.audit.entries())[-1].values["details"]["run_outcome"] == str(outcome)
        if outcome is RunOutcome.MISSED:
            assert run.reason == "no daemon was there at 2026-11-21T02:00:00.000Z, which is 1800 s ago"
        await settled(running)
        assert len(await runs(running)) == 1


async def test_a_restart_right_at_the_time_starts_it_once(make_scene: MakeScene, tmp_path: Path) -> None:
    scene, clock, store = await make_scene(1), Clock(EVE), f"sqlite:///{tmp_path}/store.db"
    registry = scene.registry(schedules=nightly())
    async with scheduled(registry, clock, store_url=store) as running:
        await looked(running)
    clock.set(TWO)  # while it was away
    for _ in range(3):
        async with scheduled(registry, clock, store_url=store) as running:
            [run] = await ran(running)
            assert run.outcome is RunOutcome.STARTED
            await settled(running)
            assert len(await running.service.rollouts()) == 1


async def test_a_new_schedule_and_one_that_changes_count_from_then_on(make_scene: MakeScene) -> None:
    scene, clock = await make_scene(1), Clock("2026-11-21T02:00:30")
    async with scheduled(scene.registry(schedules=nightly()), clock) as running:
        await looked(running)
        await settled(running)  # half a minute ago it was not there
        assert await runs(running) == []
        for digest, schedules in (("b", {}), ("c", nightly()), ("d", nightly("59 1 * * *")), ("e", nightly())):
            running.source.current = scene.registry(schedules=schedules, digest=digest)
            await anyio.sleep(0.1)
            await settled(running) if schedules else None
            assert await runs(running) == []
        clock.set("2026-11-22T02:00:00")
        assert [run.planned_at for run in await ran(running)] == [at("2026-11-22T02:00:00")]


async def test_what_cannot_be_started_is_recorded_with_the_reason(make_scene: MakeScene) -> None:
    scene, clock = await make_scene(1), Clock(EVE)
    async with scheduled(scene.registry(schedules=nightly(to="nonesuch")), clock) as running:
        await looked(running)
        clock.set(TWO)
        [run] = await ran(running)
        assert run.outcome is RunOutcome.FAILED
        assert run.reason is not None
        assert "nonesuch" in run.reason


async def test_two_that_both_think_they_lead_start_one_rollout(
    make_scene: MakeScene, make_databases: MakeDatabases, pg: Server
) -> None:
    """Worse than two daemons can be: each of them looks, at the same moment, and neither knows of the other."""
    scene, clock = await make_scene(2), Clock(EVE)
    [store] = await make_databases(1, "store")
    registry = scene.registry(schedules=nightly("* * * * *"))
    async with (
        scheduled(registry, clock, store_url=pg.url(store)) as one,
        scheduled(registry, clock, store_url=pg.url(store)) as other,
    ):
        await looked(one)
        await looked(other)
        clock.set(AFTER)
        [run] = await ran(one)
        assert run.outcome is RunOutcome.STARTED
        assert run.rollout is not None
        for running in (one, other):
            await running.service.finished(run.rollout)
            await settled(running)
            assert len(await running.service.rollouts()) == 1
        told = [event.rollout for running in (one, other) for event in running.of(ScheduleRan)]
        assert told == [run.rollout]


async def test_many_starts_of_one_run_at_once_make_one_rollout(
    make_scene: MakeScene, make_databases: MakeDatabases, pg: Server
) -> None:
    scene = await make_scene(1)
    [store] = await make_databases(1, "store")
    request = Request("app", "head", scheduled=Scheduled("nightly", at(TWO)))
    made: list[tuple[str, bool]] = []

    async def start(running: Engine) -> None:
        view, fresh = await running.service.start_rollout(request)
        made.append((view.rollout.id, fresh))

    registry = scene.registry(schedules=nightly())
    async with (
        engine.running(registry, store_url=pg.url(store)) as one,
        engine.running(registry, store_url=pg.url(store)) as other,
    ):
        async with anyio.create_task_group() as tasks:
            for running in (one, other) * 4:
                tasks.start_soon(start, running)
        assert len({rollout for rollout, _ in made}) == 1
        assert sorted(fresh for _, fresh in made) == [False] * 7 + [True]
        await one.service.finished(made[0][0])
        await other.service.finished(made[0][0])


async def test_run_now_tells_of_a_conflict(make_scene: MakeScene) -> None:
    scene, clock = await make_scene(1), Clock(EVE)
    async with engine.running_by(clock, scene.registry(schedules=nightly())) as running:
        await running.service.freezing.set(by="anna", reason="so that it stays")
        view, _ = await running.service.start_rollout(Request("app", "head"))
        await running.service.pause(view.rollout.id, by="anna")
        await running.service.freezing.lift(by="anna")
        with pytest.raises(ConflictError, match=view.rollout.id):
            await running.service.schedules.run("nightly", by="anna")
        assert await runs(running) == []
        await running.service.abort(view.rollout.id, by="anna")


async def test_the_list_asks_once_how_they_all_stand(make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene, asked = await make_scene(1), list[Any]()
    three = {name: replace(nightly()["nightly"], name=name) for name in ("c", "a", "b")}
    async with engine.running_by(Clock(EVE), scene.registry(schedules=three)) as running:
        inner = running.parts.store.schedules.standings

        async def counting(now: Any) -> Any:
            asked.append(now)
            return await inner(now)

        monkeypatch.setattr(running.parts.store.schedules, "standings", counting)
        assert [view.schedule.name for view in await running.service.schedules.listed(1)] == ["a", "b", "c"]
    assert len(asked) == 1
