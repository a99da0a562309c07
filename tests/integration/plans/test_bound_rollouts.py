"""Rollouts that are bound to a plan, on real databases: refused when anything differs, and never more than planned."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator.api.ports import RolloutView
from orchestrator.databases.embedded import Server
from orchestrator.errors import ConfigurationError, HistoryError, PlanChangedError
from orchestrator.events import MigrationFinished, RolloutStateChanged, TargetsAppeared
from orchestrator.registry.model import Registry, Strategy, Target, Track
from orchestrator.rollout.state import EVERY, Direction, Request, RolloutState
from tests import engine, environments
from tests.engine import Engine
from tests.servers import MakeDatabases


@dataclass
class Scene:
    """Tenants t000, t001, … of track `app` (alpha, beta, gamma) on PostgreSQL."""

    pg: Server
    folder: Path
    registry: Registry
    spare: str

    @property
    def versions(self) -> Path:
        return self.folder / "project" / "alembic" / "versions"

    async def heads(self) -> list[str]:
        return [await heads_of(self.pg, target.database) for target in self.registry.targets]


async def heads_of(pg: Server, database: str) -> str:
    there = await engine.fetch(pg, database, "SELECT to_regclass('alembic_version')::text")
    if there == [(None,)]:
        return "nothing"
    rows = await engine.fetch(pg, database, "SELECT version_num FROM alembic_version ORDER BY 1")
    return ",".join(row[0] for row in rows)


@pytest.fixture
async def scene(pg: Server, make_databases: MakeDatabases, tmp_path: Path) -> Scene:
    *databases, spare = await make_databases(4)
    config = environments.make_project(tmp_path / "project")
    environments.add_tables(tmp_path / "project", ["alpha", "beta", "gamma"])
    strategies = {"append": Strategy("append", max_concurrent=1, new_tenants="append")}
    track = environments.track_of(config)
    targets = engine.targets_of(databases)
    registry = engine.registry_of([track], [engine.shard_of(pg)], targets, strategies=strategies, folder=tmp_path)
    return Scene(pg, tmp_path, registry, spare)


@asynccontextmanager
async def running(scene: Scene, **settings: Any) -> AsyncIterator[Engine]:
    async with engine.running(scene.registry, **settings) as made:
        yield made


async def planned(one: Engine, to: str = "head", track: str = "app", **fields: Any) -> str:
    return (await one.service.plan(Request(track, to, **fields))).digest


async def refused(one: Engine, digest: str, to: str = "head", **fields: Any) -> Sequence[str]:
    """What differs; a dry run says the same, and no rollout was made."""
    request = Request("app", to, plan_digest=digest, **fields)
    with pytest.raises(PlanChangedError) as changed:
        await one.service.start_rollout(request)
    with pytest.raises(PlanChangedError) as previewed:
        await one.service.preview(request)
    assert previewed.value.differences == changed.value.differences
    assert all(line in changed.value.message for line in changed.value.differences)
    return changed.value.differences


async def test_what_was_planned_runs(scene: Scene) -> None:
    async with running(scene) as one:
        digest = await planned(one)
        assert [group.steps for group in await one.service.preview(engine.head(plan_digest=digest))] == [
            ("alpha", "beta", "gamma")
        ]
        view = await one.rollout(plan_digest=digest)
        assert (view.counts, view.rollout.request.plan_digest) == ({"succeeded": 3}, digest)
        assert await scene.heads() == ["gamma"] * 3
        found = await one.migrations(view)
        assert [(m.planned and m.planned.steps, m.from_heads) for m in found.values()] == [(3, ())] * 3


async def test_the_second_time_targets_are_no_longer_where_they_were(scene: Scene) -> None:
    async with running(scene) as one:
        digest = await planned(one)
        await one.rollout(plan_digest=digest)
        assert await refused(one, digest) == (
            "steps: 3 targets are no longer without a version table (now at gamma): t000, t001, t002",
        )
        empty = await planned(one)  # nothing to do is a plan as well
        assert (await one.rollout(plan_digest=empty)).counts == {"up_to_date": 3}


async def test_a_tenant_that_came_after_planning_is_named_and_nothing_is_touched(scene: Scene) -> None:
    async with running(scene) as one:
        digest = await planned(one)
        late = Target("acme", "app", "pg", scene.spare)
        one.source.current = replace(scene.registry, digest="later", targets=(late, *scene.registry.targets))
        assert await refused(one, digest) == ("targets: 1 more than planned (acme)",)
        assert await one.service.rollouts() == []
        assert await scene.heads() == ["nothing"] * 3
        assert await heads_of(scene.pg, scene.spare) == "nothing"
        # The digest binds the targets, not the words that select them.
        view = await one.rollout(plan_digest=digest, select="tenant in (t000, t001, t002)")
        assert view.counts == {"succeeded": 3}
        assert await heads_of(scene.pg, scene.spare) == "nothing"


async def test_a_digest_that_is_nowhere_stored_names_the_tenant_too(scene: Scene) -> None:
    async with running(scene) as one:
        digest = await planned(one)
    late = Target("acme", "app", "pg", scene.spare)
    scene.registry = replace(scene.registry, digest="later", targets=(*scene.registry.targets, late))
    async with running(scene) as another:  # its store is another
        assert await refused(another, digest) == ("targets: 1 more than planned (acme)",)


async def test_each_change_is_said(scene: Scene) -> None:
    async with running(scene) as one:
        digest = await planned(one)
        assert await refused(one, digest, select="tenant!=t001") == ("targets: 1 fewer than planned (t001)",)
        assert await refused(one, digest, "beta") == ("goal: gamma was planned for track app, now it is beta",)
        assert (await refused(one, digest, "gamma", direction=Direction.STAMP))[0] == (
            "direction: upgrade was planned, not stamp"
        )
        first, *rest = scene.registry.targets
        moved = replace(first, database=scene.spare)
        one.source.current = replace(scene.registry, digest="moved", targets=(moved, *rest))
        [line] = await refused(one, digest)
        assert line.startswith("targets: 1 elsewhere than planned (t000): t000 was at postgresql://")
        assert line.endswith(f"/{scene.spare} alembic_version")
        one.source.current = scene.registry
        file = scene.versions / "gamma.py"
        before = file.read_text()
        file.write_text(before + "# a word\n")
        assert await refused(one, digest) == ("files: revision files of track app have changed: versions/gamma.py",)
        config = scene.folder / "project" / "alembic.ini"
        text = config.read_text()
        config.write_text(text.replace("[alembic]", "[alembic]\nmine = 1", 1))
        assert await refused(one, digest) == (
            "files: revision files of track app have changed: alembic.ini, versions/gamma.py",
        )
        config.write_text(text)
        environments.add_revision(scene.folder / "project", "delta", "gamma", "pass")
        assert await refused(one, digest) == (
            "goal: gamma was planned for track app, now it is delta",
            "files: revision files of track app have changed: versions/delta.py (new), versions/gamma.py",
        )
        (scene.versions / "delta.py").unlink()
        file.write_text(before)
        await one.rollout("alpha", select="tenant=t002")
        assert await refused(one, digest) == (
            "steps: 1 target is no longer without a version table (now at alpha): t002",
        )
        with pytest.raises(ConfigurationError, match="is not the digest of a plan"):
            await one.service.start_rollout(engine.head(plan_digest="abc"))
        with pytest.raises(ConfigurationError, match="no strategy 'nope'"):
            await one.service.start_rollout(engine.head(plan_digest=digest, strategy="nope"))
        assert len(await one.service.rollouts()) == 1


async def test_modules_that_revisions_and_env_py_import_are_planned_with_them(scene: Scene) -> None:
    project = scene.folder / "project"
    (project / "app").mkdir()
    names, settings, late = (project / "app" / f"{name}.py" for name in ("names", "settings", "late"))
    for file in (names, settings, late):
        file.write_text("TABLE = 'delta'\n")
    (project / "alembic" / "env.py").write_text(
        f"from app import settings\n{(project / 'alembic' / 'env.py').read_text()}"
    )
    body = "from app import late\nop.create_table(names.TABLE, sa.Column('id', sa.Integer))"
    file = environments.add_revision(project, "delta", "gamma", body)
    file.write_text(file.read_text().replace("import asyncio", "from app import names\nimport asyncio"))
    async with running(scene) as one:
        digest = await planned(one)
        for changed in (names, settings):
            before = changed.read_text()
            changed.write_text("TABLE = 'other'\n")
            said = f"files: revision files of track app have changed: app/{changed.name}"
            assert await refused(one, digest) == (said,)
            changed.write_text(before)
        late.write_text("x = 1\n")  # is imported when the revision runs, and nobody knows of it before
        view = await one.rollout(plan_digest=digest)
        assert view.counts == {"succeeded": 3}, view.failures
        names.unlink()
        with pytest.raises(HistoryError, match="names"):
            await planned(one)


async def test_a_repeated_request_gets_its_rollout_although_the_targets_have_moved(scene: Scene) -> None:
    async with running(scene) as one:
        request = engine.head(plan_digest=await planned(one), idempotency_key="release-7")
        views: list[tuple[RolloutView, bool]] = []

        async def start() -> None:
            views.append(await one.service.start_rollout(request))

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(start)
        await one.service.finished(views[0][0].rollout.id)
        await start()
        assert len({view.rollout.id for view, _ in views}) == 1
        assert [made for _, made in views].count(True) == 1


async def test_a_relative_goal_and_a_downgrade_are_bound_as_well(scene: Scene) -> None:
    async with running(scene) as one:
        await one.rollout("alpha")
        digest = await planned(one, "+1")
        assert (await one.rollout("+1", plan_digest=digest)).counts == {"succeeded": 3}
        assert await scene.heads() == ["beta"] * 3
        assert await refused(one, digest, "+1") == (
            "steps: 3 targets are no longer at alpha (now at beta): t000, t001, t002",
        )
        down = await planned(one, "base", direction=Direction.DOWNGRADE)
        view = await one.rollout("base", plan_digest=down, direction=Direction.DOWNGRADE)
        assert view.counts == {"succeeded": 3}
        assert await scene.heads() == [""] * 3
        stamp = await planned(one, "beta", direction=Direction.STAMP)
        view = await one.rollout("beta", plan_digest=stamp, direction=Direction.STAMP)
        assert (view.counts, await scene.heads()) == ({"succeeded": 3}, ["beta"] * 3)


async def test_a_target_that_somebody_moves_off_the_planned_way_is_not_migrated(scene: Scene) -> None:
    """One is taken back by hand, one is brought on: the first is left as it is, the second needs the rest only."""
    async with running(scene) as one:
        await one.rollout("beta", select="tenant!=t002")
        await one.rollout("alpha", select="tenant=t002")
        digest = await planned(one)
        gate = scene.folder / "go"
        async with held(one, gate) as dispatcher:
            view, _ = await one.service.start_rollout(engine.head(plan_digest=digest))
            await dispatcher.wait()
            back, _, on = (target.database for target in scene.registry.targets)
            await engine.execute(scene.pg, back, "DROP TABLE beta", "UPDATE alembic_version SET version_num = 'alpha'")
            await engine.execute(
                scene.pg, on, "CREATE TABLE beta (id int)", "UPDATE alembic_version SET version_num = 'beta'"
            )
            gate.touch()
            await one.service.finished(view.rollout.id)
        view = await one.service.rollout(view.rollout.id)
        assert view.counts == {"succeeded": 2, "failed": 1}
        assert await scene.heads() == ["alpha", "gamma", "gamma"]
        [group] = view.failures
        assert (group.example.kind, group.tenants) == ("unplanned", ("t000",))
        assert "holds alpha, where the rollout found beta" in group.example.message
        assert group.example.remedy == "make a new plan, and start a rollout under its digest"
        # Nor by a retry, however often.
        await one.service.retry(view.rollout.id, by="test")
        await one.service.finished(view.rollout.id)
        assert (await one.service.rollout(view.rollout.id)).counts == {"succeeded": 2, "failed": 1}


@asynccontextmanager
async def held(one: Engine, gate: Path) -> AsyncIterator[anyio.Event]:
    """Hold rollouts back before they read anything, until the file is there; the event says that one waits."""
    dispatcher, waits = one.parts.dispatcher, anyio.Event()
    prepare = dispatcher.prepare

    async def patient(rollout: Any) -> Any:
        waits.set()
        await engine.until(gate.exists)
        return await prepare(rollout)

    dispatcher.prepare = patient  # type: ignore[method-assign]
    try:
        yield waits
    finally:
        dispatcher.prepare = prepare  # type: ignore[method-assign]


async def test_files_that_change_after_the_start_pause_it_with_the_reason(scene: Scene) -> None:
    async with running(scene) as one:
        digest, gate = await planned(one), scene.folder / "go"
        file = scene.versions / "gamma.py"
        before = file.read_text()
        async with held(one, gate) as waits:
            view, _ = await one.service.start_rollout(engine.head(plan_digest=digest))
            await waits.wait()
            file.write_text(before + "# a word\n")
            gate.touch()
            await one.reaches(view.rollout.id, RolloutState.PAUSED)
            paused = (await one.service.rollout(view.rollout.id)).rollout
            assert "no longer those of the plan that the rollout is bound to" in (paused.reason or "")
            assert await scene.heads() == ["nothing"] * 3
            await one.service.resume(view.rollout.id, by="test")  # still not
            await engine.until(lambda: [e.state for e in one.of(RolloutStateChanged)].count("paused") == 2)
            file.write_text(before)
            await one.service.resume(view.rollout.id, by="test")
            await one.service.finished(view.rollout.id)
        assert await scene.heads() == ["gamma"] * 3


async def test_tenants_that_appear_are_left_to_the_next_whatever_the_strategy_says(scene: Scene) -> None:
    async with running(scene) as one:
        digest, gate = await planned(one), scene.folder / "go"
        late = Target("acme", "app", "pg", scene.spare)
        async with held(one, gate) as waits:
            view, _ = await one.service.start_rollout(engine.head(plan_digest=digest, strategy="append"))
            await waits.wait()
            one.source.current = replace(scene.registry, digest="later", targets=(*scene.registry.targets, late))
            gate.touch()
            await one.service.finished(view.rollout.id)
        [appeared] = one.of(TargetsAppeared)
        assert (appeared.appended, appeared.tenants) == (False, ("acme",))
        assert appeared.reason == "the rollout is bound to a plan that does not name them"
        assert (await one.service.rollout(view.rollout.id)).counts == {"succeeded": 3}
        assert await heads_of(scene.pg, scene.spare) == "nothing"


async def test_a_target_that_could_not_be_read_is_in_the_plan_and_nothing_runs_on_it(
    scene: Scene, make_databases: MakeDatabases
) -> None:
    async with running(scene) as one:
        gone = scene.registry.targets[1].database
        await engine.execute(scene.pg, "postgres", f'ALTER DATABASE "{gone}" ALLOW_CONNECTIONS false')
        digest, gate = await planned(one), scene.folder / "go"
        async with held(one, gate) as waits:
            view, _ = await one.service.start_rollout(engine.head(plan_digest=digest))
            await waits.wait()
            await engine.execute(scene.pg, "postgres", f'ALTER DATABASE "{gone}" ALLOW_CONNECTIONS true')
            gate.touch()
            await one.service.finished(view.rollout.id)
        view = await one.service.rollout(view.rollout.id)
        assert view.counts == {"succeeded": 2, "failed": 1}
        assert view.failures[0].example.kind == "unplanned"
        assert "could not be read when the plan was made" in view.failures[0].example.message
        assert await scene.heads() == ["gamma", "nothing", "gamma"]
        assert await refused(one, digest) == (
            "steps: 2 targets are no longer without a version table (now at gamma): t000, t002",
            "steps: 1 target is no longer unreachable (now without a version table): t001",
        )


async def test_a_target_that_was_to_be_left_alone_is_left_alone(scene: Scene) -> None:
    """Its track skipped targets without a version table, and says otherwise by the time it runs."""
    track = scene.registry.tracks["app"]
    skipping = replace(scene.registry, tracks={"app": replace(track, unprovisioned="skip")})
    async with running(scene) as one:
        one.source.current = skipping
        await engine.provision(scene.pg, scene.registry.targets[0].database)
        digest, gate = await planned(one), scene.folder / "go"
        async with held(one, gate) as waits:
            view, _ = await one.service.start_rollout(engine.head(plan_digest=digest))
            await waits.wait()
            await engine.provision(scene.pg, scene.registry.targets[1].database)
            one.source.current = scene.registry
            gate.touch()
            await one.service.finished(view.rollout.id)
        found = await one.migrations(view)
        assert {name: m.failure.kind if m.failure else m.state.value for name, m in found.items()} == {
            "t000": "succeeded",
            "t001": "unplanned",
            "t002": "unplanned",
        }
        assert await scene.heads() == ["gamma", "", "nothing"]
        one.source.current = skipping
        assert (
            await one.rollout(plan_digest=await planned(one, select="tenant=t002"), select="tenant=t002")
        ).counts == {"skipped": 1}


async def test_several_tracks_are_bound_by_one_digest(
    pg: Server, make_databases: MakeDatabases, scene: Scene, tmp_path: Path
) -> None:
    config = environments.make_project(tmp_path / "analytics")
    environments.add_tables(tmp_path / "analytics", ["delta"])
    analytics = environments.track_of(config, "analytics")
    [more] = await make_databases(1, "dw")
    registry = scene.registry
    targets = (*registry.targets, Target("t000", "analytics", "pg", more))
    registry = replace(registry, tracks={**registry.tracks, "analytics": analytics}, targets=targets)
    async with engine.running(registry) as one:
        digest = await planned(one, "*", track=EVERY)
        file = tmp_path / "analytics" / "alembic" / "versions" / "delta.py"
        before = file.read_text()
        file.write_text(before + "# a word\n")
        with pytest.raises(PlanChangedError) as changed:
            await one.service.start_rollout(Request(EVERY, "*", plan_digest=digest))
        assert changed.value.differences == (
            "files: revision files of track analytics have changed: versions/delta.py",
        )
        file.write_text(before)
        assert (await one.rollout("*", track=EVERY, plan_digest=digest)).counts == {"succeeded": 4}
        assert await heads_of(pg, more) == "delta"


async def test_a_bound_rollout_goes_on_after_a_restart_by_its_plan(scene: Scene) -> None:
    url = f"sqlite:///{scene.folder}/store.db"
    async with running(scene, store_url=url) as one:
        digest = await planned(one)
    async with running(scene, store_url=url) as one:  # a plan outlives the daemon that made it
        request = engine.head(plan_digest=digest, max_concurrent=1)
        view, _ = await one.service.start_rollout(request)
        await engine.until(lambda: bool(one.of(MigrationFinished)))
        one.service.drain()
        await one.service.finished(view.rollout.id)
    behind = scene.registry.targets[(await scene.heads()).index("nothing")]
    await engine.execute(
        scene.pg, behind.database, "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)",
        "INSERT INTO alembic_version VALUES ('gamma')",
    )  # fmt: skip
    async with running(scene, store_url=url) as one:
        await one.service.resume_active()
        await one.service.finished(view.rollout.id)
        view = await one.service.rollout(view.rollout.id)
        assert view.rollout.state is RolloutState.SUCCEEDED
        assert view.rollout.request.plan_digest == digest
    assert await scene.heads() == ["gamma"] * 3


async def test_a_rollout_says_what_it_cannot_take_back(scene: Scene) -> None:
    project = scene.folder / "project"
    environments.add_revision(project, "delta", "gamma", "op.execute('SELECT 1')", "raise NotImplementedError")
    environments.add_revision(project, "epsilon", "delta", "op.execute('SELECT 2')")
    async with running(scene) as one:
        lasting = {"delta": "its downgrade only raises NotImplementedError", "epsilon": "its downgrade is empty"}
        plan = await one.service.plan(engine.head())
        assert [dict(group.irreversible) for group in plan.groups] == [lasting]
        assert [dict(group.irreversible) for group in await one.service.preview(engine.head())] == [lasting]
        assert (await one.rollout("gamma")).rollout.irreversible == {}
        assert (await one.rollout("delta")).rollout.irreversible == {"delta": lasting["delta"]}  # as seen before
        view = await one.rollout(plan_digest=await planned(one))
        assert view.rollout.irreversible == {"epsilon": lasting["epsilon"]}


@pytest.mark.parametrize("execution", ["online", "auto"])
async def test_a_digest_is_the_same_on_every_machine_and_after_every_restart(
    scene: Scene, execution: Any, tmp_path: Path
) -> None:
    """Also where revisions go over sets of texts, whose order Python makes up anew for each process, where the registry
    lies elsewhere, and names its tenants in another order."""
    project = scene.folder / "project"
    names = {f"c{number}" for number in range(12)}
    body = f"for name in {names!r}:\n    op.add_column('gamma', sa.Column(name, sa.Integer))"
    environments.add_revision(project, "delta", "gamma", body)
    environments.add_revision(project, "side", "alpha", "op.execute('SELECT 3')")
    environments.add_revision(project, "omega", ("delta", "side"), "pass")
    environments.add_revision(project, "odd", "omega", "raise RuntimeError(object())")  # another reason each time
    environments.use_transaction_per_migration(project)
    (project / "helpers.py").write_text("from env import NAME\n")
    (project / "env.py").write_text("NAME = 'a module that is called like another file'\n")
    env = project / "alembic" / "env.py"
    lead = "import os, sys\nsys.path.insert(0, os.path.dirname(os.path.dirname(__file__)))\nimport helpers\n"
    env.write_text(lead + env.read_text())
    shutil.copytree(project, tmp_path / "else where" / "deeper" / "project")
    moved = tmp_path / "else where" / "deeper" / "project" / "alembic.ini"
    moved.write_text(moved.read_text().replace(str(project), "%(here)s"))
    elsewhere = Track("app", config=moved, execution=execution)
    here = replace(scene.registry.tracks["app"], execution=execution)
    digests = []
    for track, targets in (
        (here, scene.registry.targets),
        (here, tuple(reversed(scene.registry.targets))),
        (elsewhere, scene.registry.targets),
    ):
        registry = replace(scene.registry, tracks={"app": track}, targets=targets)
        async with engine.running(registry) as one:
            plan = await one.service.plan(engine.head())
            digests.append((plan.digest, plan.groups[0].digest))
            assert (plan.groups[0].digest != "") == (execution == "auto")
            history = await one.parts.histories.current(registry, track)
            assert {"helpers.py", "./env.py", "env.py"} <= dict(history.snapshot.contents).keys()
    assert len(set(digests)) == 1


async def test_findings_tell_what_the_sql_does_not(scene: Scene) -> None:
    project = scene.folder / "project"
    environments.use_transaction_per_migration(project)
    create = "op.create_index('i', 'gamma', ['id'], postgresql_concurrently=True)"
    index = f"with op.get_context().autocommit_block():\n    {create}"
    environments.add_revision(project, "delta", "gamma", index, "op.drop_index('i')")
    environments.add_revision(project, "odd", "delta", "op.get_bind().execute(sa.text('SELECT 1'))")
    track = replace(scene.registry.tracks["app"], execution="auto")
    async with engine.running(replace(scene.registry, tracks={"app": track})) as one:
        [group] = (await one.service.plan(engine.head())).groups
    assert [(finding.rule, finding.revision) for finding in group.findings] == [
        ("outside_transaction", "delta"),
        ("irreversible", "odd"),
        ("online", "odd"),
        ("unread", "odd"),
    ]
    assert "CREATE INDEX CONCURRENTLY i ON gamma (id)" in group.findings[0].message
