"""Backups of PostgreSQL targets before they are changed: real dumps, restored again, and every way to fail."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest
from sqlalchemy.engine import make_url

from orchestrator.databases import tools
from orchestrator.databases.embedded import Server
from orchestrator.databases.quoting import quoted
from orchestrator.events import BackupFailed, BackupTaken, MigrationRetried
from orchestrator.registry.model import Registry, Target
from orchestrator.registry.precautions import Backup
from orchestrator.rollout.state import Direction
from tests import engine, environments
from tests.backups import STRATEGY, commands, failure, whole, with_backup
from tests.engine import until
from tests.servers import MakeDatabases, backends

BETA = 'op.execute("UPDATE alpha SET id = id + 100")\nop.add_column("alpha", sa.Column("more", sa.Text))'


def _project(folder: Path, upgrade: str = BETA) -> Path:
    config = environments.make_project(folder)
    environments.add_tables(folder, ["alpha"])
    environments.add_revision(folder, "beta", "alpha", upgrade, 'op.drop_column("alpha", "more")')
    return config


def _registry(
    pg: Server, databases: list[str], folder: Path, backup: Backup | None, upgrade: str = BETA, **track: Any
) -> Registry:
    config = _project(folder / "project", upgrade)
    registry = engine.registry_of(
        [environments.track_of(config, **track)], [engine.shard_of(pg)], engine.targets_of(databases), folder=folder
    )
    return with_backup(registry, backup)


async def _at_alpha(pg: Server, *databases: str) -> None:
    for database in databases:
        await engine.provision(pg, database)
        await engine.execute(
            pg,
            database,
            "INSERT INTO alembic_version VALUES ('alpha')",
            "CREATE TABLE alpha (id integer PRIMARY KEY)",
            "INSERT INTO alpha SELECT generate_series(1, 3)",
        )


async def _untouched(pg: Server, database: str) -> bool:
    heads = await engine.fetch(pg, database, "SELECT version_num FROM alembic_version")
    columns = await engine.fetch(
        pg, database, "SELECT column_name FROM information_schema.columns WHERE table_name = 'alpha'"
    )
    ids = await engine.fetch(pg, database, "SELECT id FROM alpha ORDER BY id")
    return heads == [("alpha",)] and columns == [("id",)] and ids == [(1,), (2,), (3,)]


async def _restored(pg: Server, file: Path, database: str) -> None:
    def run() -> None:
        program = tools.pg_dump(12).with_name("pg_restore")
        done = subprocess.run(
            [program, "--exit-on-error", "--no-owner", "-d", pg.url(database), file], capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr

    await anyio.to_thread.run_sync(run)


def _listed(file: Path) -> list[str]:
    command: list[str | Path] = [tools.pg_dump(12).with_name("pg_restore"), "--list", file]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.parametrize("execution", ["online", "replay"])
async def test_a_backup_holds_what_was_there_before_and_can_be_restored(
    execution: str, pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    *databases, empty = await make_databases(4)
    await _at_alpha(pg, *databases)
    registry = _registry(pg, databases, tmp_path, Backup(tmp_path / "kept" / "here"), execution=execution)
    async with engine.running(registry) as running:
        view = await running.rollout(strategy=STRATEGY)
        assert view.counts == {"succeeded": 3}, view.failures
        taken = running.of(BackupTaken)
        assert {event.tenant for event in taken} == {"t000", "t001", "t002"}
        stored = [event for event in await running.service.events(view.rollout.id) if event.name == "BackupTaken"]
        assert len(stored) == 3
        metrics, _ = running.parts.metrics.render()
        assert b'orchestrator_backups_total{result="taken",shard="pg"} 3.0' in metrics
        assert b'orchestrator_backups_total{result="failed",shard="pg"} 0.0' in metrics
    found = whole(tmp_path / "kept" / "here")
    assert sorted(str(one.file) for one in found) == sorted(event.path for event in taken)
    assert [one.about["heads"] for one in found] == [["alpha"]] * 3
    assert stat.S_IMODE(found[0].file.stat().st_mode) == 0o600
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "kept").rglob("*") if path.is_dir()} == {0o700}
    one = next(one for one in found if one.about["tenant"] == "t001")
    assert one.about["bytes"] == one.file.stat().st_size
    await _restored(pg, one.file, empty)
    assert await _untouched(pg, empty)
    assert not await _untouched(pg, databases[1])


async def test_a_target_at_the_goal_is_not_backed_up(pg: Server, make_databases: MakeDatabases, tmp_path: Path) -> None:
    databases = await make_databases(1)
    async with engine.running(_registry(pg, databases, tmp_path, Backup(tmp_path / "kept"))) as running:
        assert (await running.rollout()).counts == {"succeeded": 1}
        assert (await running.rollout(strategy=STRATEGY)).counts == {"up_to_date": 1}
        assert running.of(BackupTaken) == []
    assert not (tmp_path / "kept").exists()


ODD = ['O\'Neil & "Söhne" <x>', "../../etc", "a/b", "a_b", "n" * 200, ".hidden", "-rf", "東京 🐘", "per%cent $(id)"]


async def test_odd_names_of_tenants_and_databases_and_schemas(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    (token,) = await make_databases(1)
    name = f"{token} host=evil \"x' $1"
    schemas = ['O"Neil.*', "%s", "a.b", "ünï $x$ ?"]
    await engine.execute(pg, "postgres", f"CREATE DATABASE {quoted(name)}")
    try:
        for schema in schemas:
            await engine.execute(pg, name, f"CREATE SCHEMA {quoted(schema)}", f"CREATE TABLE {quoted(schema)}.old ()")
        config = _project(tmp_path / "project", 'op.create_table("beta", sa.Column("id", sa.Integer))')
        targets = [Target(ODD[number], "app", "pg", name, schema) for number, schema in enumerate(schemas)]
        targets = [replace(target, adopt="alpha") for target in targets]
        targets += [
            Target(odd, "app", "pg", name, f"s{number}", create_schema=True) for number, odd in enumerate(ODD[4:])
        ]
        registry = engine.registry_of([environments.track_of(config)], [engine.shard_of(pg)], targets, folder=tmp_path)
        registry = with_backup(registry, Backup(tmp_path / "kept", keep=1))
        async with engine.running(registry) as running:
            view = await running.rollout(strategy=STRATEGY)
            assert view.counts == {"succeeded": len(ODD)}, view.failures
        found = whole(tmp_path / "kept")
        # Nothing is there yet of those whose schema was made just now.
        assert sorted(one.about["tenant"] for one in found) == sorted(ODD[:4])
        for one in found:
            tables = [line for line in _listed(one.file) if " TABLE " in line and " TABLE DATA " not in line]
            schema = schemas[ODD.index(one.about["tenant"])]
            assert len(tables) == 1
            assert f" TABLE {schema} old " in tables[0], "its own schema's, from before it was stamped"
            assert one.about["heads"] is None
            assert one.file.resolve().is_relative_to((tmp_path / "kept").resolve())
    finally:
        await engine.execute(pg, "postgres", f"DROP DATABASE {quoted(name)} WITH (FORCE)")


async def test_what_is_adopted_is_backed_up_before_it_is_stamped(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    database, empty = await make_databases(2)
    await engine.execute(pg, database, "CREATE TABLE alpha (id integer PRIMARY KEY)", "INSERT INTO alpha VALUES (1)")
    registry = _registry(pg, [database], tmp_path, Backup(tmp_path / "kept"))
    registry = replace(registry, targets=tuple(replace(one, adopt="alpha") for one in registry.targets))
    async with engine.running(registry) as running:
        assert (await running.rollout(strategy=STRATEGY)).counts == {"succeeded": 1}
    (one,) = whole(tmp_path / "kept")
    await _restored(pg, one.file, empty)
    names = await engine.fetch(pg, empty, "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'")
    assert names == [("alpha",)]


@contextmanager
def _programs(folder: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> Iterator[Path]:
    """Stand-ins for pg_dump and pg_restore; `{real}` in a script is the real pg_dump."""
    real = tools.pg_dump(12)
    folder.mkdir(exist_ok=True)
    for name in ("pg_dump", "pg_restore"):
        body = scripts.get(name, f'exec {real.with_name(name)} "$@"')
        version = f'[ "$1" = --version ] && exec {real.with_name(name)} --version\n'
        script = folder / name
        script.write_text(
            f"#!/bin/sh\n{version if '--version' not in body else ''}{body.replace('{real}', str(real))}\n"
        )
        script.chmod(0o755)
    monkeypatch.setenv("ORCHESTRATOR_PG_BIN", str(folder))
    yield folder


NO_SPACE = "echo 'pg_dump: error: could not write: No space left on device' >&2; exit 1"
BROKEN: dict[str, tuple[dict[str, str], str]] = {
    "the disk is full": ({"pg_dump": f"head -c 100 /dev/zero; {NO_SPACE}"}, "No space left on device"),
    "it is too old": (
        {"pg_dump": "echo 'pg_dump (PostgreSQL) 9.6.1' # --version"},
        "there is no pg_dump for PostgreSQL",
    ),
    "it wrote nothing": ({"pg_dump": "exit 0"}, "it is empty"),
    "it wrote nonsense": ({"pg_dump": "echo nonsense"}, "pg_restore --list ended with code 1"),
    "it crashed": ({"pg_dump": "kill -SEGV $$"}, "pg_dump ended with signal 11"),
    "it is of something else": (
        {"pg_dump": '{real} "$@" --exclude-table=alembic_version'},
        "does not list the version table",
    ),
    "it says the password": ({"pg_dump": 'echo "pw $PGPASSWORD" >&2; exit 3'}, "pw ***"),
    "it takes too long": ({"pg_dump": "sleep 600 & wait"}, "it took longer than 1 s"),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_target_whose_backup_fails_is_not_touched(
    name: str, pg: Server, make_databases: MakeDatabases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (database,) = await make_databases(1)
    await _at_alpha(pg, database)
    scripts, expected = BROKEN[name]
    deadline = 1.0 if "too long" in name else 60.0
    registry = _registry(pg, [database], tmp_path, Backup(tmp_path / "kept", deadline_seconds=deadline))
    with _programs(tmp_path / "bin", monkeypatch, **scripts):
        async with engine.running(registry) as running:
            failed = await failure(running)
            assert (failed.kind, expected in failed.message) == ("backup", True), failed.message
            assert "the target was not touched" in failed.message
            assert failed.remedy
            (told,) = running.of(BackupFailed)
            assert told.message == failed.message
            assert running.of(MigrationRetried) == []
            assert b'orchestrator_backups_total{result="failed",shard="pg"} 1.0' in running.parts.metrics.render()[0]
    assert await _untouched(pg, database)
    assert whole(tmp_path / "kept") == [] if (tmp_path / "kept").exists() else True
    await until(lambda: commands("sleep 600") == [])


async def test_a_directory_that_cannot_be_made_or_written(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    (database,) = await make_databases(1)
    await _at_alpha(pg, database)
    (tmp_path / "file").touch()
    async with engine.running(_registry(pg, [database], tmp_path, Backup(tmp_path / "file" / "below"))) as running:
        failed = await failure(running)
    assert failed.kind == "backup"
    assert f"File exists {tmp_path / 'file'}" in failed.message
    assert await _untouched(pg, database)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


async def test_a_file_system_without_room(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path, small_disk: Path
) -> None:
    (database,) = await make_databases(1)
    await _at_alpha(pg, database)
    much = "CREATE TABLE much AS SELECT md5(n::text) AS text FROM generate_series(1, 50000) n"
    await engine.execute(pg, database, much)
    async with engine.running(_registry(pg, [database], tmp_path, Backup(small_disk))) as running:
        failed = await failure(running)
        assert (failed.kind, "No space left" in failed.message) == ("backup", True), failed.message
    assert whole(small_disk) == []
    assert await _untouched(pg, database)


async def test_a_strategy_or_wave_that_is_gone_leaves_the_target_alone(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    databases = await make_databases(2)
    await _at_alpha(pg, *databases)
    backup = Backup(
        command='echo "$ORCHESTRATOR_TENANT" >> told; while [ ! -e go ]; do sleep 0.02; done', concurrency=1
    )
    registry = _registry(pg, databases, tmp_path, backup)
    async with engine.running(registry) as running:
        view, _ = await running.service.start_rollout(engine.head(strategy=STRATEGY, max_concurrent=1))
        await until((tmp_path / "told").exists)
        assert running.parts.metrics.of_rollouts.backing_up() == {view.rollout.id: 1}
        running.source.current = replace(registry, strategies={})
        (tmp_path / "go").touch()
        await running.service.finished(view.rollout.id)
        migrations = await running.migrations(await running.service.rollout(view.rollout.id))
        assert running.parts.metrics.of_rollouts.backing_up() == {}
    assert sorted(one.state.value for one in migrations.values()) == ["failed", "succeeded"]
    (left,) = [one for one in migrations.values() if one.failure is not None]
    assert left.failure is not None
    assert (left.failure.kind, "'careful' is no longer in the registry" in left.failure.message) == ("backup", True)
    assert await _untouched(pg, databases[left.position])


async def test_dumps_are_made_a_few_at_a_time(pg: Server, make_databases: MakeDatabases, tmp_path: Path) -> None:
    databases = await make_databases(8)
    await _at_alpha(pg, *databases)
    count = """
        echo + >> turns
        [ "$(ls -d run.* 2>/dev/null | wc -l)" -lt 2 ] || touch many
        mkdir run.$$ && sleep 0.1 && rmdir run.$$
    """
    registry = _registry(pg, databases, tmp_path, Backup(command=count, concurrency=2))
    async with engine.running(registry) as running:
        assert (await running.rollout(strategy=STRATEGY)).counts == {"succeeded": 8}
    assert not (tmp_path / "many").exists()
    assert (tmp_path / "turns").read_text().count("+") == 8


async def test_the_last_ones_are_kept(pg: Server, make_databases: MakeDatabases, tmp_path: Path) -> None:
    databases = await make_databases(2)
    async with engine.running(_registry(pg, databases, tmp_path, Backup(tmp_path / "kept", keep=2))) as running:
        rollouts = []
        for direction, to in [("upgrade", "alpha"), ("upgrade", "head"), ("downgrade", "alpha"), ("upgrade", "head")]:
            view = await running.rollout(to, strategy=STRATEGY, direction=Direction(direction))
            assert view.counts == {"succeeded": 2}, view.failures
            rollouts.append(view.rollout.id)
    found = whole(tmp_path / "kept")
    for tenant in ("t000", "t001"):
        mine = [one.about for one in found if one.about["tenant"] == tenant]
        assert [one["rollout"] for one in mine] == rollouts[2:]
        assert [(one["direction"], one["heads"]) for one in mine] == [("downgrade", ["beta"]), ("upgrade", ["alpha"])]


async def test_a_retry_keeps_the_backup_from_before_the_first_change(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    database, empty = await make_databases(2)
    await _at_alpha(pg, database)
    half = """
    with op.get_context().autocommit_block():
        op.execute("UPDATE alpha SET id = -id")
    op.execute("SELECT 1/0")
    """
    registry = _registry(pg, [database], tmp_path, Backup(tmp_path / "kept", keep=1), half)
    async with engine.running(registry) as running:
        view = await running.rollout(strategy=STRATEGY)
        assert view.counts == {"failed": 1}
        assert not await _untouched(pg, database), "half of it stays"
        await running.service.retry(view.rollout.id, by="test")
        await running.service.finished(view.rollout.id)
        assert len(running.of(BackupTaken)) == 2, "its heads are as they were: a person's retry takes a further one"
    first = min(whole(tmp_path / "kept"), key=lambda kept: kept.file.parent.name)
    await _restored(pg, first.file, empty)
    assert await _untouched(pg, empty)


async def _dumping(pg: Server, database: str) -> bool:
    found = (
        "SELECT 1 FROM pg_stat_activity WHERE datname = $1 AND query LIKE 'LOCK TABLE%' AND wait_event_type = 'Lock'"
    )
    return bool(await engine.fetch(pg, "postgres", found, database))


async def test_a_forced_end_in_the_middle_of_a_dump_leaves_nothing_behind(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    (database,) = await make_databases(1)
    await _at_alpha(pg, database)
    registry = _registry(pg, [database], tmp_path, Backup(tmp_path / "kept"))
    async with engine.locked_table(pg, database, "alpha"):
        with anyio.fail_after(120):
            async with engine.running(registry, shutdown_grace_seconds=0.2, lock_wait_seconds=600) as running:
                await running.service.start_rollout(engine.head(strategy=STRATEGY))
                await until(lambda: _dumping(pg, database))
                assert list((tmp_path / "kept").rglob(".partial-*"))
                password = make_url(pg.url(database)).password
                assert password
                assert any("pg_dump" in line for line in commands())
                assert not any(password in line for line in commands())
        assert whole(tmp_path / "kept") == []

        async def only_the_holder() -> bool:
            connection = await asyncpg.connect(pg.url("postgres"))
            try:
                return len(await backends(connection, [database])) == 1
            finally:
                await connection.close()

        await until(only_the_holder)
    assert await _untouched(pg, database)


async def test_a_dump_that_waits_for_a_lock_is_tried_again(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    (database,) = await make_databases(1)
    await _at_alpha(pg, database)
    registry = _registry(pg, [database], tmp_path, Backup(tmp_path / "kept"))
    async with engine.running(registry, lock_wait_seconds=0.3) as running:
        async with engine.locked_table(pg, database, "alpha"):
            view, _ = await running.service.start_rollout(engine.head(strategy=STRATEGY))
            await until(lambda: bool(running.of(MigrationRetried)))
        await running.service.finished(view.rollout.id)
        assert (await running.service.rollout(view.rollout.id)).counts == {"succeeded": 1}
        assert running.of(BackupFailed)[0].message.startswith("the backup failed: pg_dump ended with code 1")
    assert len(whole(tmp_path / "kept")) == 1


async def test_a_lost_guard_ends_the_dump(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (database,) = await make_databases(1)
    await _at_alpha(pg, database)
    registry = _registry(pg, [database], tmp_path, Backup(tmp_path / "kept"))
    wait = f'if [ -e {tmp_path}/go ]; then exec {{real}} "$@"; fi; touch {tmp_path}/begun; exec sleep 601'
    with _programs(tmp_path / "bin", monkeypatch, pg_dump=wait):
        async with engine.running(registry) as running:
            view, _ = await running.service.start_rollout(engine.head(strategy=STRATEGY))
            await until((tmp_path / "begun").exists)
            (tmp_path / "go").touch()
            cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1"
            await engine.fetch(pg, "postgres", cut, database)
            await running.service.finished(view.rollout.id)
            assert (await running.service.rollout(view.rollout.id)).counts == {"succeeded": 1}
            assert "lock was lost while it was backed up" in running.of(MigrationRetried)[0].message
            await until(lambda: commands("sleep 601") == [])
    assert len(whole(tmp_path / "kept")) == 1


async def test_a_dump_of_another_server_is_no_backup(
    pg: Server,
    pg2: Server,
    make_databases: MakeDatabases,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (database,) = await make_databases(1)
    await _at_alpha(pg, database)
    other = pg2.url("postgres")
    registry = _registry(pg, [database], tmp_path, Backup(tmp_path / "kept"))
    with _programs(tmp_path / "bin", monkeypatch, pg_dump=f'exec {{real}} "$@" --dbname={other}'):
        async with engine.running(registry) as running:
            failed = await failure(running)
            assert "snapshot" in failed.message
    assert await _untouched(pg, database)


async def test_commands_of_the_operator(pg: Server, make_databases: MakeDatabases, tmp_path: Path) -> None:
    databases = await make_databases(1)
    await _at_alpha(pg, *databases)
    dump = f'{tools.pg_dump(12)} --format=directory --file="$ORCHESTRATOR_BACKUP_FILE" && env > seen'
    check = f'{tools.pg_dump(12).with_name("pg_restore")} --list "$ORCHESTRATOR_BACKUP_FILE" | grep -q alembic_version'
    registry = _registry(pg, databases, tmp_path, Backup(tmp_path / "kept", dump, check))
    async with engine.running(registry) as running:
        view = await running.rollout(strategy=STRATEGY)
        assert view.counts == {"succeeded": 1}, view.failures
    (one,) = whole(tmp_path / "kept")
    assert (one.file / "toc.dat").is_file()
    assert one.about["bytes"] == sum(path.stat().st_size for path in one.file.iterdir())
    seen = dict(line.split("=", 1) for line in (tmp_path / "seen").read_text().splitlines() if "=" in line)
    assert seen["ORCHESTRATOR_TENANT"] == "t000"
    assert seen["ORCHESTRATOR_DATABASE"] == seen["PGDATABASE"] == databases[0]
    assert seen["ORCHESTRATOR_ROLLOUT"] == view.rollout.id
    assert "ORCHESTRATOR_STORE_URL" not in seen


COMMANDS = {
    "it fails": (Backup(command="echo no >&2; exit 4"), "the command ended with code 4: no"),
    "the check fails": (Backup(command="true", check="echo bad >&2; false"), "the check ended with code 1: bad"),
    "it is not there": (Backup(command="no-such-program"), "not found"),
    "it asks again": (Backup(command="echo busy >&2; exit 75"), "the command asks for another try: busy"),
    "a part of its pipe fails": (
        Backup(command='(echo half; echo gone >&2; exit 3) | cat > "${ORCHESTRATOR_BACKUP_FILE:-/dev/null}"'),
        "the command ended with code 3: gone",
    ),
    "it is too slow": (Backup(command="trap '' TERM; sleep 602", deadline_seconds=0.5), "it took longer than 0.5 s"),
}


@pytest.mark.parametrize("name", COMMANDS)
async def test_a_command_that_fails(
    name: str, pg: Server, make_databases: MakeDatabases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.retry_quickly(monkeypatch)
    (database,) = await make_databases(1)
    await _at_alpha(pg, database)
    backup, expected = COMMANDS[name]
    async with engine.running(_registry(pg, [database], tmp_path, backup)) as running:
        failed = await failure(running)
        assert (failed.kind, expected in failed.message) == ("backup", True), failed.message
        assert bool(running.of(MigrationRetried)) is (name == "it asks again")
    assert await _untouched(pg, database)
    await until(lambda: commands("sleep 602") == [])


async def test_a_command_that_leaves_no_file_has_made_no_backup(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    (database,) = await make_databases(1)
    await _at_alpha(pg, database)
    registry = _registry(pg, [database], tmp_path, Backup(tmp_path / "kept", command="true"))
    async with engine.running(registry) as running:
        failed = await failure(running)
        assert (failed.kind, "the command has left no file" in failed.message) == ("backup", True), failed.message
        assert "ORCHESTRATOR_BACKUP_FILE" in (failed.remedy or "")
    assert await _untouched(pg, database)
    assert whole(tmp_path / "kept") == []


async def test_a_command_dies_with_the_process_that_runs_it(tmp_path: Path) -> None:
    code = f"""
import anyio
from orchestrator.databases import programs
anyio.run(programs.run, ["sh", "-c", "touch {tmp_path}/begun; sleep 603; true"], programs.inherited())
"""
    ours = await anyio.open_process([sys.executable, "-c", code])
    await until(lambda: bool(commands("sleep 603")))
    ours.send_signal(signal.SIGKILL)
    await ours.wait()
    await until(lambda: commands("sleep 603") == [])
    await ours.aclose()
