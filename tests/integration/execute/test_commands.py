"""Commands that meet the end of a rollout, each other, and a restart."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy.engine import make_url

from orchestrator.errors import StateError
from orchestrator.registry.model import FailureBudget, Registry, Shard, Strategy, Target, Wave
from orchestrator.registry.source import ReloadResult
from orchestrator.rollout.state import RolloutState
from orchestrator.service.orchestrator import Orchestrator
from tests import engine, environments
from tests.engine import Engine, running

Command = Callable[[Orchestrator, str], Awaitable[object]]
COMMANDS: dict[str, Command] = {
    "pause": lambda service, rollout: service.pause(rollout, by="test"),
    "abort": lambda service, rollout: service.abort(rollout, by="test"),
    "retry": lambda service, rollout: service.retry(rollout, by="test"),
}


def _registry(folder: Path, targets: int, **shard: Any) -> Registry:
    config = environments.make_project(folder / "project")
    environments.add_tables(folder / "project", ["alpha"])
    files = [f"t{number}.db" for number in range(targets)]
    for name in files:
        (folder / name).touch()
    shards = [Shard("files", make_url("sqlite://"), **shard)]
    strategies = {"careful": Strategy("careful", waves=(Wave("everyone", on_failure=FailureBudget(count=0)),))}
    listed = [Target(name.removesuffix(".db"), "app", "files", name) for name in files]
    return engine.registry_of([environments.track_of(config)], shards, listed, strategies=strategies, folder=folder)


@pytest.mark.parametrize("name", COMMANDS)
async def test_a_command_that_meets_the_end_of_a_rollout_never_leaves_it_half_open(name: str, tmp_path: Path) -> None:
    async with running(_registry(tmp_path, 1)) as one:
        await one.rollout()
        for delay_ms in range(0, 30, 2):
            view, _ = await one.service.start_rollout(engine.head())
            await anyio.sleep(delay_ms / 1000)
            async with anyio.create_task_group() as tasks:
                for _ in range(2):
                    tasks.start_soon(_command, one, name, view.rollout.id)
            with suppress(StateError):
                await one.service.resume(view.rollout.id, by="test")
            with anyio.fail_after(60):
                await one.service.finished(view.rollout.id)
            after = await one.service.rollout(view.rollout.id)
            assert after.rollout.state.finished
            assert after.counts in ({"up_to_date": 1}, {"cancelled": 1})  # an abort may come before it was looked at


async def _command(one: Engine, name: str, rollout: str) -> None:
    with suppress(StateError):
        await COMMANDS[name](one.service, rollout)


@pytest.mark.parametrize("name", ["pause", "abort"])
async def test_a_command_right_after_a_start_over_a_standby_is_carried_out(name: str, tmp_path: Path) -> None:
    registry = _registry(tmp_path, 1)
    registry = replace(registry, strategies={"default": Strategy("default", approval=True)})
    async with running(registry) as one:
        one.service.steering.leads = False  # as it is written by a standby, and nobody has looked yet
        view, _ = await one.service.start_rollout(engine.head())
        assert not one.service.active
        one.service.steering.leads = True
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.service.take_up)  # as the leader does at intervals
            await COMMANDS[name](one.service, view.rollout.id)
        if name == "pause":
            assert (await one.service.rollout(view.rollout.id)).rollout.state is RolloutState.PAUSED
            await one.service.stop(view.rollout.id, "enough")
        with anyio.fail_after(60):
            await one.service.finished(view.rollout.id)
        assert (await one.service.rollout(view.rollout.id)).rollout.state is RolloutState.ABORTED


async def test_two_retries_at_once_are_one(tmp_path: Path) -> None:
    registry = _registry(tmp_path, 2)
    (tmp_path / "t1.db").write_text("no database at all, but long enough to be taken for one by nobody" * 20)
    async with running(registry) as one:
        view = await one.rollout()
        assert view.counts == {"succeeded": 1, "unreachable": 1}
        (tmp_path / "t1.db").write_bytes(b"")
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(_command, one, "retry", view.rollout.id)
        await one.service.finished(view.rollout.id)
        assert (await one.service.rollout(view.rollout.id)).counts == {"succeeded": 2}


async def test_failures_that_somebody_accepted_do_not_pause_again_after_a_restart(tmp_path: Path) -> None:
    registry = _registry(tmp_path, 8, max_concurrent=1)
    (tmp_path / "t0.db").unlink()
    slow = 'time.sleep(0.3)\nop.execute("CREATE TABLE beta (id int)")'
    environments.add_revision(tmp_path / "project", "beta", "alpha", slow)
    store = f"sqlite:///{tmp_path}/store.db"
    async with running(registry, store_url=store) as one:
        view, _ = await one.service.start_rollout(replace(engine.head(), strategy="careful"))
        await one.reaches(view.rollout.id, RolloutState.PAUSED, unreachable=1)
        await one.service.resume(view.rollout.id, by="anna")
        await one.reaches(view.rollout.id, RolloutState.RUNNING, succeeded=1)
    async with running(registry, store_url=store) as again:
        await again.service.resume_active()
        with anyio.fail_after(60):
            await again.service.finished(view.rollout.id)
        after = await again.service.rollout(view.rollout.id)
        assert after.counts == {"succeeded": 7, "unreachable": 1}


async def test_a_leader_reads_its_registry_again_for_a_tenant_that_a_standby_knew_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = _registry(tmp_path, 2)
    older = replace(newer, digest="older", targets=newer.targets[:1])
    async with running(newer) as one:
        with monkeypatch.context() as patched:  # as a standby, which leaves it to the leader
            patched.setattr(one.service, "_launch", lambda rollout: None)
            view, _ = await one.service.start_rollout(engine.head())
        one.source.current = older

        async def reload(*, trusting: bool) -> ReloadResult:
            one.source.current = newer
            return ReloadResult(True, newer, appeared=1)

        monkeypatch.setattr(one.source, "reload", reload, raising=False)
        await one.service.take_up()
        await one.service.finished(view.rollout.id)
        assert (await one.service.rollout(view.rollout.id)).counts == {"succeeded": 2}


async def test_a_frozen_target_is_never_migrated_where_the_registry_moved_it(tmp_path: Path) -> None:
    registry = _registry(tmp_path, 4, max_concurrent=1)
    (tmp_path / "other").mkdir()
    for number in range(4):
        (tmp_path / "other" / f"t{number}.db").touch()
    environments.add_revision(tmp_path / "project", "beta", "alpha", "time.sleep(0.3)")
    async with running(registry) as one:
        view, _ = await one.service.start_rollout(engine.head())
        await one.reaches(view.rollout.id, RolloutState.RUNNING, running=1)
        elsewhere = {"files": replace(registry.shards["files"], url=make_url("sqlite:///other"))}
        one.source.current = replace(registry, shards=elsewhere)
        await one.service.finished(view.rollout.id)
        moved = [m for m in (await one.migrations(view)).values() if m.failure and m.failure.kind == "moved"]
        assert moved
        assert (await one.service.rollout(view.rollout.id)).rollout.state is RolloutState.FAILED
    assert all((tmp_path / "other" / f"t{number}.db").stat().st_size == 0 for number in range(4))
