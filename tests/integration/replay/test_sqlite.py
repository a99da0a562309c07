"""Replay on SQLite: a transaction for each revision, sent as it is shown, and all or nothing however it ends."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import anyio
import pytest
import yaml

from orchestrator.databases import sqlite_replay
from orchestrator.databases.sqlite_replay import SQLiteReplayer
from orchestrator.events import MigrationRetried, PlanJudged, ReplayRefused
from tests import command, engine, environments
from tests.engine import until
from tests.integration.replay.conftest import TABLES
from tests.integration.replay.fleets import Fleet, ways
from tests.integration.replay.test_others import ASKS, comes_to_the_same, listening, make_keys
from tests.integration.replay.test_sql import sql_of


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    (tmp_path / "files").mkdir()
    for name in ("a.db", "b.db"):
        (tmp_path / "files" / name).touch()
    return Fleet(tmp_path / "files", ["a.db", "b.db"])


def write_registry(folder: Path, config: Path, **track: object) -> None:
    content = {
        "tracks": {"app": {"config": str(config), "execution": "replay", **track}},
        "shards": {"files": {"url": "sqlite:///files"}},
        "tenants": [{"id": name[0], "shard": "files", "database": name} for name in ("a.db", "b.db")],
    }
    (folder / "tenants.yaml").write_text(yaml.safe_dump(content))


AWKWARD = """
op.execute("INSERT INTO applied VALUES ('50 % of \\\\ it''s; -- %s ? :: \\t')".replace("::", r"\\:\\:"))
t = sa.table("applied", sa.column("revision", sa.String(40)))
op.execute(t.insert().values(revision="it's % \\\\ ? :x"))
op.execute("CREATE TRIGGER tr AFTER INSERT ON alpha BEGIN INSERT INTO applied VALUES ('a; b'); SELECT 1; END")
"""


async def test_the_file_gets_what_was_shown(
    project: Path, fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environments.add_revision(project, "delta", "gamma", AWKWARD)
    write_registry(tmp_path, project / "alembic.ini")
    shown = await sql_of(tmp_path)
    sent: list[str] = []
    opened = SQLiteReplayer._session

    @contextmanager
    def traced(self: SQLiteReplayer) -> Iterator[sqlite3.Connection]:
        with opened(self) as connection:
            connection.set_trace_callback(sent.append)
            yield connection
            connection.set_trace_callback(None)

    monkeypatch.setattr(SQLiteReplayer, "_session", traced)
    async with fleet.replaying(project) as running:
        view = await running.rollout(select="tenant=t000")
        assert view.executions == {"replay": 1}, view.failures
    assert sent == shown
    assert [shown[0], shown[-1]] == ["BEGIN IMMEDIATE", "COMMIT"]
    assert len(shown) == 8 + 7 + 7 + 8


async def test_the_plan_says_what_is_sql_and_why_other_revisions_are_not(
    project: Path, fleet: Fleet, tmp_path: Path
) -> None:
    batch = "with op.batch_alter_table('alpha', recreate='always') as b:\n    b.add_column(sa.Column('x', sa.Integer))"
    environments.add_revision(project, "batch", "gamma", batch)
    environments.add_revision(project, "keys", "batch", "op.execute('PRAGMA recursive_triggers = ON')")
    environments.add_revision(project, "after", "keys", "op.execute('CREATE TABLE after_it (a int)')")
    write_registry(tmp_path, project / "alembic.ini", execution="auto")
    done = await command.run("plan", cwd=tmp_path)
    assert done.code == 0, done.err
    lines = [line.split(maxsplit=2) for line in done.out.splitlines() if line.strip()]
    assert lines[2:5] == [[name, "sql"] for name in TABLES]
    told = {line[0]: (line[1], " ".join(line[2:])) for line in lines[5:8]}
    assert told["batch"][0] == "online"
    assert "cannot be rendered" in told["batch"][1]
    assert told["keys"] == ("online", "it changes its session: PRAGMA")
    assert told["after"] == ("online", "keys runs before it, and changes its session")


SLOW = """
op.create_table("half", sa.Column("id", sa.Integer))
op.execute("INSERT INTO half VALUES (1)")
op.execute(
    "INSERT INTO applied WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < "
    "(SELECT most FROM gate)) SELECT 'delta' FROM c ORDER BY n DESC LIMIT 1"
)
"""


async def _begun(file: Path) -> bool:
    """Whether somebody has begun to write."""
    with closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
    return False


async def test_killed_in_the_middle_nothing_of_the_revision_is_there_and_it_is_run_once(
    project: Path, fleet: Fleet, tmp_path: Path
) -> None:
    environments.add_revision(project, "delta", "gamma", SLOW)
    write_registry(tmp_path, project / "alembic.ini")
    assert (await command.run("migrate", "--to", "gamma", "--select", "tenant=a", cwd=tmp_path)).code == 0
    await fleet.execute("a.db", "CREATE TABLE gate (most int)", "INSERT INTO gate VALUES (2000000000)")
    async with command.started("migrate", "--select", "tenant=a", cwd=tmp_path) as process:
        await until(lambda: _begun(tmp_path / "files" / "a.db"))
        os.kill(process.pid, signal.SIGKILL)
        await process.wait()
    assert await fleet.heads("a.db") == ["gamma"]
    assert "half" not in await fleet.tables("a.db")
    await fleet.execute("a.db", "UPDATE gate SET most = 1")
    done = await command.run("migrate", "--select", "tenant=a", "--json", cwd=tmp_path)
    assert done.code == 0, done.out
    assert await fleet.heads("a.db") == ["delta"]
    assert await fleet.fetch("a.db", "SELECT count(*) FROM applied WHERE revision = 'delta'") == [(1,)]


async def test_cancelled_in_the_middle_nothing_of_the_revision_is_there(project: Path, fleet: Fleet) -> None:
    environments.add_revision(project, "delta", "gamma", SLOW)
    with anyio.fail_after(60):
        async with fleet.replaying(project) as running:
            await running.rollout("gamma", select="tenant=t000")
            await fleet.execute("a.db", "CREATE TABLE gate (most int)", "INSERT INTO gate VALUES (2000000000)")
            await running.service.start_rollout(engine.head(select="tenant=t000"))
            await until(lambda: _begun(Path(str(fleet.url("a.db").database))))
            running.service._tasks.cancel_scope.cancel()
    assert await fleet.heads("a.db") == ["gamma"]
    assert "half" not in await fleet.tables("a.db")


async def test_a_revision_that_fails_leaves_those_before_it_and_env_py_tells(project: Path, fleet: Fleet) -> None:
    environments.add_revision(project, "delta", "gamma", "op.create_table('d', sa.Column('id', sa.Integer))")
    body = "op.execute(\"INSERT INTO applied VALUES ('bad')\")\nop.execute('DROP TABLE nowhere')"
    environments.add_revision(project, "bad", "delta", body)
    async with fleet.replaying(project) as running:
        view = await running.rollout(select="tenant=t000")
        assert view.counts == {"failed": 1}
        failure = (await running.migrations(view))["t000"].failure
        assert failure is not None
        assert (failure.kind, failure.revision, failure.statement) == ("failed", "bad", "DROP TABLE nowhere")
        (refused,) = running.of(ReplayRefused)
        assert refused.message == "revision bad: no such table: nowhere"
    assert await fleet.heads("a.db") == ["delta"]
    assert [row[0] for row in await fleet.fetch("a.db", "SELECT revision FROM applied ORDER BY 1")] == TABLES


async def test_a_file_that_somebody_writes_to_is_waited_for(project: Path, fleet: Fleet) -> None:
    async with fleet.replaying(project) as running:
        with closing(sqlite3.connect(str(fleet.url("a.db").database), isolation_level=None)) as human:
            human.execute("BEGIN IMMEDIATE")
            view, _ = await running.service.start_rollout(engine.head(select="tenant=t000"))
            await until(lambda: len(running.of(MigrationRetried)) > 0)
            assert "database is locked" in running.of(MigrationRetried)[0].message
            human.execute("COMMIT")
        await running.service.finished(view.rollout.id)
        assert ways(running) == {"t000": "replay"}
        assert running.of(ReplayRefused) == []


async def test_a_statement_that_rolls_back_by_itself_ends_the_script(project: Path, fleet: Fleet) -> None:
    body = """
    op.execute("INSERT INTO applied VALUES ('delta')")
    op.execute("INSERT OR ROLLBACK INTO alpha VALUES (1), (1)")
    op.execute("INSERT INTO applied VALUES ('after')")
    """
    environments.add_revision(project, "delta", "gamma", body)
    async with fleet.replaying(project) as running:
        assert (await running.rollout(select="tenant=t000")).counts == {"failed": 1}
        assert len(running.of(ReplayRefused)) == 1
    assert await fleet.heads("a.db") == ["gamma"]
    assert [row[0] for row in await fleet.fetch("a.db", "SELECT revision FROM applied ORDER BY 1")] == TABLES


async def test_what_env_py_makes_of_its_files_for_good_is_found_out(project: Path, tmp_path: Path) -> None:
    names = [f"{number}.db" for number in range(5)]
    for name in names:
        (tmp_path / name).touch()
    fleet = Fleet(tmp_path, names)
    listening(project, "keeps_a_log", "connection.execute('PRAGMA journal_mode = WAL').close()")
    async with fleet.running(project, {"max_concurrent": 1}) as running:
        assert (await running.rollout()).executions == {"online": 4, "replay": 1}
        (judged,) = running.of(PlanJudged)
        assert (judged.execution, judged.differs) == ("online", True)
        assert "only in the first: file | journal_mode | wal" in judged.reason


async def test_what_a_revision_sets_after_it_has_asked_is_left_for_those_after_it(fleet: Fleet, tmp_path: Path) -> None:
    sets = f"{ASKS}\nop.execute('PRAGMA foreign_keys = ON')"
    project = tmp_path / "pragma"
    make_keys(project, sets, "op.execute('DELETE FROM parents')", "op.execute('PRAGMA foreign_keys = OFF')")
    await comes_to_the_same(fleet, project)


async def test_a_file_that_is_attached_stays_so_for_later_revisions(project: Path, fleet: Fleet) -> None:
    environments.add_revision(project, "delta", "gamma", "op.execute(\"ATTACH ':memory:' AS more\")")
    environments.add_revision(project, "last", "delta", "op.execute('CREATE TABLE more.t (a int)')")
    async with fleet.replaying(project) as running:
        view = await running.rollout(select="tenant=t000")
        assert (view.counts, view.executions) == ({"succeeded": 1}, {"mixed": 1}), view.failures


def test_all_that_is_asked_of_a_session_has_an_answer() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        found = dict(connection.execute(sqlite_replay.STATE).fetchall())
        assert found["foreign_keys"] == "0"
        connection.execute("PRAGMA case_sensitive_like = ON")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("ATTACH ':memory:' AS more")
        connection.create_function("mine", 1, len)
        after = dict(connection.execute(sqlite_replay.STATE).fetchall())
    differing = {name for name in found if found[name] != after[name]}
    assert differing == {"foreign_keys", "case_sensitive_like", "attached databases", "functions"}
