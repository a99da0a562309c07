"""Several histories: one rollout over all of them, versions beside each other, branches, and steps up and down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.databases.embedded import Server
from orchestrator.errors import ConfigurationError
from orchestrator.events import MigrationFinished
from orchestrator.registry.model import Registry, Target, Track
from orchestrator.rollout.state import EVERY, Direction, Request
from tests import engine, environments
from tests.engine import Engine
from tests.servers import MakeDatabases


@pytest.fixture
def tracks(tmp_path: Path) -> list[Track]:
    """Two projects of three and of two revisions."""
    made = []
    for name, tables in (("app", ["alpha", "beta", "gamma"]), ("analytics", ["delta", "epsilon"])):
        config = environments.make_project(tmp_path / name)
        environments.add_tables(tmp_path / name, tables)
        made.append(environments.track_of(config, name, version_table="alembic_version_{track}"))
    return made


def _registry(pg: Server, tracks: Sequence[Track], databases: Sequence[str]) -> Registry:
    """A tenant for two databases each: one per track."""
    names = iter(databases)
    targets = [
        Target(f"t{number:03}", track.name, "pg", next(names), version_table=f"alembic_version_{track.name}")
        for number in range(len(databases) // 2)
        for track in tracks
    ]
    return engine.registry_of(tracks, [engine.shard_of(pg)], targets)


async def _heads(pg: Server, registry: Registry) -> dict[str, set[str]]:
    """Of each track, what its targets' version tables hold."""
    found: dict[str, set[str]] = {}
    for target in registry.targets:
        rows = await engine.fetch(pg, target.database, f'SELECT version_num FROM "{target.version_table}"')
        found.setdefault(target.track, set()).add(",".join(sorted(row[0] for row in rows)))
    return found


async def test_one_rollout_brings_every_track_to_its_own_goal(
    pg: Server, make_databases: MakeDatabases, tracks: list[Track]
) -> None:
    tracks[1] = replace(tracks[1], goal="delta")
    registry = _registry(pg, tracks, await make_databases(12))
    async with engine.running(registry) as running:
        groups = await running.service.preview(Request(EVERY, ""))
        assert [(group.track, group.steps, group.count) for group in groups] == [
            ("app", ("alpha", "beta", "gamma"), 6),
            ("analytics", ("delta",), 6),
        ]
        view = await running.rollout("", track=EVERY)
        assert (view.rollout.request.track, view.rollout.request.to) == ("*", "*")
        assert view.counts == {"succeeded": 12}
        assert await _heads(pg, registry) == {"app": {"gamma"}, "analytics": {"delta"}}
        assert (await running.rollout("head", track=EVERY)).counts == {"succeeded": 6, "up_to_date": 6}
        assert (await running.rollout("-1", track=EVERY, direction=Direction.DOWNGRADE)).counts == {"succeeded": 12}
        assert await _heads(pg, registry) == {"app": {"beta"}, "analytics": {"delta"}}
        assert (await running.rollout("+1", track=EVERY)).counts == {"succeeded": 12}
        assert await _heads(pg, registry) == {"app": {"gamma"}, "analytics": {"epsilon"}}
        plan = await running.service.plan(Request(EVERY, "base", direction=Direction.DOWNGRADE))
        assert [(group.track, group.steps) for group in plan.groups] == [
            ("app", ("gamma", "beta", "alpha")),
            ("analytics", ("epsilon", "delta")),
        ]


async def test_a_rollout_over_every_track_goes_on_after_a_restart(
    pg: Server, make_databases: MakeDatabases, tracks: list[Track], tmp_path: Path
) -> None:
    registry = _registry(pg, tracks, await make_databases(8))
    url = f"sqlite:///{tmp_path}/store.db"
    async with engine.running(registry, store_url=url) as running:
        view, _ = await running.service.start_rollout(Request(EVERY, "head", max_concurrent=1))
        await engine.until(lambda: bool(running.of(MigrationFinished)))
        running.service.drain()
        await running.service.finished(view.rollout.id)
        aims = (await running.service.rollout(view.rollout.id)).rollout.aims
    async with engine.running(registry, store_url=url) as running:
        assert (await running.service.rollout(view.rollout.id)).rollout.aims == aims
        await running.service.resume_active()
        await running.service.finished(view.rollout.id)
        assert (await running.service.rollout(view.rollout.id)).counts == {"succeeded": 8}
    assert await _heads(pg, registry) == {"app": {"gamma"}, "analytics": {"epsilon"}}


async def test_a_goal_that_one_of_the_tracks_has_not_is_refused_before_anything_runs(
    pg: Server, make_databases: MakeDatabases, tracks: list[Track]
) -> None:
    registry = _registry(pg, tracks, await make_databases(2))
    async with engine.running(registry) as running:
        with pytest.raises(ConfigurationError, match="track 'analytics': there is no revision 'beta'"):
            await running.rollout("beta", track=EVERY)
        assert (await running.rollout("beta", track=EVERY, select="track=app")).counts == {"succeeded": 1}


async def test_versions_of_several_databases_beside_each_other(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    """One script folder, `versions/db1` and `versions/db2`, told apart by sections of alembic.ini as with `-n db1`."""
    config = environments.make_project(tmp_path)
    versions = tmp_path / "alembic" / "versions"
    for name in ("db1", "db2"):
        file = environments.add_revision(
            tmp_path, f"{name}one", None, f'op.create_table("{name}", sa.Column("id", sa.Integer))'
        )
        (versions / name).mkdir()
        file.rename(versions / name / file.name)
    sections = "".join(
        f"\n[{name}]\nscript_location = %(here)s/alembic\nversion_locations = %(here)s/alembic/versions/{name}\n"
        for name in ("db1", "db2")
    )
    config.write_text(config.read_text() + sections)
    tracks = [environments.track_of(config, name, section=name) for name in ("db1", "db2")]
    databases = await make_databases(6)
    targets = [Target(f"t{n}", f"db{n % 2 + 1}", "pg", database) for n, database in enumerate(databases)]
    async with engine.running(engine.registry_of(tracks, [engine.shard_of(pg)], targets)) as running:
        assert (await running.rollout("head", track=EVERY)).counts == {"succeeded": 6}
    for target in targets:
        rows = await engine.fetch(
            pg, target.database, "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'"
        )
        assert {row[0] for row in rows} == {"alembic_version", target.track}


async def test_branches_labels_dependencies_and_merges(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    config = environments.make_project(tmp_path)

    def add(revision: str, down: str | tuple[str, ...] | None, **options: str) -> None:
        upgrade = f'op.create_table("{revision}", sa.Column("id", sa.Integer))'
        environments.add_revision(tmp_path, revision, down, upgrade, f'op.drop_table("{revision}")', **options)

    add("one", None)
    add("two", "one")
    add("three", "two", label="main")
    add("four", "three")
    add("r1", "two", label="reporting")
    add("r2", "r1")
    add("x1", None, label="extra")
    add("x2", "x1", depends_on="three")
    targets = engine.targets_of(await make_databases(3))
    registry = engine.registry_of([environments.track_of(config)], [engine.shard_of(pg)], targets)

    async def heads(running: Engine) -> set[str]:
        return (await _heads(pg, registry))["app"]

    async with engine.running(registry) as running:
        assert (await running.rollout("reporting@head")).counts == {"succeeded": 3}
        assert await heads(running) == {"r2"}
        assert (await running.rollout("extra@head")).counts == {"succeeded": 3}
        assert await heads(running) == {"r2,x2"}, "x2 brought three with it, and stands for it"
        assert (await running.rollout("reporting@-1", direction=Direction.DOWNGRADE)).counts == {"succeeded": 3}
        assert await heads(running) == {"r1,x2"}
        assert (await running.rollout("reporting@+1")).counts == {"succeeded": 3}
        failed = await running.rollout("-1", direction=Direction.DOWNGRADE)
        assert failed.counts == {"failed": 3}
        [group] = failed.failures
        assert "'-1' is ambiguous: the target has 2 heads, r2, x2" in group.example.message
        assert (await running.rollout("extra@base", direction=Direction.DOWNGRADE)).counts == {"succeeded": 3}
        assert await heads(running) == {"r2,three"}
        assert (await running.rollout("heads")).counts == {"succeeded": 3}
        add("merge", ("four", "r2", "x2"))
        assert (await running.rollout("head")).counts == {"succeeded": 3}
        assert await heads(running) == {"merge"}
        assert (await running.rollout("base", direction=Direction.DOWNGRADE)).counts == {"succeeded": 3}
        assert await heads(running) == {""}


async def test_branches_are_compiled_and_replayed_step_by_step(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    """One branch is taken down beside another; one of its revisions must run through env.py."""
    config = environments.make_project(tmp_path)
    environments.use_transaction_per_migration(tmp_path)
    for revision, down, label in (("one", None, None), ("two", "one", "main"), ("r1", "one", "reporting")):
        upgrade = f'op.create_table("{revision}", sa.Column("id", sa.Integer))'
        environments.add_revision(tmp_path, revision, down, upgrade, f'op.drop_table("{revision}")', label=label)
    asks = "assert op.get_bind().scalar(sa.text('SELECT count(*) FROM one')) == 0"
    environments.add_revision(tmp_path, "r2", "r1", asks, asks)
    targets = engine.targets_of(await make_databases(6))
    track = environments.track_of(config, execution="auto")
    registry = engine.registry_of([track], [engine.shard_of(pg)], targets)
    async with engine.running(registry) as running:
        assert (await running.rollout("heads")).counts == {"succeeded": 6}
        request = Request("app", "reporting@-2", direction=Direction.DOWNGRADE)
        [group] = (await running.service.plan(request)).groups
        assert (group.steps, set(group.online)) == (("r2", "r1"), {"r2"})
        view = await running.rollout("reporting@-2", direction=Direction.DOWNGRADE)
        assert view.counts == {"succeeded": 6}
        assert view.executions["mixed"] >= 2, "proved on the first, then replayed"
        assert (await _heads(pg, registry))["app"] == {"two"}
