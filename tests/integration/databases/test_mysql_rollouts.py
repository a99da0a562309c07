"""Rollouts over MariaDB databases through the whole engine, with env.py as Alembic's templates make it."""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy.engine import make_url

from orchestrator.databases.base import Limits, Place
from orchestrator.databases.mysql import MySQL
from orchestrator.databases.mysql_connecting import ask
from orchestrator.databases.quoting import backquoted
from orchestrator.events import MigrationRetried
from orchestrator.registry.model import Registry, Shard, Target
from orchestrator.rollout.state import Direction, MigrationState, RolloutState
from tests import engine, environments, mariadb
from tests.engine import until
from tests.environments import Template
from tests.mariadb import MakeMySQLDatabases, MySQLServer

TABLES = ["alpha", "beta", "gamma"]


def _registry(mysql: MySQLServer, databases: list[str], config: Path, scheme: str = "mysql", **track: Any) -> Registry:
    shard = Shard("maria", make_url(mysql.url("x", scheme)).set(database=None))
    return engine.registry_of(
        [environments.track_of(config, **track)], [shard], engine.targets_of(databases, shard="maria")
    )


def _project(folder: Path, upgrade: str | None = None, template: Template = "generic") -> Path:
    """Three tables, and a revision `delta` that does `upgrade`."""
    config = environments.make_project(folder, template)
    environments.add_tables(folder, TABLES)
    if upgrade is not None:
        environments.add_revision(folder, "delta", "gamma", upgrade, 'op.execute("DROP TABLE IF EXISTS half")')
    return config


async def _heads(mysql: MySQLServer, database: str) -> list[str]:
    return [row[0] for row in await mariadb.fetch(mysql, database, "SELECT version_num FROM alembic_version")]


async def _tables(mysql: MySQLServer, database: str) -> set[str]:
    return {row[0] for row in await mariadb.fetch(mysql, database, "SHOW TABLES")}


MINE = """
tenant = context.get_x_argument(as_dictionary=True)["tenant"]
op.create_table(f"of_{tenant}", sa.Column("id", sa.Integer))
"""


@pytest.mark.parametrize("scheme", ["mysql", "mariadb"])
@pytest.mark.parametrize("template", ["generic", "async"])
async def test_many_databases_are_migrated_at_once_each_to_itself(
    template: Template, scheme: str, mysql: MySQLServer, make_mysql_databases: MakeMySQLDatabases, tmp_path: Path
) -> None:
    databases = await make_mysql_databases(12)
    registry = _registry(mysql, databases, _project(tmp_path, MINE, template), scheme)
    async with engine.running(registry) as running:
        assert (await running.rollout()).counts == {"succeeded": 12}
        assert (await running.rollout()).counts == {"up_to_date": 12}
        assert not running.of(MigrationRetried)
    for number, database in enumerate(databases):
        assert await _heads(mysql, database) == ["delta"]
        assert await _tables(mysql, database) == {*TABLES, "alembic_version", "applied", f"of_t{number:03}"}
        applied = await mariadb.fetch(mysql, database, "SELECT revision FROM applied")
        assert sorted(row[0] for row in applied) == TABLES


@pytest.mark.parametrize("template", ["generic", "async"])
async def test_odd_names_of_databases_and_version_tables(
    template: Template, mysql: MySQLServer, tmp_path: Path
) -> None:
    token = secrets.token_hex(3)
    names = [
        f"{token} {name}" for name in ("Capital", "capital", "it's", "back`quote", 'dou"ble', "per%cent %s", "ü@/")
    ]
    registry = _registry(mysql, names, _project(tmp_path, template=template))
    odd = "Version's `table`"
    registry = replace(registry, targets=tuple(replace(target, version_table=odd) for target in registry.targets))
    await mariadb.create_databases(mysql, names)
    try:
        async with engine.running(registry) as running:
            view = await running.rollout()
            assert view.counts == {"succeeded": len(names)}, view.failures
        for name in names:
            found = await mariadb.fetch(mysql, name, f"SELECT version_num FROM {backquoted(odd)}")
            assert found == [("gamma",)]
            assert await _tables(mysql, name) == {*TABLES, "applied", odd}
    finally:
        await mariadb.drop_databases(mysql, names)


async def test_env_py_may_name_the_other_of_the_two_dialects(
    mysql: MySQLServer, make_mysql_databases: MakeMySQLDatabases, tmp_path: Path
) -> None:
    """A project that builds its URL itself need not say what the registry says."""
    databases = await make_mysql_databases(2)
    config = _project(tmp_path)
    env = tmp_path / "alembic" / "env.py"
    line = 'config.set_main_option("sqlalchemy.url", "mariadb" + config.get_main_option("sqlalchemy.url")[5:])'
    env.write_text(env.read_text().replace("config = context.config\n", f"config = context.config\n{line}\n", 1))
    async with engine.running(_registry(mysql, databases, config)) as running:
        assert (await running.rollout()).counts == {"succeeded": 2}


@pytest.mark.parametrize("execution", ["online", "auto", "replay"])
async def test_a_downgrade_and_back_whatever_the_track_says(
    execution: str, mysql: MySQLServer, make_mysql_databases: MakeMySQLDatabases, tmp_path: Path
) -> None:
    databases = await make_mysql_databases(3)
    async with engine.running(_registry(mysql, databases, _project(tmp_path), execution=execution)) as running:
        await running.rollout()
        assert (await running.rollout("alpha", direction=Direction.DOWNGRADE)).counts == {"succeeded": 3}
        assert await _heads(mysql, databases[0]) == ["alpha"]
        assert await _tables(mysql, databases[0]) == {"alembic_version", "applied", "alpha"}
        assert (await running.rollout()).counts == {"succeeded": 3}


HALF = """
op.create_table("half", sa.Column("id", sa.Integer, primary_key=True))
op.execute("INSERT INTO half VALUES (1)")
op.execute("ALTER TABLE nowhere ADD COLUMN x int")
op.execute("CREATE TABLE never (id int)")
"""


async def test_a_revision_that_fails_half_way_tells_what_stays_and_how_to_go_on(
    mysql: MySQLServer, make_mysql_databases: MakeMySQLDatabases, tmp_path: Path
) -> None:
    databases = await make_mysql_databases(2)
    provisioned = "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)"
    await mariadb.execute(mysql, databases[1], "CREATE TABLE nowhere (id int)", provisioned)
    async with engine.running(_registry(mysql, databases, _project(tmp_path, HALF))) as running:
        view = await running.rollout()
        assert view.counts == {"failed": 1, "succeeded": 1}
        failed = (await running.migrations(view))["t000"]
        assert not running.of(MigrationRetried)
        failure = failed.failure
        assert failure is not None
        assert (failure.kind, failure.code, failure.revision) == ("half_applied", "1146", "delta")
        assert failure.statement == "ALTER TABLE nowhere ADD COLUMN x int"
        assert "nowhere' doesn't exist" in failure.message
        assert "2 of its statements stay (CREATE TABLE half ( id" in failure.message
        assert "; INSERT INTO half VALUES (1))" in failure.message, "committed by the ALTER that failed"
        assert "version table still says gamma" in failure.message
        assert "by hand" in (failure.remedy or "")
        assert failed.to_heads == ("gamma",) == tuple(await _heads(mysql, databases[0]))
        later = await running.rollout()
        assert later.counts == {"failed": 1, "up_to_date": 1}, "nobody has looked at it yet"
        again = (await running.migrations(later))["t000"].failure
        assert again is not None
        assert (again.kind, again.code, again.revision) == ("half_applied", None, "delta")
        # What the remedy says leads on: the statements are taken back, the cause is gone, and it is retried.
        await mariadb.execute(mysql, databases[0], "DROP TABLE half", "CREATE TABLE nowhere (id int)")
        await running.service.retry(later.rollout.id, by="test")
        await running.service.finished(later.rollout.id)
        assert (await running.service.rollout(later.rollout.id)).counts == {"succeeded": 1, "up_to_date": 1}


async def test_data_that_was_rolled_back_is_not_told_as_applied(
    mysql: MySQLServer, make_mysql_databases: MakeMySQLDatabases, tmp_path: Path
) -> None:
    (database,) = await make_mysql_databases(1)
    upgrade = 'op.execute("INSERT INTO applied VALUES (\'delta\')")\nop.execute("INSERT INTO nowhere VALUES (1)")'
    async with engine.running(_registry(mysql, [database], _project(tmp_path, upgrade))) as running:
        view = await running.rollout()
        failure = (await running.migrations(view))["t000"].failure
        assert failure is not None
        assert (failure.kind, failure.code) == ("failed", "1146")
        assert "stay" not in failure.message
    assert await mariadb.fetch(mysql, database, "SELECT count(*) FROM applied") == [(3,)]


async def test_an_error_of_python_after_a_table_was_made_tells_so_as_well(
    mysql: MySQLServer, make_mysql_databases: MakeMySQLDatabases, tmp_path: Path
) -> None:
    (database,) = await make_mysql_databases(1)
    upgrade = 'op.create_table("half", sa.Column("id", sa.Integer))\nraise RuntimeError("no")'
    async with engine.running(_registry(mysql, [database], _project(tmp_path, upgrade))) as running:
        view = await running.rollout()
        failure = (await running.migrations(view))["t000"].failure
        assert failure is not None
        assert (failure.kind, failure.revision) == ("half_applied", "delta")
        assert "CREATE TABLE half" in failure.message
        await running.service.retry(view.rollout.id, by="test")
        await running.service.finished(view.rollout.id)
        again = (await running.migrations(view))["t000"].failure
        assert again is not None
        assert again.code == "1050"
        assert "an earlier attempt that was cut short may have applied" in (again.remedy or "")


async def test_a_table_that_an_application_keeps_is_waited_for_then_told_with_who_keeps_it(
    mysql: MySQLServer, make_mysql_databases: MakeMySQLDatabases, tmp_path: Path
) -> None:
    (database,) = await make_mysql_databases(1)
    registry = _registry(mysql, [database], _project(tmp_path))
    async with engine.running(registry, lock_timeout_seconds=2) as running:
        await running.rollout()
        environments.add_revision(tmp_path, "delta", "gamma", 'op.add_column("alpha", sa.Column("x", sa.Integer))')
        async with mariadb.session(mysql, database) as application, anyio.create_task_group() as tasks:
            await ask(application, "SELECT * FROM alpha")

            async def let_go_later() -> None:
                await until(lambda: bool(running.of(MigrationRetried)))
                await application.rollback()

            tasks.start_soon(let_go_later)
            view = await running.rollout()
            assert view.counts == {"succeeded": 1}, view.failures
            (retry,) = running.of(MigrationRetried)
            assert retry.reason == "contention"
            assert f"held by connection {application.thread_id()} (" in retry.message


async def test_a_wait_in_vain_in_the_middle_of_a_revision_is_not_tried_again_and_names_both(
    mysql: MySQLServer, make_mysql_databases: MakeMySQLDatabases, tmp_path: Path
) -> None:
    """The next attempt would say that the table is there already, and nothing of the lock."""
    (database,) = await make_mysql_databases(1)
    async with engine.running(_registry(mysql, [database], _project(tmp_path)), lock_timeout_seconds=2) as running:
        await running.rollout()
        waits = 'op.create_table("half", sa.Column("id", sa.Integer))\nop.drop_table("alpha")'
        environments.add_revision(tmp_path, "delta", "gamma", waits)
        async with mariadb.session(mysql, database) as application:
            await ask(application, "SELECT * FROM alpha")
            view = await running.rollout()
        assert view.counts == {"failed": 1}
        assert not running.of(MigrationRetried)
        failure = (await running.migrations(view))["t000"].failure
        assert failure is not None
        assert (failure.kind, failure.code) == ("half_applied", "1205")
        said, kept = failure.message.split("\n", 1)
        assert f"held by connection {application.thread_id()} (" in said
        assert "1 of its statements stay (CREATE TABLE half" in kept
        assert "take these statements back by hand" in (failure.remedy or "")


async def test_a_lock_that_another_run_keeps_ends_as_locked_and_names_the_holder(
    mysql: MySQLServer, make_mysql_databases: MakeMySQLDatabases, tmp_path: Path
) -> None:
    databases = await make_mysql_databases(2)
    registry = _registry(mysql, databases, _project(tmp_path))
    place = Place(Target("x", "app", "maria", databases[0]), registry.url_for(registry.targets[0]), Limits())
    async with MySQL().guard(place), engine.running(registry, lock_wait_seconds=0.3) as running:
        view = await running.rollout()
        assert view.counts == {"locked": 1, "succeeded": 1}
        failure = (await running.migrations(view))["t000"].failure
        assert failure is not None
        assert "held" not in failure.message
        assert "(orchestrator@127.0.0.1, Sleep" in failure.message


@pytest.mark.parametrize("isolation", ["thread", "process"])
@pytest.mark.parametrize("template", ["generic", "async"])
async def test_a_forced_end_leaves_no_session_and_no_lock(
    template: Template,
    isolation: str,
    mysql: MySQLServer,
    make_mysql_databases: MakeMySQLDatabases,
    tmp_path: Path,
) -> None:
    (database,) = await make_mysql_databases(1)
    config = _project(tmp_path, 'op.execute("SELECT SLEEP(600)")', template)
    fields: dict[str, Any] = {}
    if isolation == "process":
        environments.read_url_from_environ(tmp_path)
        fields = {"isolation": "process", "environment": {"DATABASE_URL": "{url}"}}
    registry = _registry(mysql, [database], config, **fields)
    with anyio.fail_after(120):
        async with engine.running(registry, shutdown_grace_seconds=0.2) as running:
            await running.service.start_rollout(engine.head())
            await until(lambda: _some_sleep(mysql, database))
    assert await mariadb.sessions_on(mysql, [database]) == []
    place = Place(registry.targets[0], registry.url_for(registry.targets[0]), Limits(lock_wait=0.0))
    async with MySQL().guard(place) as guard:
        assert await guard.heads() == ("gamma",)


async def _sleeping(mysql: MySQLServer, database: str) -> list[int]:
    return [row[0] for row in await mariadb.sessions_on(mysql, [database]) if "SLEEP" in str(row[3])]


async def test_a_lost_guard_ends_the_migration_before_it_is_tried_again(
    mysql: MySQLServer, make_mysql_databases: MakeMySQLDatabases, tmp_path: Path
) -> None:
    (database,) = await make_mysql_databases(1)
    registry = _registry(mysql, [database], _project(tmp_path, 'op.execute("SELECT SLEEP(3)")'))
    async with engine.running(registry) as running, anyio.create_task_group() as tasks:

        async def cut() -> None:
            await until(lambda: _some_sleep(mysql, database))
            (migrating,) = await _sleeping(mysql, database)
            guards = [row[0] for row in await mariadb.sessions_on(mysql, [database]) if row[0] != migrating]
            for guard in guards:
                await mariadb.execute(mysql, "", f"KILL {guard}")
            await until(lambda: bool(running.of(MigrationRetried)))
            assert migrating not in [row[0] for row in await mariadb.sessions_on(mysql, [database])]

        tasks.start_soon(cut)
        view = await running.rollout()
        assert view.counts == {"succeeded": 1}, view.failures
        assert "lock was lost" in running.of(MigrationRetried)[0].message


async def _some_sleep(mysql: MySQLServer, database: str) -> bool:
    return bool(await _sleeping(mysql, database))


async def test_an_env_py_or_a_revision_that_changes_the_database_is_refused(
    mysql: MySQLServer, make_mysql_databases: MakeMySQLDatabases, tmp_path: Path
) -> None:
    first, second, victim = await make_mysql_databases(3)
    project = _project(tmp_path, f"op.execute('USE `{victim}`')")
    async with engine.running(_registry(mysql, [first], project)) as running:
        view = await running.rollout()
        failure = (await running.migrations(view))["t000"].failure
        assert failure is not None
        assert failure.revision == "delta", "its version table is looked for in the other database"
    env = project.parent / "alembic" / "env.py"
    line = "with connectable.connect() as connection:\n"
    assert line in env.read_text()
    env.write_text(env.read_text().replace(line, f"{line}        connection.exec_driver_sql('USE `{victim}`')\n"))
    async with engine.running(_registry(mysql, [second], project)) as running:
        view = await running.rollout()
        failure = (await running.migrations(view))["t000"].failure
        assert failure is not None
        assert failure.kind == "wrong_database"
        assert f"env.py works in database {victim!r}; this target's is {second!r}" in failure.message
    assert await mariadb.fetch(mysql, victim, "SHOW TABLES") == []
    assert await mariadb.fetch(mysql, second, "SHOW TABLES") == []


async def test_a_revision_whose_process_died_is_looked_at_by_a_person(
    mysql: MySQLServer, make_mysql_databases: MakeMySQLDatabases, tmp_path: Path
) -> None:
    """Nobody knows how far it came, and the server takes nothing back: it must not run twice unseen."""
    (database,) = await make_mysql_databases(1)
    upgrade = """
    op.execute("INSERT INTO applied VALUES ('delta')")
    op.execute("ALTER TABLE alpha ADD x int")
    os._exit(1)
    """
    project = _project(tmp_path, upgrade)
    async with engine.running(_registry(mysql, [database], project)) as running:
        view = await running.rollout()
        failed = (await running.migrations(view))["t000"]
        assert failed.failure is not None
        assert (failed.failure.kind, failed.attempts) == ("half_applied", 1)
        assert "may be half applied" in failed.failure.message
        assert "The version table says gamma" in failed.failure.message
        later = (await running.migrations(await running.rollout()))["t000"]
        assert later.failure is not None
        assert (later.failure.kind, later.attempts) == ("half_applied", 1), "in the next rollout as well"
    assert await mariadb.fetch(mysql, database, "SELECT count(*) FROM applied WHERE revision = 'delta'") == [(1,)]


async def test_a_migration_that_was_running_when_the_daemon_died_is_looked_at_by_a_person(
    mysql: MySQLServer, make_mysql_databases: MakeMySQLDatabases, tmp_path: Path
) -> None:
    databases = await make_mysql_databases(2)
    registry = _registry(mysql, databases, _project(tmp_path, "pass"))
    async with engine.running(registry, store_url=f"sqlite:///{tmp_path}/store.db") as running:
        await running.rollout("gamma")
        rollout = (await running.service.start_rollout(engine.head()))[0].rollout
        await running.service.finished(rollout.id)
        # As the ledger is found after a kill -9 in the middle of the first one's revision.
        migrations = await running.service.migrations(rollout.id)
        left = [replace(migrations[0], state=MigrationState.RUNNING), migrations[1]]
        for database in databases[:1]:
            await mariadb.execute(mysql, database, "UPDATE alembic_version SET version_num = 'gamma'")
        opened = replace(rollout, state=RolloutState.RUNNING, finished_at=None)
        await running.parts.store.ledger.reopen(opened, left)
    async with engine.running(registry, store_url=f"sqlite:///{tmp_path}/store.db") as running:
        await running.service.resume_active()
        await running.service.finished(rollout.id)
        failed = (await running.service.migrations(rollout.id))[0]
        assert failed.failure is not None
        assert failed.failure.kind == "half_applied"
        assert "the process that migrated it ended in the middle" in failed.failure.message
        await running.service.retry(rollout.id, by="a person")
        await running.service.finished(rollout.id)
        assert (await running.service.migrations(rollout.id))[0].state is MigrationState.SUCCEEDED
