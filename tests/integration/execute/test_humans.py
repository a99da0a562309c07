"""A person runs `alembic upgrade head` by hand while a rollout is about: every revision is applied once, and whoever
loses is told so, in words."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import anyio
import pytest

from orchestrator.databases.embedded import Server
from orchestrator.events import Event, MigrationRetried, MigrationStarted, RolloutStateChanged
from orchestrator.registry.model import Registry
from orchestrator.rollout.state import Migration
from tests import engine, environments, humans
from tests.crossed import crossed
from tests.engine import until
from tests.servers import MakeDatabases

Way = Literal["online", "replay"]
WAYS = pytest.mark.parametrize("execution", ["online", "replay"])
START, REVISIONS = "start", ["alpha", "beta", "gamma"]
# What a revision does: what two who do it at once trip over, and what they would do twice without a word.
KINDS = {
    "tables": 'op.create_table("{0}", sa.Column("id", sa.Integer, primary_key=True))',
    "rows": "pass",
    "columns": 'op.add_column("kept", sa.Column("{0}", sa.Integer))',
    "indexes": 'op.create_index("ix_{0}", "kept", ["id"])',
    "types": "op.execute(\"CREATE TYPE {0} AS ENUM ('a')\")",
}
# What people who race with a rollout come after; None: they come first.
FOLLOWED = (None, RolloutStateChanged, MigrationStarted)
COUNTED = ("CREATE TABLE applied (revision text)", "CREATE TABLE kept (id int)")


def _project(
    folder: Path, kind: str, *, per_migration: bool = False, pause: float = 0.0, prepares: bool = False
) -> Path:
    """Each revision does something, counts itself, and takes its time; the first one `prepares` where they count.

    Otherwise another was run before them, so that each has a row of the version table to move: the first revision of
    all puts one in, and a person who was to do so too, after the next one has moved it, finds nothing in the way.
    """
    environments.make_project(folder)
    if per_migration:
        environments.use_transaction_per_migration(folder)
    down = None if prepares else START
    if down is not None:
        environments.add_revision(folder, down, None, "pass")
    for name in REVISIONS:
        counted = f"op.execute(\"INSERT INTO applied VALUES ('{name}')\")"
        sleeps = f"op.execute('SELECT pg_sleep({pause})')"
        first = [f"op.execute({text!r})" for text in COUNTED] if down is None else []
        environments.add_revision(folder, name, down, "\n".join([*first, KINDS[kind].format(name), counted, sleeps]))
        down = name
    return folder


def _registry(project: Path, pg: Server, databases: Sequence[str], execution: Way) -> Registry:
    track = replace(environments.track_of(project / "alembic.ini"), execution=execution)
    return engine.registry_of([track], [engine.shard_of(pg)], engine.targets_of(databases))


async def _prepare(pg: Server, *databases: str) -> None:
    for database in databases:
        await engine.provision(pg, database)
        await engine.execute(pg, database, *COUNTED, f"INSERT INTO alembic_version VALUES ('{START}')")


async def _is_right(pg: Server, database: str) -> None:
    counted = await engine.fetch(pg, database, "SELECT revision, count(*) FROM applied GROUP BY 1 ORDER BY 1")
    assert counted == [(name, 1) for name in REVISIONS], f"{database}: {counted}"
    assert await engine.fetch(pg, database, "SELECT version_num FROM alembic_version") == [("gamma",)]


def _told(migrations: dict[str, Migration]) -> str:
    return "\n".join(f"{it.tenant}: {it.state} {it.failure}" for it in migrations.values())


async def _activity(pg: Server, database: str, query: str) -> bool:
    found = await engine.fetch(
        pg,
        "postgres",
        "SELECT 1 FROM pg_stat_activity WHERE datname = $1 AND application_name LIKE $2",
        database,
        query,
    )
    return bool(found)


@crossed(kind=[*KINDS], execution=["online", "replay"])
async def test_a_human_who_is_in_the_middle_finishes_and_the_rollout_finds_it_done(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path, execution: Way, kind: str
) -> None:
    project = _project(tmp_path / "project", kind, pause=0.8)
    taken, free = await make_databases(2)
    await _prepare(pg, taken, free)
    async with engine.running(_registry(project, pg, [taken, free], execution), lock_timeout_seconds=0.5) as running:
        human = humans.upgrading(project, pg, taken)
        try:
            await until(lambda: _activity(pg, taken, "alembic of anna"))
            view = await running.rollout()
        finally:
            code = await human.ended()
        migrations = await running.migrations(view)
        assert {str(it.state) for it in migrations.values()} <= {"succeeded", "up_to_date"}, _told(migrations)
        # Whoever was second says so.
        assert code == 0 or _lost(human.said), human.said
    for database in (taken, free):
        await _is_right(pg, database)


@WAYS
async def test_a_human_who_never_finishes_leaves_the_target_locked_and_the_others_done(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path, execution: Way
) -> None:
    project = _project(tmp_path / "project", "tables", pause=0.0)
    taken, free = await make_databases(2)
    await _prepare(pg, taken, free)
    slow = _project(tmp_path / "slow", "tables", pause=300)
    human = humans.upgrading(slow, pg, taken, fresh=True)
    try:

        async def sleeps() -> bool:
            query = "SELECT 1 FROM pg_stat_activity WHERE datname = $1 AND query LIKE '%pg_sleep(300)%'"
            return bool(await engine.fetch(pg, "postgres", query, taken))

        await until(sleeps)
        limits = {"lock_timeout_seconds": 1.6, "lock_retry_seconds": 4.0}
        async with engine.running(_registry(project, pg, [taken, free], execution), **limits) as running:
            view = await running.rollout()
            migrations = await running.migrations(view)
            assert view.counts == {"succeeded": 1, "locked": 1}, _told(migrations)
            failure = migrations["t000"].failure
            assert failure is not None
            assert "alembic of anna" in failure.message
            assert failure.remedy
            assert 1 <= len(running.of(MigrationRetried)) <= 5
    finally:
        human.process.kill()
        await human.ended()
        query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND application_name = $2"
        await engine.fetch(pg, "postgres", query, taken, "alembic of anna")


@crossed(execution=["online", "replay"], per_migration=[True, False])
async def test_a_human_who_comes_second_does_nothing_twice(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path, execution: Way, per_migration: bool
) -> None:
    project = _project(tmp_path / "project", "rows", per_migration=per_migration, pause=0.6)
    databases = await make_databases(2)
    await _prepare(pg, *databases)
    async with engine.running(_registry(project, pg, databases, execution)) as running:
        view, _ = await running.service.start_rollout(engine.head())

        async def all_at_work() -> bool:
            query = "SELECT count(DISTINCT datname) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(0.6)%'"
            return (await engine.fetch(pg, "postgres", query + " AND datname = ANY($1)", databases)) == [(2,)]

        await until(all_at_work)
        people = [humans.upgrading(project, pg, database) for database in databases]
        codes = [await human.ended() for human in people]
        await running.service.finished(view.rollout.id)
        after = await running.service.rollout(view.rollout.id)
        assert after.counts in ({"succeeded": 2}, {"succeeded": 1, "up_to_date": 1}, {"up_to_date": 2}), after.failures
        for code, human in zip(codes, people, strict=True):
            assert code == 0 or _lost(human.said), human.said
    for database in databases:
        await _is_right(pg, database)


@crossed(execution=["online", "replay"], provisioned=[False, True])
async def test_humans_and_a_rollout_race_again_and_again(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path, execution: Way, provisioned: bool
) -> None:
    """From several moments on, over several tenants, also where there is no version table yet."""
    rounds = int(os.environ.get("SOAK", "0")) * 20 or 3
    chance = random.Random(20)
    for number in range(rounds):
        kind = chance.choice(list(KINDS))
        per_migration, pause = chance.random() < 0.5, chance.choice([0.0, 0.05, 0.3])
        folder = tmp_path / f"project{number}"
        project = _project(folder, kind, per_migration=per_migration, pause=pause, prepares=not provisioned)
        databases = await make_databases(3)
        if provisioned:
            await _prepare(pg, *databases)
        limits = {"lock_timeout_seconds": chance.choice([0.2, 2.0])}
        async with engine.running(_registry(project, pg, databases, execution), **limits) as running:
            head_start, follows = chance.choice([0.0, 0.1, 0.3]), FOLLOWED[number % len(FOLLOWED)]
            people = [] if follows else [humans.upgrading(project, pg, database) for database in databases]
            await anyio.sleep(0.0 if follows else head_start)
            view, _ = await running.service.start_rollout(engine.head())
            if follows:
                await until(partial(_heard, running, follows))
                await anyio.sleep(head_start / 3)
                people = [humans.upgrading(project, pg, database) for database in databases]
            with anyio.fail_after(120):
                await running.service.finished(view.rollout.id)
            codes = [await human.ended() for human in people]
            migrations = await running.migrations(view)
            states = {str(it.state) for it in migrations.values()}
            assert states <= {"succeeded", "up_to_date", "locked"}, f"round {number}, {kind}:\n{_told(migrations)}"
            assert "locked" not in states, _told(migrations)
            for code, human in zip(codes, people, strict=True):
                assert code == 0 or _lost(human.said), human.said
        for database in databases:
            await _is_right(pg, database)


def _heard(running: engine.Engine, what: type[Event]) -> bool:
    return bool(running.of(what))


def _lost(said: str) -> bool:
    """Whether Alembic says what it can know of having been second."""
    return any(text in said for text in ("0 found", "already exists", "deadlock", "duplicate key"))


@WAYS
async def test_our_own_failure_is_still_a_failure(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path, execution: Way
) -> None:
    """What is in the way was there before, and nobody moves the version table."""
    project = _project(tmp_path / "project", "tables")
    (database,) = await make_databases(1)
    await _prepare(pg, database)
    await engine.execute(pg, database, "CREATE TABLE beta (id int)")
    async with engine.running(_registry(project, pg, [database], execution)) as running:
        view = await running.rollout()
        assert view.counts == {"failed": 1}
        failed = (await running.migrations(view))["t000"]
        assert failed.failure is not None
        assert (failed.failure.code, failed.attempts) == ("42P07", 1)
