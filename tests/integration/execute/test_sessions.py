"""What is left on the server when a migration is cut short: nothing, whoever cuts it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest
from sqlalchemy.engine import make_url

from orchestrator.databases import postgresql
from orchestrator.databases.base import Limits, Place
from orchestrator.databases.embedded import EmbeddedServer, Server
from orchestrator.databases.postgresql import PostgreSQL
from orchestrator.databases.sqlite import SQLite
from orchestrator.errors import TargetError, TargetLockedError, TargetUnreachableError
from orchestrator.events import MigrationRetried
from orchestrator.registry.model import Registry, Target
from tests import engine, environments
from tests.engine import until
from tests.processes import frozen
from tests.servers import MakeDatabases, backends

BACKENDS = "SELECT pid FROM pg_stat_activity WHERE datname = $1 AND application_name LIKE $2"


def _place(pg: Server, database: str, **limits: float) -> Place:
    url = make_url(pg.url("postgres")).set(database=database)
    return Place(Target("acme", "app", "pg", database), url, Limits(**limits))


async def _pids(pg: Server, database: str, application: str) -> list[int]:
    return [row[0] for row in await engine.fetch(pg, "postgres", BACKENDS, database, application)]


def _registry(pg: Server, databases: Sequence[str], folder: Path, upgrade: str, isolation: str = "thread") -> Registry:
    config = environments.make_project(folder)
    environments.add_tables(folder, ["alpha"])
    environments.add_revision(folder, "slow", "alpha", upgrade)
    fields: dict[str, Any] = {}
    if isolation == "process":
        environments.read_url_from_environ(folder)
        fields = {"isolation": "process", "environment": {"DATABASE_URL": "{url}"}}
    track = environments.track_of(config, **fields)
    return engine.registry_of([track], [engine.shard_of(pg)], engine.targets_of(databases))


@pytest.mark.parametrize("isolation", ["thread", "process"])
async def test_a_lost_guard_ends_the_migration_before_it_is_tried_again(
    isolation: str, pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    (database,) = await make_databases(1)
    registry = _registry(pg, [database], tmp_path, 'op.execute("SELECT pg_sleep(2)")', isolation)
    async with engine.running(registry) as running, anyio.create_task_group() as tasks:

        async def cut() -> None:
            await until(lambda: _running(pg, database))
            (migrating,) = await _migrating(pg, database)
            (guard,) = await _pids(pg, database, "orchestrator guard%")
            await engine.execute(pg, "postgres", f"SELECT pg_terminate_backend({guard})")
            await until(lambda: bool(running.of(MigrationRetried)))
            assert migrating not in await _migrating(pg, database)

        tasks.start_soon(cut)
        view = await running.rollout()
        assert view.counts == {"succeeded": 1}, view.failures
        assert "lock was lost" in running.of(MigrationRetried)[0].message
    assert await engine.fetch(pg, database, "SELECT count(*) FROM applied") == [(1,)]


async def _migrating(pg: Server, database: str) -> list[int]:
    found = "SELECT pid FROM pg_stat_activity WHERE datname = $1 AND application_name ~ '^orchestrator [0-9a-f]{8} '"
    return [row[0] for row in await engine.fetch(pg, "postgres", found, database)]


async def _running(pg: Server, database: str) -> bool:
    query = "SELECT 1 FROM pg_stat_activity WHERE datname = $1 AND query LIKE 'SELECT pg_sleep%' AND state = 'active'"
    return bool(await engine.fetch(pg, "postgres", query, database))


@pytest.mark.parametrize("isolation", ["thread", "process"])
async def test_a_forced_end_leaves_no_backend_and_no_lock(
    isolation: str, pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    (database,) = await make_databases(1)
    registry = _registry(pg, [database], tmp_path, 'op.execute("SELECT pg_sleep(600)")', isolation)
    with anyio.fail_after(120):
        async with engine.running(registry, shutdown_grace_seconds=0.2) as running:
            await running.service.start_rollout(engine.head())
            await until(lambda: _running(pg, database))
    connection = await asyncpg.connect(pg.url("postgres"))
    try:
        assert await backends(connection, [database]) == []
    finally:
        await connection.close()
    async with PostgreSQL().guard(_place(pg, database, lock_wait=0.0)) as guard:
        assert await guard.heads() is None, "one transaction: rolled back whole"


async def test_what_a_killed_run_left_working_is_ended_before_anything_starts(
    pg: Server, make_databases: MakeDatabases
) -> None:
    (database,) = await make_databases(1)
    place = _place(pg, database)
    async with PostgreSQL().guard(place) as guard:
        name = guard.application_name
    orphan = await asyncpg.connect(pg.url(database), server_settings={"application_name": name})
    orphan.add_termination_listener(lambda _: None)
    async with PostgreSQL().guard(place):
        assert await _pids(pg, database, name) == []
    orphan.terminate()


async def test_a_connection_made_after_the_lock_is_gone_is_refused_by_its_rules(
    pg: Server, make_databases: MakeDatabases
) -> None:
    """A worker that outlived its daemon opens a connection: the guard's lock is what tells."""
    (database,) = await make_databases(1)
    async with PostgreSQL().guard(_place(pg, database)) as guard:
        rules = guard.rules
        (row,) = await engine.fetch(pg, database, rules.query)
        assert rules.mismatch(row) is None
    (row,) = await engine.fetch(pg, database, rules.query)
    assert "lock is no longer held" in str(rules.mismatch(row))


async def test_two_guards_of_one_target_exclude_each_other_and_two_of_one_database_do_not(
    pg: Server, make_databases: MakeDatabases
) -> None:
    (database,) = await make_databases(1)
    place = _place(pg, database, lock_wait=0.2)
    other = Place(Target("acme", "other", "pg", database, version_table="other_version"), place.url, place.limits)
    async with PostgreSQL().guard(place):
        with pytest.raises(TargetLockedError, match="orchestrator guard acme"):
            async with PostgreSQL().guard(place):
                pass
        async with PostgreSQL().guard(other):
            pass


async def test_session_settings_reach_the_connections_of_env_py(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    (database,) = await make_databases(1)
    seen = "INSERT INTO seen SELECT name, setting FROM pg_settings WHERE name IN ('lock_timeout', 'statement_timeout')"
    upgrade = f'op.execute("CREATE TABLE seen (name text, setting text)")\nop.execute("{seen}")'
    registry = _registry(pg, [database], tmp_path, upgrade)
    async with engine.running(registry, lock_timeout_seconds=1.5, statement_timeout_seconds=42) as running:
        assert (await running.rollout()).counts == {"succeeded": 1}
    assert dict(await engine.fetch(pg, database, "SELECT name, setting FROM seen")) == {
        "lock_timeout": "1500",
        "statement_timeout": "42000",
    }


async def test_a_name_that_is_not_there_is_a_target_error_not_a_driver_error(pg: Server) -> None:
    with pytest.raises(TargetError, match="does not exist"):
        await PostgreSQL().read_heads(_place(pg, 'nobody\'s "database"'))


async def _guarded_heads(place: Place) -> object:
    async with PostgreSQL().guard(place) as guard:
        return await guard.heads()


@pytest.mark.parametrize("during", ["read", "guard"])
async def test_a_locked_version_table_is_told_with_who_locks_it(
    during: str, pg: Server, make_databases: MakeDatabases
) -> None:
    (database,) = await make_databases(1)
    place = _place(pg, database, lock_timeout=0.2)
    await engine.execute(pg, database, "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
    holder = await asyncpg.connect(pg.url(database), server_settings={"application_name": "psql of somebody"})
    try:
        async with holder.transaction():
            await holder.execute("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE")
            read = PostgreSQL().read_heads if during == "read" else _guarded_heads
            with anyio.fail_after(60), pytest.raises(TargetLockedError, match=r"is locked by another.*psql of") as told:
                await read(place)
        assert (told.value.code, told.value.retriable) == ("55P03", True)
    finally:
        await holder.close()


async def test_nothing_starts_beside_a_leftover_that_does_not_end(
    pg: Server, make_databases: MakeDatabases, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not isinstance(pg, EmbeddedServer):
        pytest.skip("stops a process of the server")
    (database,) = await make_databases(1)
    place = _place(pg, database)
    async with PostgreSQL().guard(place) as guard:
        name = guard.application_name
    orphan = await asyncpg.connect(pg.url(database), server_settings={"application_name": name})
    backend = orphan.get_server_pid()
    monkeypatch.setattr(postgresql, "_CLEANUP_SECONDS", 0.3)
    with frozen(backend), pytest.raises(TargetLockedError, match=f"do not end.*{backend}"):
        async with PostgreSQL().guard(place):
            pass
    orphan.terminate()
    async with PostgreSQL().guard(place):
        assert await _pids(pg, database, name) == []


async def test_a_frozen_server_does_not_hold_the_guard_for_ever(pg: Server, make_databases: MakeDatabases) -> None:
    if not isinstance(pg, EmbeddedServer):
        pytest.skip("stops a process of the server")
    (database,) = await make_databases(1)
    async with PostgreSQL().guard(_place(pg, database, connect=0.5)) as guard:
        (backend,) = await _pids(pg, database, "orchestrator guard%")
        assert await guard.heads() is None, "what was read with the lock; the next question goes to the server"
        with frozen(backend), anyio.fail_after(60):
            for ask in (guard.blockers([]), guard.blockers([]), guard.heads()):
                with pytest.raises(TargetUnreachableError):
                    await ask


async def test_an_odd_version_table_is_no_server_that_is_down(pg: Server, make_databases: MakeDatabases) -> None:
    (database,) = await make_databases(1)
    await engine.execute(pg, database, "CREATE TABLE alembic_version (version int)")
    with pytest.raises(TargetUnreachableError, match="version_num") as told:
        await PostgreSQL().read_heads(_place(pg, database))
    assert (told.value.kind, told.value.code, told.value.retriable) == ("unusable", "42703", False)


async def test_a_host_that_cannot_be_a_name_is_a_target_error() -> None:
    place = Place(Target("acme", "app", "pg", "x"), make_url("postgresql://u@db..internal/x"), Limits())
    with pytest.raises(TargetUnreachableError) as told:
        await PostgreSQL().read_heads(place)
    assert "host" in str(told.value.remedy)
    assert not told.value.retriable


async def test_a_sqlite_folder_that_takes_no_lock_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "acme.db").touch()
    (tmp_path / ".acme.db.alembic_version.lock").mkdir()
    url = make_url(f"sqlite:///{tmp_path}/acme.db")
    with pytest.raises(TargetUnreachableError, match="cannot use database file") as told:
        async with SQLite().guard(Place(Target("acme", "app", "files", "acme.db"), url, Limits())):
            pass
    assert told.value.kind == "unusable"
    long = url.set(database=f"{tmp_path}/{'x' * 300}")
    with pytest.raises(TargetUnreachableError, match="too long"):
        await SQLite().read_heads(Place(Target("acme", "app", "files", "acme.db"), long, Limits()))


@pytest.mark.parametrize("expected", [False, True])
@pytest.mark.parametrize("rows", [None, [], ["beta", "alpha"]])
async def test_the_heads_are_read_with_the_lock_whatever_was_expected(
    expected: bool, rows: list[str] | None, pg: Server, make_databases: MakeDatabases
) -> None:
    (database,) = await make_databases(1)
    if rows is not None:
        await engine.execute(pg, database, "CREATE TABLE alembic_version (version_num text)")
        await engine.execute(pg, database, *(f"INSERT INTO alembic_version VALUES ('{row}')" for row in rows))
    found = PostgreSQL()
    found._provisioned = expected
    async with found.guard(_place(pg, database)) as guard:
        assert await guard.heads() == (None if rows is None else tuple(sorted(rows)))
        await engine.execute(pg, database, "DROP TABLE IF EXISTS alembic_version")
        assert await guard.heads() is None
    assert found._provisioned is (rows is not None)


async def test_a_version_table_that_somebody_locks_is_told_with_the_holder(
    pg: Server, make_databases: MakeDatabases
) -> None:
    (database,) = await make_databases(1)
    await engine.execute(pg, database, "CREATE TABLE alembic_version (version_num text)")
    human = await asyncpg.connect(pg.url(database), server_settings={"application_name": "a person"})
    try:
        transaction = human.transaction()
        await transaction.start()
        await human.execute("LOCK TABLE alembic_version")
        found = PostgreSQL()
        found._provisioned = True
        with pytest.raises(TargetLockedError, match="a person"):
            async with found.guard(_place(pg, database, lock_timeout=0.1)):
                pass
    finally:
        await human.close()
