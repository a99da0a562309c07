"""Replay on a release night: proved first, refused, blocked, cut off and taken up again, on real servers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy.engine import make_url

from orchestrator.databases import postgresql_questions, postgresql_replay
from orchestrator.databases.embedded import Server
from orchestrator.databases.postgresql_questions import LOCK_NAMESPACE
from orchestrator.events import MigrationFinished, MigrationRetried, PlanJudged, ReplayRefused
from orchestrator.registry.model import Registry, Shard, Target
from orchestrator.rollout.state import RolloutState
from tests import engine, environments
from tests.crossed import crossed
from tests.engine import Engine, until
from tests.integration.replay.conftest import TABLES
from tests.servers import MakeDatabases

# True on the session that holds the lock, where SQL is replayed, and false where env.py connects.
ON_GUARD = "current_setting('application_name') LIKE 'orchestrator guard %'"


def registry_of(project: Path, pg: Server, databases: Sequence[str], **track: object) -> Registry:
    fields: dict[str, Any] = {"execution": "auto", **track}
    made = replace(environments.track_of(project / "alembic.ini"), **fields)
    targets = [
        replace(
            target,
            version_table=made.version_table.format(tenant=target.tenant, track="app"),
            version_table_schema=made.version_table_schema,
        )
        for target in engine.targets_of(databases)
    ]
    return engine.registry_of([made], [engine.shard_of(pg)], targets)


@asynccontextmanager
async def replaying(project: Path, pg: Server, databases: Sequence[str], **track: object) -> AsyncIterator[Engine]:
    """An engine that replays what can be, without proof. Compiling needs a second tenant, which is never migrated."""
    registry = registry_of(project, pg, databases, execution="replay", **track)
    other = Target("other", "app", "pg", "not there")
    async with engine.running(replace(registry, targets=(*registry.targets, other))) as running:
        yield running


def ways(running: Engine) -> dict[str, str]:
    return {event.tenant: event.execution for event in running.of(MigrationFinished)}


async def applied(pg: Server, database: str) -> list[str]:
    return [row[0] for row in await engine.fetch(pg, database, "SELECT revision FROM applied ORDER BY 1")]


async def test_two_targets_prove_a_plan_a_third_is_replayed_and_then_the_rest(
    project: Path, pg: Server, make_databases: MakeDatabases
) -> None:
    databases = await make_databases(9)
    async with engine.running(registry_of(project, pg, databases)) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": 9}
        assert sorted(ways(running).values()) == ["online"] * 2 + ["replay"] * 7
        assert view.executions == {"online": 2, "replay": 7}
        (judged,) = running.of(PlanJudged)
        assert (judged.execution, judged.reason, judged.steps) == ("replay", None, 3)
        assert (await running.rollout("base", direction=_down())).executions == {"online": 2, "replay": 7}
        assert (await running.rollout()).executions == {"online": 2, "replay": 7}, "each rollout has its own proof"
        assert (await running.rollout("base", direction=_down())).counts == {"succeeded": 9}
    for database in databases:
        assert await engine.fetch(pg, database, "SELECT version_num FROM alembic_version") == []


def _down() -> object:
    from orchestrator.rollout.state import Direction

    return Direction.DOWNGRADE


async def test_few_targets_go_online_and_nothing_is_rendered(
    project: Path, pg: Server, make_databases: MakeDatabases
) -> None:
    async with engine.running(registry_of(project, pg, await make_databases(3))) as running:
        assert (await running.rollout()).counts == {"succeeded": 3}
        assert set(ways(running).values()) == {"online"}
        assert running.of(PlanJudged) == []


async def test_a_track_may_insist_on_env_py(project: Path, pg: Server, make_databases: MakeDatabases) -> None:
    async with engine.running(registry_of(project, pg, await make_databases(5), execution="online")) as running:
        assert (await running.rollout()).counts == {"succeeded": 5}
        assert set(ways(running).values()) == {"online"}


async def test_tenants_that_are_not_alike_go_online_and_the_difference_is_told(
    project: Path, pg: Server, make_databases: MakeDatabases
) -> None:
    databases = await make_databases(6)
    await engine.provision(pg, *databases)
    for database in databases[::2]:
        await engine.execute(pg, database, "CREATE TABLE only_here (id int)")
    async with engine.running(registry_of(project, pg, databases), max_concurrent=1) as running:
        assert (await running.rollout()).counts == {"succeeded": 6}
        assert set(ways(running).values()) == {"online"}
        (judged,) = running.of(PlanJudged)
        assert (judged.execution, judged.differs) == ("online", True)
        assert "differ from each other" in judged.reason
        assert "only_here" in judged.reason


async def test_what_env_py_does_besides_is_noticed_before_it_is_left_out(
    project: Path, pg: Server, make_databases: MakeDatabases
) -> None:
    """An env.py that sets a role, a search path, or makes an extension: replay would not."""
    env = project / "alembic" / "env.py"
    text = env.read_text()
    more = "connection.exec_driver_sql('CREATE SCHEMA IF NOT EXISTS app'); connection.commit()\n        "
    env.write_text(text.replace("with context.begin_transaction():", f"{more}with context.begin_transaction():"))
    env.write_text(env.read_text().replace(more, "", 1))  # the first is the offline one
    async with engine.running(registry_of(project, pg, await make_databases(6))) as running:
        assert (await running.rollout()).counts == {"succeeded": 6}
        (judged,) = running.of(PlanJudged)
        assert (judged.execution, judged.differs) == ("online", True)
        assert "env.py sends SQL of its own: CREATE SCHEMA IF NOT EXISTS app" in judged.reason
        assert set(ways(running).values()) == {"online"}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            "with context.begin_transaction():",
            "connection.exec_driver_sql('SET TimeZone = \\'Asia/Tokyo\\''); "
            "connection.commit()\n        with context.begin_transaction():",
            "TimeZone = Asia/Tokyo (set for the session), ours ",
        ),
        (
            "with context.begin_transaction():",
            "connection.exec_driver_sql('SET session_replication_role = replica'); "
            "connection.commit()\n        with context.begin_transaction():",
            "session_replication_role = replica",
        ),
        (
            "            context.run_migrations()",
            "            context.run_migrations()\n"
            "            connection.exec_driver_sql(\"INSERT INTO applied VALUES ('seed')\")",
            "env.py sends SQL of its own: INSERT INTO applied VALUES (?)",
        ),
        (
            "poolclass=pool.NullPool",
            "poolclass=pool.NullPool, connect_args={'options': '-c DateStyle=ISO,MDY'}",  # as everybody has it
            "DateStyle = ISO, MDY (set for the session), ours ISO, MDY",
        ),
        (
            "poolclass=pool.NullPool",
            "poolclass=pool.NullPool, connect_args={'options': '-c search_path=public,pg_temp'}",
            "search_path = public,pg_temp",
        ),
    ],
)
async def test_an_env_py_that_replay_would_not_equal_is_found_out_where_the_schema_shows_nothing(
    before: str, after: str, said: str, project: Path, pg: Server, make_databases: MakeDatabases
) -> None:
    env = project / "alembic" / "env.py"
    head, online, tail = env.read_text().rpartition("def run_migrations_online")
    text = (online + tail).replace(before, after, 1)
    assert text != online + tail
    env.write_text(head + text)
    async with engine.running(registry_of(project, pg, await make_databases(6))) as running:
        assert (await running.rollout()).executions == {"online": 6}
        (judged,) = running.of(PlanJudged)
        assert (judged.execution, judged.differs) == ("online", True)
        assert said in judged.reason


@pytest.mark.parametrize("by_environment", [False, True])
async def test_options_of_the_url_and_the_environment_reach_replayed_sessions(
    by_environment: bool, project: Path, pg: Server, make_databases: MakeDatabases, monkeypatch: pytest.MonkeyPatch
) -> None:
    environments.add_revision(
        project, "delta", "gamma", "op.execute('CREATE TABLE z AS SELECT current_setting($$TimeZone$$) AS a')"
    )
    registry = registry_of(project, pg, databases := await make_databases(5))
    options = "-c timezone=Asia/Tokyo"
    if by_environment:
        monkeypatch.setenv("PGOPTIONS", options)
    else:
        shard = registry.shards["pg"]
        registry = replace(
            registry, shards={"pg": replace(shard, url=shard.url.update_query_dict({"options": options}))}
        )
    async with engine.running(registry) as running:
        assert (await running.rollout()).executions == {"online": 2, "replay": 3}
    for database in databases:
        assert await engine.fetch(pg, database, "SELECT a FROM z") == [("Asia/Tokyo",)]


async def test_a_plan_that_reads_the_database_goes_online_for_that_reason(
    project: Path, pg: Server, make_databases: MakeDatabases
) -> None:
    for name in TABLES:
        (project / "alembic" / "versions" / f"{name}.py").unlink()
    asks = "op.execute('CREATE TABLE t (a int)')\nop.get_bind().execute(sa.text('SELECT a FROM t')).all()"
    environments.add_revision(project, "asks", None, asks)
    async with engine.running(registry_of(project, pg, await make_databases(5))) as running:
        assert (await running.rollout()).counts == {"succeeded": 5}
        (judged,) = running.of(PlanJudged)
        assert (judged.execution, judged.differs) == ("online", False)
        assert "asks: it reads t" in judged.reason


async def test_what_the_server_refuses_is_given_to_env_py(
    project: Path, pg: Server, make_databases: MakeDatabases
) -> None:
    refused = f'op.execute("SELECT 1 / (CASE WHEN {ON_GUARD} THEN 0 ELSE 1 END)")'
    environments.add_revision(project, "delta", "gamma", refused)
    databases = await make_databases(2)
    async with replaying(project, pg, databases) as running:
        view = await running.rollout(select="tenant=t000")
        assert view.counts == {"succeeded": 1}
        assert ways(running) == {"t000": "fallback"}
        assert view.executions == {"fallback": 1}
        assert (await running.migrations(view))["t000"].execution == "fallback"
        (told,) = running.of(ReplayRefused)
        assert (told.code, "division by zero" in told.message) == ("22012", True)
        exposition = running.parts.metrics.render()[0].decode()
        assert 'orchestrator_replay_fallbacks_total{shard="pg",track="app"} 1.0' in exposition
    assert await applied(pg, databases[0]) == sorted(TABLES), "each revision once: the refused script left nothing"


async def test_a_plan_that_is_refused_while_it_is_proved_goes_online(
    project: Path, pg: Server, make_databases: MakeDatabases
) -> None:
    refused = f'op.execute("SELECT 1 / (CASE WHEN {ON_GUARD} THEN 0 ELSE 1 END)")'
    environments.add_revision(project, "delta", "gamma", refused)
    async with engine.running(registry_of(project, pg, await make_databases(6))) as running:
        assert (await running.rollout()).counts == {"succeeded": 6}
        (judged,) = running.of(PlanJudged)
        assert (judged.execution, judged.differs) == ("online", True)
        assert len(running.of(ReplayRefused)) == 1


async def test_a_failure_of_the_tenants_own_data_names_revision_and_statement(
    project: Path, pg: Server, make_databases: MakeDatabases
) -> None:
    environments.add_revision(project, "delta", "gamma", "op.execute('ALTER TABLE mine ADD UNIQUE (a)')")
    databases = await make_databases(8)
    await engine.provision(pg, *databases)
    for database in databases:
        await engine.execute(pg, database, "CREATE TABLE mine (a int)")
    await engine.execute(pg, databases[6], "INSERT INTO mine VALUES (1), (1)")
    async with engine.running(registry_of(project, pg, databases)) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": 7, "failed": 1}
        failed = (await running.migrations(view))["t006"]
        assert failed.failure is not None
        assert (failed.failure.revision, failed.failure.code) == ("delta", "23505")
        assert failed.failure.statement == "ALTER TABLE mine ADD UNIQUE (a)"


async def test_sql_and_env_py_take_turns_under_one_lock_and_go_on_where_they_were_cut_off(
    project: Path, pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    environments.use_transaction_per_migration(project)
    holder = (
        "op.execute(\"INSERT INTO holders SELECT '{0}', pid, current_setting('application_name') FROM pg_locks"
        f" WHERE locktype = 'advisory' AND classid::bigint = {LOCK_NAMESPACE}"
        ' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())")'
    )
    environments.add_revision(
        project,
        "one",
        "gamma",
        "op.execute('CREATE TABLE holders (step text, pid int, app text)')\n" + holder.format("one"),
    )
    gate = tmp_path / "let through"
    asks = (
        f"assert op.get_bind().scalar(sa.text('SELECT 1')) == 1\n{holder.format('two')}\n"
        f"if not os.path.exists({str(gate)!r}):\n    os._exit(1)"
    )
    environments.add_revision(project, "two", "one", asks)
    environments.add_revision(project, "three", "two", holder.format("three"))
    (database,) = await make_databases(1)
    async with replaying(project, pg, [database]) as running:
        view, _ = await running.service.start_rollout(engine.head(select="tenant=t000"))
        await until(lambda: len(running.of(MigrationRetried)) > 0)
        assert await engine.fetch(pg, database, "SELECT step FROM holders") == [("one",)]
        assert await engine.fetch(pg, database, "SELECT version_num FROM alembic_version") == [("one",)]
        gate.touch()
        await running.service.finished(view.rollout.id)
        after = await running.service.rollout(view.rollout.id)
        assert after.counts == {"succeeded": 1}, after.failures
        assert ways(running) == {"t000": "mixed"}
    rows = await engine.fetch(pg, database, "SELECT step, pid, app LIKE 'orchestrator guard %' FROM holders")
    assert [(step, guard) for step, _, guard in rows] == [("one", True), ("two", False), ("three", True)]
    assert rows[1][1] == rows[2][1], "the lock was the same session's, for env.py and for the SQL after it"
    assert await applied(pg, database) == sorted(TABLES)


async def test_a_version_table_that_somebody_changes_meanwhile_is_read_again(
    project: Path, pg: Server, make_databases: MakeDatabases
) -> None:
    (database,) = await make_databases(1)
    async with replaying(project, pg, [database]) as running:
        await running.rollout("alpha", select="tenant=t000")
        human = await asyncpg.connect(pg.url(database))
        try:
            transaction = human.transaction()
            await transaction.start()
            await human.execute("UPDATE alembic_version SET version_num = 'beta'")
            await human.execute("CREATE TABLE beta (id int)")
            await human.execute("INSERT INTO applied VALUES ('beta')")
            view, _ = await running.service.start_rollout(engine.head(select="tenant=t000"))
            await until(lambda: _waits(pg, database))
            await transaction.commit()
        finally:
            await human.close()
        await running.service.finished(view.rollout.id)
        assert (await running.service.rollout(view.rollout.id)).counts == {"succeeded": 1}
        (retried,) = running.of(MigrationRetried)
        assert "the version table changed since the plan was made" in retried.message
    assert await applied(pg, database) == sorted(TABLES)


async def test_a_lock_held_by_somebody_else_is_waited_for_in_turns_and_its_holder_named(
    project: Path, pg: Server, make_databases: MakeDatabases
) -> None:
    environments.add_revision(project, "delta", "gamma", "op.execute('ALTER TABLE busy ADD b int')")
    (database,) = await make_databases(1)
    await engine.provision(pg, database)
    await engine.execute(pg, database, "CREATE TABLE busy (a int)")
    human = await asyncpg.connect(pg.url(database), server_settings={"application_name": "a person"})
    try:
        transaction = human.transaction()
        await transaction.start()
        await human.execute("SELECT * FROM busy")
        async with replaying(project, pg, [database]) as running:
            view, _ = await running.service.start_rollout(engine.head(select="tenant=t000"))
            await until(lambda: len(running.of(MigrationRetried)) > 0)
            retried = running.of(MigrationRetried)[0]
            assert retried.reason == "contention"
            assert "lock timeout" in retried.message
            assert "(a person, idle in transaction" in retried.message
            await transaction.rollback()
            await running.service.finished(view.rollout.id)
            assert (await running.service.rollout(view.rollout.id)).counts == {"succeeded": 1}
            assert ways(running) == {"t000": "replay"}
            assert running.of(ReplayRefused) == []
    finally:
        await human.close()
    assert await applied(pg, database) == sorted(TABLES)


async def test_a_session_that_is_ended_in_the_middle_is_taken_up_again(
    project: Path, pg: Server, make_databases: MakeDatabases
) -> None:
    environments.add_revision(project, "delta", "gamma", "op.execute('SELECT pg_sleep(3)')")
    (database,) = await make_databases(1)
    async with replaying(project, pg, [database]) as running:
        view, _ = await running.service.start_rollout(engine.head(select="tenant=t000"))
        await until(lambda: _sleeps(pg, database))
        query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND wait_event = 'PgSleep'"
        await engine.fetch(pg, "postgres", query, database)
        await running.service.finished(view.rollout.id)
        assert (await running.service.rollout(view.rollout.id)).counts == {"succeeded": 1}
        assert "was lost" in running.of(MigrationRetried)[0].message
    assert await applied(pg, database) == sorted(TABLES)


async def test_a_replay_that_is_cancelled_ends_on_the_server(
    project: Path, pg: Server, make_databases: MakeDatabases
) -> None:
    environments.add_revision(project, "delta", "gamma", "op.execute('SELECT pg_sleep(600)')")
    (database,) = await make_databases(1)
    async with replaying(
        project,
        pg,
        [database],
    ) as running:
        await running.service.start_rollout(engine.head(select="tenant=t000"))
        await until(lambda: _sleeps(pg, database))
        running.service._tasks.cancel_scope.cancel()
    assert not await _sleeps(pg, database)
    assert await engine.fetch(pg, database, "SELECT to_regclass('alpha') IS NULL") == [(True,)], "rolled back"


@crossed(table=["alembic_version", 'ver "sion" {tenant}', "select"], schema=[None, 'My "own"'])
async def test_any_name_of_a_version_table_will_do(
    table: str, schema: str | None, project: Path, pg: Server, make_databases: MakeDatabases
) -> None:
    databases = await make_databases(5)
    if schema:
        for database in databases:
            await engine.execute(pg, database, 'CREATE SCHEMA "My ""own"""')
    registry = registry_of(project, pg, databases, version_table=table, version_table_schema=schema)
    async with engine.running(registry) as running:
        assert (await running.rollout("beta")).counts == {"succeeded": 5}
        assert (await running.rollout()).counts == {"succeeded": 5}
        assert [judged.execution for judged in running.of(PlanJudged)] == ["replay", "replay"]
    for number, database in enumerate(databases):
        name = table.format(tenant=f"t{number:03}").replace('"', '""')
        place = '"My ""own""".' if schema else ""
        assert await engine.fetch(pg, database, f'SELECT version_num FROM {place}"{name}"') == [("gamma",)]


async def test_a_history_with_branches_is_replayed(project: Path, pg: Server, make_databases: MakeDatabases) -> None:
    environments.add_revision(project, "left", "gamma", "op.execute('CREATE TABLE l (a int)')")
    environments.add_revision(project, "right", "gamma", "op.execute('CREATE TABLE r (a int)')")
    databases = await make_databases(5)
    async with engine.running(registry_of(project, pg, databases)) as running:
        assert (await running.rollout("heads")).counts == {"succeeded": 5}
        file = environments.add_revision(project, "joined", None, "op.execute('CREATE TABLE j (a int)')")
        file.write_text(file.read_text().replace("down_revision = None", "down_revision = ('left', 'right')"))
        assert (await running.rollout("head")).counts == {"succeeded": 5}
        assert [judged.execution for judged in running.of(PlanJudged)] == ["replay", "replay"]
    for database in databases:
        assert await engine.fetch(pg, database, "SELECT version_num FROM alembic_version") == [("joined",)]


async def test_a_rollout_that_is_aborted_while_targets_wait_for_the_proof_ends(
    project: Path, pg: Server, make_databases: MakeDatabases
) -> None:
    environments.add_revision(project, "delta", "gamma", "op.execute('SELECT pg_sleep(2)')")
    async with engine.running(registry_of(project, pg, await make_databases(6))) as running:
        view, _ = await running.service.start_rollout(engine.head())
        await running.reaches(view.rollout.id, RolloutState.RUNNING, running=6)
        await running.service.abort(view.rollout.id, by="test")
        await running.service.finished(view.rollout.id)
        after = await running.service.rollout(view.rollout.id)
        assert after.rollout.state is RolloutState.ABORTED
        assert after.counts == {"succeeded": 6}, "all were running when it was aborted, and may end"


async def _sleeps(pg: Server, database: str) -> bool:
    query = "SELECT 1 FROM pg_stat_activity WHERE datname = $1 AND state = 'active' AND wait_event = 'PgSleep'"
    return bool(await engine.fetch(pg, "postgres", query, database))


async def _waits(pg: Server, database: str) -> bool:
    query = "SELECT 1 FROM pg_stat_activity WHERE datname = $1 AND state = 'active' AND wait_event_type = 'Lock'"
    return bool(await engine.fetch(pg, "postgres", query, database))


async def test_by_default_all_go_online_and_nothing_is_rendered(project: Path, tmp_path: Path) -> None:
    names = [f"{number}.db" for number in range(6)]
    for name in names:
        (tmp_path / name).touch()
    registry = engine.registry_of(
        [environments.track_of(project / "alembic.ini")],
        [Shard("files", make_url(f"sqlite:///{tmp_path}"))],
        engine.targets_of(names, "files"),
        folder=tmp_path,
    )
    async with engine.running(registry) as running:
        assert (await running.rollout()).counts == {"succeeded": 6}
        assert set(ways(running).values()) == {"online"}
        assert running.of(PlanJudged) == []


async def test_a_schema_that_may_not_be_read_costs_nobody_a_migration(
    project: Path, pg: Server, make_databases: MakeDatabases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql_replay, "query", lambda schema: "SELECT * FROM not_there")
    async with engine.running(registry_of(project, pg, await make_databases(6))) as running:
        assert (await running.rollout()).counts == {"succeeded": 6}
        assert set(ways(running).values()) == {"online"}
        (judged,) = running.of(PlanJudged)
        assert "the schema cannot be read to compare it" in judged.reason


async def test_what_lives_in_a_session_is_not_cut_from_what_needs_it(
    project: Path, pg: Server, make_databases: MakeDatabases
) -> None:
    environments.use_transaction_per_migration(project)
    environments.add_revision(project, "keeps", "gamma", "op.execute('CREATE TEMP TABLE keep AS SELECT 7 AS a')")
    environments.add_revision(
        project, "uses", "keeps", "assert op.get_bind().scalar(sa.text('SELECT a FROM keep')) == 7"
    )
    async with engine.running(registry_of(project, pg, await make_databases(7))) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": 7}, view.failures


async def test_an_index_that_cannot_be_built_concurrently_fails_with_its_own_reason(
    project: Path, pg: Server, make_databases: MakeDatabases
) -> None:
    body = """
    with op.get_context().autocommit_block():
        op.create_index("mine_a", "mine", ["a"], unique=True, postgresql_concurrently=True)
    """
    environments.add_revision(project, "delta", "gamma", body)
    databases = await make_databases(8)
    await engine.provision(pg, *databases)
    for database in databases:
        await engine.execute(pg, database, "CREATE TABLE mine (a int)")
    await engine.execute(pg, databases[6], "INSERT INTO mine VALUES (1), (1)")
    async with engine.running(registry_of(project, pg, databases), max_concurrent=1) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": 7, "failed": 1}
        failed = (await running.migrations(view))["t006"]
        assert failed.failure is not None
        assert (failed.failure.revision, failed.failure.code, failed.execution) == ("delta", "23505", "replay")
        assert "could not create unique index" in failed.failure.message
        assert "CREATE UNIQUE INDEX CONCURRENTLY" in str(failed.failure.statement)
        assert "DROP INDEX CONCURRENTLY public.mine_a; then" in str(failed.failure.remedy)
        assert running.of(ReplayRefused) == []


async def test_a_role_with_one_connection_is_replayed_to_the_end(
    project: Path, pg: Server, make_databases: MakeDatabases
) -> None:
    """No second session can be had to watch from; the server refuses it, so it lives."""
    environments.add_revision(project, "delta", "gamma", "op.execute('SELECT pg_sleep(4)')")
    (database,) = await make_databases(1)
    await engine.execute(
        pg,
        database,
        "CREATE ROLE single LOGIN PASSWORD 'single' CONNECTION LIMIT 1",
        "GRANT ALL ON SCHEMA public TO single",
    )
    try:
        registry = registry_of(project, pg, [database], execution="replay")
        shard = registry.shards["pg"]
        single = replace(shard, url=shard.url.set(username="single", password="single"))
        async with engine.running(replace(registry, shards={"pg": single})) as running:
            view = await running.rollout()
            assert view.counts == {"succeeded": 1}, view.failures
            assert view.executions == {"replay": 1}
            # The session that asked for head-room may be on its way out still; nothing else is tried again.
            assert all("too many connections" in retried.message for retried in running.of(MigrationRetried))
    finally:
        await engine.execute(pg, database, "DROP OWNED BY single", "DROP ROLE single")


async def test_an_env_py_with_callbacks_online_only_is_found_out(
    project: Path, pg: Server, make_databases: MakeDatabases
) -> None:
    env = project / "alembic" / "env.py"
    head, online, tail = env.read_text().rpartition("def run_migrations_online")
    env.write_text(
        head
        + (online + tail).replace("connection=connection", "connection=connection, on_version_apply=lambda **_: None")
    )
    async with engine.running(registry_of(project, pg, await make_databases(6))) as running:
        assert (await running.rollout()).executions == {"online": 6}
        assert "`on_version_apply` callbacks" in running.of(PlanJudged)[0].reason


async def test_an_env_py_whose_transactions_differ_offline_is_found_out(
    project: Path, pg: Server, make_databases: MakeDatabases
) -> None:
    env = project / "alembic" / "env.py"
    head, online, tail = env.read_text().rpartition("def run_migrations_online")
    env.write_text(
        head + (online + tail).replace("connection=connection", "connection=connection, transaction_per_migration=True")
    )
    async with engine.running(registry_of(project, pg, await make_databases(6))) as running:
        assert (await running.rollout()).executions == {"online": 6}
        assert (
            "revision beta, statement 1: the transaction around it begins or ends elsewhere"
            in running.of(PlanJudged)[0].reason
        )


async def test_what_was_committed_before_is_not_done_twice(
    project: Path, pg: Server, make_databases: MakeDatabases
) -> None:
    body = f"""
    op.execute("INSERT INTO applied VALUES ('once')")
    with op.get_context().autocommit_block():
        op.execute("CREATE INDEX CONCURRENTLY IF NOT EXISTS ix ON applied (revision)")
    op.execute("SELECT 1 / (CASE WHEN {ON_GUARD} THEN 0 ELSE 1 END)")
    """
    environments.use_transaction_per_migration(project)
    environments.add_revision(project, "delta", "gamma", body)
    databases = await make_databases(5)
    async with engine.running(registry_of(project, pg, databases), max_concurrent=1) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": 4, "failed": 1}, "the one by which it was found out"
        failed = (await running.migrations(view))["t002"]
        assert failed.failure is not None
        assert (failed.failure.revision, failed.failure.code) == ("delta", "22012")
        done = "INSERT INTO applied VALUES ('once'); CREATE INDEX CONCURRENTLY IF NOT EXISTS ix ON applied (revision)"
        assert f"\nThe revision is half applied: what it did outside of transactions stays ({done}). " in (
            failed.failure.message
        )
        assert failed.failure.message.endswith("The version table still says gamma")
    for database in databases:
        assert (await applied(pg, database)).count("once") == 1


async def test_settings_that_may_not_be_read_cost_nobody_a_migration(
    project: Path, pg: Server, make_databases: MakeDatabases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql_questions, "STATE", "SELECT a, b FROM not_there")
    async with engine.running(registry_of(project, pg, await make_databases(6))) as running:
        assert (await running.rollout()).executions == {"online": 6}
