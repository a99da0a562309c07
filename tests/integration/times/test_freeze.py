"""A freeze of the fleet: nothing starts, what runs is finished, and it holds in each process."""

from __future__ import annotations

import time
from pathlib import Path

import anyio
import pytest

from orchestrator.databases.embedded import Server
from orchestrator.events import FleetFrozen, FreezeLifted, MigrationFinished, MigrationStarted
from orchestrator.execute import gate
from orchestrator.rollout.state import MigrationState, RolloutState
from tests import engine
from tests.engine import until
from tests.integration.times.conftest import MakeScene, Scene, at
from tests.integration.times.test_windows import ends, start
from tests.servers import MakeDatabases


async def frozen(running: engine.Engine, rollout: str, text: str) -> None:
    async def said() -> bool:
        waiting = (await running.service.rollout(rollout)).rollout.waiting or ""
        return waiting.startswith("waiting: frozen by ") and waiting.endswith(text)

    await until(said)


async def test_rollouts_may_be_made_and_wait_and_go_on_when_it_is_lifted(make_scene: MakeScene) -> None:
    scene: Scene = await make_scene(2)
    async with engine.running(scene.registry()) as running:
        await running.service.freezing.set(by="anna", reason="incident 7")
        again = await running.service.freezing.set(by="bob", reason="another")
        assert (again.by, again.reason) == ("anna", "incident 7")  # it stays as it was
        rollout = await start(running)
        await frozen(running, rollout, ": incident 7")
        assert running.of(MigrationStarted) == []
        await running.service.freezing.lift(by="bob")
        await running.service.freezing.lift(by="bob")
        await ends(running, rollout)
        assert [event.by for event in running.of(FleetFrozen)] == ["anna"]
        assert [(event.by, event.reason) for event in running.of(FreezeLifted)] == [("bob", "incident 7")]


async def test_what_runs_is_finished_and_nothing_else_begins(make_scene: MakeScene) -> None:
    scene: Scene = await make_scene(3, before_each="import time; time.sleep(1.0)")
    async with engine.running(scene.registry(max_concurrent=1)) as running:
        rollout = await start(running)
        await until(lambda: len(running.of(MigrationStarted)) == 1)
        await running.service.freezing.set(by="anna", reason="incident 7")
        await running.reaches(rollout, RolloutState.RUNNING, succeeded=1, pending=2)
        await frozen(running, rollout, ": incident 7")
        assert len(running.of(MigrationStarted)) == 1
        await running.service.abort(rollout, by="anna")  # it can be steered meanwhile
        await ends(running, rollout, RolloutState.ABORTED)


async def test_one_that_another_process_writes_holds_at_once(
    make_scene: MakeScene, make_databases: MakeDatabases, pg: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leader has not looked yet, and thinks that it may start: the store refuses to record it."""
    scene: Scene = await make_scene(4)
    [store] = await make_databases(1, "store")
    async with engine.running(scene.registry(), store_url=pg.url(store)) as leader:
        await leader.parts.gate.refresh()
        monkeypatch.setattr(gate, "FRESH_SECONDS", 1e9)
        async with engine.running(scene.registry(), store_url=pg.url(store)) as standby:
            await standby.service.freezing.set(by="anna", reason="incident 7")
        began = time.monotonic()
        rollout = await start(leader)
        counts = leader.service.rollout
        for _ in range(20):
            await anyio.sleep(0.05)
            view = await counts(rollout)
            assert set(view.counts) <= {MigrationState.PENDING}
        assert leader.parts.gate.freeze is None
        assert leader.of(MigrationStarted) == []
        monkeypatch.setattr(gate, "FRESH_SECONDS", 0.1)
        await frozen(leader, rollout, ": incident 7")
        await leader.service.freezing.lift(by="anna")
        lifted = time.monotonic()
        await ends(leader, rollout)
        assert await scene.migrated() == ["t000", "t001", "t002", "t003"]
        most = time.monotonic() - lifted + 0.5 * (lifted - began)
        took = [event.seconds for event in leader.of(MigrationFinished)]
        assert max(took) < most, "what they took is told without the freeze"


async def test_it_outlives_a_restart(make_scene: MakeScene, tmp_path: Path) -> None:
    scene, store = await make_scene(1), f"sqlite:///{tmp_path}/store.db"
    async with engine.running(scene.registry(), store_url=store) as running:
        freeze = await running.parts.store.freeze.set("anna", "incident 7", at("2026-11-21T02:00:00"))
    async with engine.running(scene.registry(), store_url=store) as running:
        assert await running.service.freezing.current() == freeze
        rollout = await start(running)
        await frozen(running, rollout, "by anna since 2026-11-21T02:00:00.000Z: incident 7")
        await running.service.freezing.lift(by="anna")
        await ends(running, rollout)
