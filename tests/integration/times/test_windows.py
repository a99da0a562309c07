"""Targets that start within their windows only, on real databases, by a clock that the test sets."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from orchestrator.events import MigrationStarted, RolloutStateChanged
from orchestrator.registry.model import FailureBudget, Registry, Strategy, Wave
from orchestrator.registry.times import Blackout, Hours, Window
from orchestrator.rollout.state import Direction, Request, RolloutState
from tests import engine
from tests.engine import Engine, until
from tests.integration.times.conftest import Clock, MakeScene

DAILY = (0, 1, 2, 3, 4, 5, 6)
NIGHTS = Window("nights", "Europe/Berlin", "tenant=t001", (Hours(DAILY, 22 * 60, 30 * 60),), expect_seconds=60.0)
NOON, NIGHT = "2026-11-21T11:00:00", "2026-11-21T21:30:00"
SAID = "waiting for window nights (1 target on shard pg), which opens 2026-11-21T21:00:00.000Z"


async def start(running: Engine, to: str = "head", **fields: Any) -> str:
    view, _ = await running.service.start_rollout(Request("app", to, **fields))
    return view.rollout.id


async def says(running: Engine, rollout: str, text: str | None) -> None:
    async def said() -> bool:
        return (await running.service.rollout(rollout)).rollout.waiting == text

    await until(said)


async def ends(running: Engine, rollout: str, state: RolloutState = RolloutState.SUCCEEDED) -> None:
    await until(lambda: rollout not in running.service.active)
    assert (await running.service.rollout(rollout)).rollout.state is state


async def test_who_is_outside_of_its_window_is_passed_over_while_others_go_on(make_scene: MakeScene) -> None:
    scene, clock = await make_scene(4), Clock(NOON)
    registry = scene.registry(windows={"nights": NIGHTS}, max_concurrent=1)
    async with engine.running_by(clock, registry) as running:
        rollout = await start(running)
        await running.reaches(rollout, RolloutState.RUNNING, succeeded=3, pending=1)
        await says(running, rollout, SAID)
        assert await scene.migrated() == ["t000", "t002", "t003"]
        clock.set(NIGHT)
        await ends(running, rollout)
        assert await scene.migrated() == ["t000", "t001", "t002", "t003"]
        assert (await running.service.rollout(rollout)).rollout.waiting is None


async def test_a_window_of_the_shard_holds_up_all_of_it(make_scene: MakeScene) -> None:
    scene, clock = await make_scene(2), Clock(NOON)
    shard = replace(NIGHTS, select="shard=p*", timezone="America/New_York")
    async with engine.running_by(clock, scene.registry(windows={"nights": shard})) as running:
        rollout = await start(running)
        await says(
            running,
            rollout,
            "waiting for window nights (2 targets on shard pg), which opens 2026-11-22T03:00:00.000Z",
        )
        assert running.of(MigrationStarted) == []
        changes = [event.waiting for event in running.of(RolloutStateChanged) if event.waiting]
        assert len(changes) == 1  # it is told once, not each time that it is looked at
        await running.service.abort(rollout, by="anna")
        await ends(running, rollout, RolloutState.ABORTED)


async def test_all_windows_of_a_target_must_be_open(make_scene: MakeScene) -> None:
    scene, clock = await make_scene(1), Clock(NIGHT)
    late = Window("late", "UTC", open=(Hours(DAILY, 23 * 60, 24 * 60),), expect_seconds=60.0)
    windows = {"nights": replace(NIGHTS, select=""), "late": late}
    async with engine.running_by(clock, scene.registry(windows=windows)) as running:
        rollout = await start(running)
        await says(
            running, rollout, "waiting for window late (1 target on shard pg), which opens 2026-11-21T23:00:00.000Z"
        )
        clock.set("2026-11-21T23:00:00")
        await ends(running, rollout)


async def test_a_black_out_holds_up_until_its_end(make_scene: MakeScene) -> None:
    scene, clock = await make_scene(1), Clock("2026-12-25T12:00:00")
    year_end = Window("year-end", "UTC", blackouts=(Blackout(datetime(2026, 12, 24), datetime(2027, 1, 2)),))
    async with engine.running_by(clock, scene.registry(windows={"year-end": year_end})) as running:
        rollout = await start(running)
        await says(
            running, rollout, "waiting for window year-end (1 target on shard pg), which opens 2027-01-02T00:00:00.000Z"
        )
        clock.set("2027-01-02T00:00:00")
        await ends(running, rollout)


async def test_what_is_predicted_must_fit_what_is_left(make_scene: MakeScene) -> None:
    scene, clock = await make_scene(2), Clock("2026-11-22T04:50:00")
    window = replace(NIGHTS, select="", expect_seconds=1200.0)
    async with engine.running_by(clock, scene.registry(windows={"nights": window})) as running:
        rollout = await start(running)
        await says(
            running,
            rollout,
            "waiting for window nights (2 targets on shard pg), which opens 2026-11-22T21:00:00.000Z: what is left "
            "before is too short, as they are predicted to take 20 min",
        )
        clock.set("2026-11-22T04:39:59")  # a second more than that
        await ends(running, rollout)


async def test_what_the_first_ones_took_is_what_is_predicted_for_the_others(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    scene, clock, store = await make_scene(3), Clock("2026-11-22T04:50:00"), f"sqlite:///{tmp_path}/store.db"
    registry = scene.registry(windows={"nights": replace(NIGHTS, expect_seconds=1200.0)}, max_concurrent=1)
    async with engine.running_by(clock, registry, store_url=store) as running:
        rollout = await start(running)  # those of t000 and t002 may run at any time
        await ends(running, rollout)
    scene.targets = scene.targets[:1]
    async with engine.running_by(clock, scene.registry(), store_url=store) as running:
        await ends(running, await start(running, "base", direction=Direction.DOWNGRADE))
    everybody = scene.registry(windows={"nights": replace(NIGHTS, select="", expect_seconds=1200.0)})
    async with engine.running_by(clock, everybody, store_url=store) as running:  # it is known after a restart, too
        await ends(running, await start(running))


async def test_a_person_may_override_the_windows_and_says_why(make_scene: MakeScene, tmp_path: Path) -> None:
    scene, clock, store = await make_scene(2), Clock(NOON), f"sqlite:///{tmp_path}/store.db"
    registry = scene.registry(windows={"nights": NIGHTS})
    async with engine.running_by(clock, registry, store_url=store) as running:
        rollout = await start(running)
        await says(running, rollout, SAID)
        view = await running.service.override(rollout, by="anna", reason="CVE-2026-1")
        assert view.rollout.override is not None
        await ends(running, rollout)
        told = [event for event in await running.service.events(rollout) if event.name == "WindowsOverridden"]
        assert [(event.data["by"], event.data["reason"]) for event in told] == [("anna", "CVE-2026-1")]


async def test_a_restart_waits_on_and_remembers_an_override(make_scene: MakeScene, tmp_path: Path) -> None:
    scene, clock, store = await make_scene(2), Clock(NOON), f"sqlite:///{tmp_path}/store.db"
    registry = scene.registry(windows={"nights": NIGHTS})
    async with engine.running_by(clock, registry, store_url=store) as running:
        rollout = await start(running)
        await says(running, rollout, SAID)
    async with engine.running_by(clock, registry, store_url=store) as running:
        await running.service.resume_active()
        await running.reaches(rollout, RolloutState.RUNNING, succeeded=1, pending=1)
        await says(running, rollout, SAID)
        await running.service.freezing.set(by="bob", reason="incident")
        await running.service.override(rollout, by="anna", reason="CVE-2026-1")
    async with engine.running_by(clock, registry, store_url=store) as running:
        await running.service.resume_active()
        await says(running, rollout, "waiting: frozen by bob since 2026-11-21T11:00:00.000Z: incident")
        await running.service.freezing.lift(by="bob")
        await ends(running, rollout)


async def test_a_file_that_changes_lets_those_in_who_wait(make_scene: MakeScene) -> None:
    scene, clock = await make_scene(2), Clock(NOON)
    async with engine.running_by(clock, scene.registry(windows={"nights": NIGHTS})) as running:
        rollout = await start(running)
        await says(running, rollout, SAID)
        days = replace(NIGHTS, open=(Hours(DAILY, 8 * 60, 18 * 60),))
        running.source.current = scene.registry(windows={"nights": days}, digest="other")
        await ends(running, rollout)


async def test_a_window_that_comes_with_the_file_holds_up_what_has_not_started(make_scene: MakeScene) -> None:
    scene, clock = await make_scene(3), Clock(NOON)
    open_by_day = replace(NIGHTS, open=(Hours(DAILY, 8 * 60, 18 * 60),))
    closed: Registry = scene.registry(windows={"nights": replace(NIGHTS, select="")}, digest="other")
    async with engine.running_by(clock, scene.registry(windows={"nights": open_by_day})) as running:
        await running.service.freezing.set(by="anna", reason="a moment")
        rollout = await start(running)
        await says(running, rollout, "waiting: frozen by anna since 2026-11-21T11:00:00.000Z: a moment")
        running.source.current = closed
        await running.service.freezing.lift(by="anna")
        await says(
            running, rollout, "waiting for window nights (3 targets on shard pg), which opens 2026-11-21T21:00:00.000Z"
        )
        assert running.of(MigrationStarted) == []
        await running.service.abort(rollout, by="anna")
        await ends(running, rollout, RolloutState.ABORTED)


async def test_the_way_back_waits_for_windows_too_unless_they_are_overridden(make_scene: MakeScene) -> None:
    scene, clock = await make_scene(2), Clock(NIGHT)
    async with engine.running_by(clock, scene.registry(windows={"nights": NIGHTS})) as running:
        rollout = await start(running)
        await ends(running, rollout)
        clock.set("2026-11-22T11:00:00")
        await running.service.rollback(rollout, by="anna")
        await running.reaches(rollout, RolloutState.RUNNING, rolled_back=1, pending=1)
        await says(
            running, rollout, "waiting for window nights (1 target on shard pg), which opens 2026-11-22T21:00:00.000Z"
        )
        assert await scene.migrated() == ["t001"]
        await running.service.override(rollout, by="anna", reason="it is broken")
        await ends(running, rollout, RolloutState.ROLLED_BACK)
        assert await scene.migrated() == []


async def test_a_wave_waits_and_the_next_one_comes_after_it(make_scene: MakeScene) -> None:
    scene, clock = await make_scene(3), Clock(NOON)
    waves = (Wave("canary", select="tenant=t001", on_failure=FailureBudget(0)), Wave("everyone"))
    registry = scene.registry(windows={"nights": NIGHTS}, strategies={"canary": Strategy("canary", waves=waves)})
    async with engine.running_by(clock, registry) as running:
        rollout = await start(running, strategy="canary")
        await says(running, rollout, SAID)
        assert await scene.migrated() == []
        await running.service.pause(rollout, by="anna")
        await running.service.resume(rollout, by="anna")
        await says(running, rollout, SAID)  # again, after a pause
        clock.set(NIGHT)
        await ends(running, rollout)
