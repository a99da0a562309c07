"""What a revision commits in the middle counts also where no statement tells: the server is asked."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from orchestrator.databases.embedded import Server
from tests import engine, environments
from tests.engine import until
from tests.environments import Template
from tests.servers import MakeDatabases

BLOCK = "with op.get_context().autocommit_block():"
CALL = "op.execute('SELECT bump()')"
WAITS = f"{BLOCK}\n    op.execute('ALTER TABLE held ADD COLUMN n int')"
SENT = "op.get_bind().connection.cursor().execute('UPDATE counted SET n = n + 1')"
COPIED = (
    "with op.get_bind().connection.driver_connection.cursor().copy('COPY copied FROM STDIN') as copy:\n"
    "    copy.write_row((1,))"
)
COUNTED = (
    "CREATE TABLE counted (n int)",
    "INSERT INTO counted VALUES (0)",
    "CREATE TABLE copied (n int)",
    "CREATE TABLE held (id int)",
    "CREATE FUNCTION bump() RETURNS void LANGUAGE sql AS 'UPDATE counted SET n = n + 1'",
)


async def _database(pg: Server, make_databases: MakeDatabases) -> str:
    (database,) = await make_databases(1)
    await engine.execute(pg, database, *COUNTED)
    return database


async def _counted(pg: Server, database: str) -> int:
    query = "SELECT n + (SELECT count(*) FROM copied) FROM counted"
    return int((await engine.fetch(pg, database, query))[0][0])


UNSEEN = {
    "a function": (CALL, "generic", "online", "SELECT bump()"),
    "a function, replayed": (CALL, "generic", "replay", ""),
    "a function, outside of transactions": (f"{BLOCK}\n    {CALL}", "generic", "online", "SELECT bump()"),
    "a function, by an asynchronous driver": (CALL, "async", "online", "SELECT bump()"),
    "a cursor of the driver's": (SENT, "generic", "online", "past SQLAlchemy"),
    "a COPY of the driver's": (COPIED, "generic", "online", "past SQLAlchemy"),
    "a cursor, and a COMMIT as a statement": (f"{SENT}\nop.execute('COMMIT')", "generic", "online", "past SQLAlchemy"),
}


@pytest.mark.parametrize(("body", "template", "execution", "told"), UNSEEN.values(), ids=UNSEEN)
async def test_what_was_committed_before_a_lock_was_waited_for_is_not_done_again(
    pg: Server,
    make_databases: MakeDatabases,
    tmp_path: Path,
    body: str,
    template: Template,
    execution: Literal["online", "replay"],
    told: str,
) -> None:
    database = await _database(pg, make_databases)
    await engine.provision(pg, database)
    config = environments.make_project(tmp_path, template)
    environments.add_revision(tmp_path, "delta", None, f"{body}\n{WAITS}")
    track = replace(environments.track_of(config), execution=execution)
    registry = engine.registry_of([track], [engine.shard_of(pg)], engine.targets_of([database]))
    async with engine.running(registry, lock_timeout_seconds=0.5) as running:
        async with engine.locked_table(pg, database, "held"):
            view = await running.rollout()
        failed = (await running.migrations(view))["t000"]
        assert failed.failure is not None
        assert (failed.failure.kind, failed.attempts, failed.doubt) == ("half_applied", 1, "upgrade delta")
        assert told in failed.failure.message
        assert await _counted(pg, database) == 1


async def test_a_replayed_function_is_noted_before_it_is_committed(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    database = await _database(pg, make_databases)
    await engine.provision(pg, database)
    config = environments.make_project(tmp_path)
    slow = "CREATE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 FROM pg_sleep(300)'"
    await engine.execute(pg, database, slow)
    build = f"{BLOCK}\n    op.execute('CREATE INDEX CONCURRENTLY mine ON counted ((slow(n)))')"
    environments.add_revision(tmp_path, "delta", None, f"{CALL}\n{build}")
    track = replace(environments.track_of(config), execution="replay")
    registry = engine.registry_of([track], [engine.shard_of(pg)], engine.targets_of([database]))
    async with engine.running(registry) as running:
        view, _ = await running.service.start_rollout(engine.head())

        async def committed() -> bool:
            return await _counted(pg, database) == 1

        await until(committed)
        await running.service.abort(view.rollout.id, by="test", force=True)
        await running.service.finished(view.rollout.id)
        again = (await running.migrations(await running.rollout()))["t000"]
        assert again.failure is not None
        assert again.failure.kind == "half_applied"
        assert await _counted(pg, database) == 1


BUILD = f"{BLOCK}\n    op.execute('CREATE INDEX CONCURRENTLY IF NOT EXISTS mine ON held (id)')"
ORDINARY = {
    "nothing else": BUILD,
    "looking around before": f"assert sa.inspect(op.get_bind()).has_table('held')\n"
    f"op.execute('SELECT count(*), max(n) FROM counted')\n{BUILD}",
    "reading by a cursor": f"op.get_bind().connection.cursor().execute('SELECT n FROM counted')\n{BUILD}",
}


@pytest.mark.parametrize("body", ORDINARY.values(), ids=ORDINARY)
@pytest.mark.parametrize("provisioned", [True, False], ids=["version table", "no version table"])
async def test_an_index_build_alone_is_run_again_after_its_process_has_died(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path, body: str, provisioned: bool
) -> None:
    """Also in the transaction that has just made the version table, or run other revisions."""
    (database,) = await make_databases(1)
    config = environments.make_project(tmp_path / "p")
    environments.add_revision(tmp_path / "p", "alpha", None, "\n".join(f"op.execute({sql!r})" for sql in COUNTED))
    died = tmp_path / "died"
    dies = f"open({str(died)!r}, 'w')\n    os.kill(os.getpid(), {signal.SIGKILL:d})"
    once = f"if not os.path.exists({str(died)!r}):\n    {dies}"
    environments.add_revision(tmp_path / "p", "delta", "alpha", f"{body}\n{once}")
    track = environments.track_of(config)
    registry = engine.registry_of([track], [engine.shard_of(pg)], engine.targets_of([database]))
    async with engine.running(registry) as running:
        if provisioned:
            await running.rollout("alpha")
        view = await running.rollout()
        assert view.counts == {"succeeded": 1}, view.failures
        done = (await running.migrations(view))["t000"]
        assert (done.attempts, done.doubt) == (2, None)
