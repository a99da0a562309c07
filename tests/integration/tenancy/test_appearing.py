"""Targets that appear while a rollout runs: left to the next one, or taken in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.databases.embedded import Server
from orchestrator.events import MigrationStarted, RolloutStateChanged, TargetsAppeared
from orchestrator.registry.model import NewTenants, Strategy, Target, Track, Unprovisioned
from orchestrator.registry.source import ReloadResult
from orchestrator.rollout.state import Direction, Request
from tests import engine, environments
from tests.servers import MakeDatabases


@pytest.fixture
def track(tmp_path: Path) -> Track:
    """One revision that takes a moment."""
    config = environments.make_project(tmp_path / "project")
    environments.add_tables(tmp_path / "project", ["alpha"], before_each="time.sleep(0.5)")
    return environments.track_of(config)


@pytest.mark.parametrize(
    ("policy", "unprovisioned", "counts"),
    [
        ("ignore", "migrate", {"succeeded": 3}),
        ("append", "migrate", {"succeeded": 5}),
        ("append", "skip", {"succeeded": 3, "skipped": 2}),
    ],
)
async def test_targets_that_appear_follow_the_policies(
    pg: Server,
    make_databases: MakeDatabases,
    track: Track,
    policy: NewTenants,
    unprovisioned: Unprovisioned,
    counts: dict[str, int],
) -> None:
    first, late = await make_databases(3, "first"), await make_databases(3, "late")
    strategies = {"s": Strategy("s", max_concurrent=1, new_tenants=policy)}
    registry = engine.registry_of([track], [engine.shard_of(pg)], engine.targets_of(first), strategies=strategies)
    async with engine.running(registry) as running:
        await running.rollout()
        await running.rollout("base", direction=Direction.DOWNGRADE)  # these have a version table
        made = replace(track, unprovisioned=unprovisioned)
        registry = replace(registry, tracks={"app": made})
        running.source.current = registry
        running.events.clear()
        view, _ = await running.service.start_rollout(Request("app", "head", strategy="s", select="!other"))
        await engine.until(lambda: any(event.state == "running" for event in running.of(RolloutStateChanged)))
        appeared = [
            Target("late0", "app", "pg", late[0]),
            Target("late1", "app", "pg", late[1]),
            Target("late2", "app", "pg", late[2], labels={"other": "true"}),
        ]
        running.source.current = replace(registry, digest="later", targets=(*registry.targets, *appeared))
        for _ in range(3):  # sources that answer at once, say
            running.service.registry_read(ReloadResult(True, running.source.current))
        await running.service.finished(view.rollout.id)
        ended = await running.service.rollout(view.rollout.id)
        assert ended.counts == counts
        assert ended.rollout.total == sum(counts.values())
        assert ended.rollout.state.value == "succeeded"
        [event] = running.of(TargetsAppeared)
        assert (event.appended, event.count, event.tenants) == (policy == "append", 2, ("late0", "late1"))
        stored = [event.name for event in await running.service.events(view.rollout.id)]
        assert stored.count("TargetsAppeared") == 1, "recorded with the rollout"
        again = await running.rollout(select="!other")
        assert sum(again.counts.values()) == 5, "the next rollout takes them"


async def test_a_target_that_another_rollout_holds_is_not_taken_in(
    pg: Server, make_databases: MakeDatabases, track: Track, tmp_path: Path
) -> None:
    waits = f"while not os.path.exists({str(tmp_path / 'go on')!r}):\n    time.sleep(0.02)"
    environments.add_revision(tmp_path / "project", "beta", "alpha", waits)
    databases = await make_databases(2)
    strategies = {"s": Strategy("s", new_tenants="append")}
    targets = [Target(f"t{n}", "app", "pg", name, labels={"n": str(n)}) for n, name in enumerate(databases)]
    registry = engine.registry_of([track], [engine.shard_of(pg)], targets, strategies=strategies)
    async with engine.running(registry) as running:
        other, _ = await running.service.start_rollout(Request("app", "head", select="n=1"))
        await engine.until(lambda: len(running.of(MigrationStarted)) == 1)
        running.source.current = replace(registry, targets=(targets[0],))
        first, _ = await running.service.start_rollout(Request("app", "head", strategy="s"))
        await engine.until(lambda: len(running.of(MigrationStarted)) == 2)
        running.source.current = registry
        running.service.registry_read(ReloadResult(True, running.source.current))
        await engine.until(lambda: bool(running.of(TargetsAppeared)))
        [event] = running.of(TargetsAppeared)
        assert not event.appended
        assert f"rollout {other.rollout.id} is active and holds t1/app" in str(event.reason)
        (tmp_path / "go on").touch()
        for view in (first, other):
            await running.service.finished(view.rollout.id)
            assert (await running.service.rollout(view.rollout.id)).counts == {"succeeded": 1}


async def test_what_appears_while_nobody_carries_the_rollout_out_is_not_forgotten(
    pg: Server, make_databases: MakeDatabases, track: Track, tmp_path: Path
) -> None:
    strategies = {"s": Strategy("s", new_tenants="append")}
    targets = engine.targets_of(await make_databases(3))
    registry = engine.registry_of([track], [engine.shard_of(pg)], targets[:2], strategies=strategies)
    store = f"sqlite:///{tmp_path}/store.db"
    async with engine.running(registry, store_url=store) as running:
        request = Request("app", "head", strategy="s", max_concurrent=1)
        view, _ = await running.service.start_rollout(request)
        await engine.until(lambda: len(running.of(MigrationStarted)) == 1)
        running.service.drain()
        await running.service.finished(view.rollout.id)
    async with engine.running(replace(registry, targets=tuple(targets)), store_url=store) as running:
        await running.service.resume_active()
        await running.service.finished(view.rollout.id)
        assert (await running.service.rollout(view.rollout.id)).counts == {"succeeded": 3}
