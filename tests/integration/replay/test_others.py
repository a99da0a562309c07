"""Replay on SQLite and on MariaDB: what holds of both, on real databases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.databases.mysql_replay import MySQLReplayer
from orchestrator.databases.sqlite_replay import SQLiteReplayer
from orchestrator.events import MigrationFinished, MigrationRetried, PlanJudged, ReplayRefused
from orchestrator.rollout.state import Direction
from tests import engine, environments
from tests.integration.replay.conftest import TABLES, MakeFleet
from tests.integration.replay.fleets import Fleet, two_tracks, ways


async def applied(fleet: Fleet, database: str) -> list[str]:
    return sorted(row[0] for row in await fleet.fetch(database, "SELECT revision FROM applied"))


async def test_two_targets_prove_a_plan_a_third_is_replayed_and_then_the_rest(
    project: Path, make_fleet: MakeFleet
) -> None:
    fleet = await make_fleet(7)
    async with fleet.running(project) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": 7}, view.failures
        assert view.executions == {"online": 2, "replay": 5}
        (judged,) = running.of(PlanJudged)
        assert (judged.execution, judged.reason, judged.steps) == ("replay", None, 3)
        assert (await running.rollout()).counts == {"up_to_date": 7}
        assert (await running.rollout("base", direction=Direction.DOWNGRADE)).executions == {"online": 2, "replay": 5}
        for database in fleet.databases:
            assert await fleet.heads(database) == []
            assert await fleet.tables(database) == {"alembic_version"}
        assert (await running.rollout()).executions == {"online": 2, "replay": 5}
    for database in fleet.databases:
        assert (await fleet.heads(database), await applied(fleet, database)) == (["gamma"], TABLES)


SESSION = {"sqlite": "PRAGMA foreign_keys = ON", "mysql": "SET SESSION foreign_key_checks = 0"}
LISTENS = """
from sqlalchemy import event
from sqlalchemy.engine import Engine


@event.listens_for(Engine, "connect")
def set_up(connection, record):
    {body}
"""


def listening(project: Path, name: str, body: str) -> None:
    """An env.py that imports a module of the application, which sets up each connection past SQLAlchemy."""
    (project / f"{name}.py").write_text(LISTENS.format(body=body))
    env = project / "alembic" / "env.py"
    env.write_text(f"import sys\nsys.path.insert(0, {str(project)!r})\nimport {name}\n{env.read_text()}")


async def test_what_env_py_sets_in_its_session_is_found_out(project: Path, make_fleet: MakeFleet) -> None:
    fleet = await make_fleet(5)
    sets = f"cursor = connection.cursor(); cursor.execute({SESSION[fleet.dialect]!r}); cursor.close()"
    listening(project, f"keys_of_{fleet.dialect}", sets)
    async with fleet.running(project) as running:
        assert (await running.rollout()).executions == {"online": 5}
        (judged,) = running.of(PlanJudged)
        assert (judged.execution, judged.differs) == ("online", True)
        assert "env.py's sessions have foreign_key" in judged.reason


async def test_what_env_py_sends_besides_is_found_out(project: Path, make_fleet: MakeFleet) -> None:
    fleet = await make_fleet(5)
    env = project / "alembic" / "env.py"
    head, online, tail = env.read_text().rpartition("def run_migrations_online")
    more = "connection.exec_driver_sql('CREATE TABLE IF NOT EXISTS more (a int)'); connection.commit()\n        "
    begins = "with context.begin_transaction():"
    env.write_text(head + (online + tail).replace(begins, more + begins))
    async with fleet.running(project) as running:
        assert (await running.rollout()).executions == {"online": 5}
        assert "env.py sends SQL of its own: CREATE TABLE IF NOT EXISTS more" in running.of(PlanJudged)[0].reason


async def test_tenants_that_are_not_alike_go_online_and_the_difference_is_told(
    project: Path, make_fleet: MakeFleet
) -> None:
    fleet = await make_fleet(5)
    for number, database in enumerate(fleet.databases):
        columns = "b int, a int" if number % 2 else "a int, b int"
        await fleet.execute(
            database,
            "CREATE TABLE alembic_version (version_num varchar(32) NOT NULL PRIMARY KEY)",
            f"CREATE TABLE mine ({columns})",
        )
    async with fleet.running(project, {"max_concurrent": 1}) as running:
        assert (await running.rollout()).executions == {"online": 5}
        (judged,) = running.of(PlanJudged)
        assert (judged.execution, judged.differs) == ("online", True)
        assert "differ from each other: only in the first: " in judged.reason
        assert "mine" in judged.reason


async def test_a_plan_that_reads_the_database_goes_online_for_that_reason(project: Path, make_fleet: MakeFleet) -> None:
    for name in TABLES[1:]:
        (project / "alembic" / "versions" / f"{name}.py").unlink()
    environments.add_revision(project, "asks", "alpha", "sa.inspect(op.get_bind()).get_table_names()")
    fleet = await make_fleet(5)
    async with fleet.running(project) as running:
        assert (await running.rollout()).executions == {"online": 2, "mixed": 3}
        assert running.of(PlanJudged)[0].execution == "mixed"
    for database in fleet.databases:
        assert (await fleet.heads(database), await applied(fleet, database)) == (["asks"], ["alpha"])


async def test_sql_and_env_py_take_turns(project: Path, make_fleet: MakeFleet) -> None:
    environments.add_revision(project, "asks", "gamma", "assert op.get_bind().scalar(sa.text('SELECT 1')) == 1")
    environments.add_revision(project, "omega", "asks", "op.execute(\"INSERT INTO applied VALUES ('omega')\")")
    fleet = await make_fleet(1)
    async with fleet.replaying(project) as running:
        assert (await running.rollout(select="tenant=t000")).executions == {"mixed": 1}
    database = fleet.databases[0]
    assert (await fleet.heads(database), await applied(fleet, database)) == (["omega"], [*TABLES, "omega"])


ODD = """import decimal
class Sealed(sa.types.UserDefinedType):
    cache_ok = True
    def bind_processor(self, dialect): return lambda value: f"sealed {value}"
t = sa.table("t", sa.column("j", sa.JSON()), sa.column("n", sa.Numeric(38, 6)), sa.column("x", sa.Numeric(38)),
    sa.column("s", Sealed()), sa.column("a", sa.Integer))
"""
VALUES = {
    "JSON's null": "op.bulk_insert(t, [{'j': None}])",
    "an exponent": "op.bulk_insert(t, [{'n': decimal.Decimal('1.234567890123456789E+20')}])",
    "a number that becomes another": "op.bulk_insert(t, [{'x': 2 ** 53 + 1}])",
    "a number as text": "op.bulk_insert(sa.table('t', sa.column('s', sa.Numeric())), [{'s': 5}])",
    "a type's own nothing": "op.bulk_insert(t, [{'s': None}])",
    "a column's place": "op.get_bind().execute("
    "sa.text('INSERT INTO t (n, x) SELECT a, b FROM u ORDER BY :n, a LIMIT 1'), {'n': 2})",
}


@pytest.mark.parametrize("value", VALUES)
async def test_values_that_no_literal_means_come_to_the_same(value: str, tmp_path: Path, make_fleet: MakeFleet) -> None:
    fleet, project = await make_fleet(2), tmp_path / "values"
    environments.make_project(project)
    columns = "a int, j varchar(9), n decimal(38, 6), x decimal(38), s varchar(40)"
    body = f"""op.execute('CREATE TABLE t ({columns})')
op.execute('CREATE TABLE u (a int, b int)')
op.execute('INSERT INTO u VALUES (1, 9), (2, 8)')"""
    environments.add_revision(project, "tables", None, body)
    environments.add_revision(project, "values", "tables", f"{ODD}{VALUES[value]}")
    await comes_to_the_same(fleet, project)


KEYS = """op.create_table("parents", sa.Column("id", sa.Integer, primary_key=True), sa.Column("a", sa.String(9)))
op.create_table("children", sa.Column("id", sa.Integer, primary_key=True), sa.Column("parent", sa.Integer),
    sa.ForeignKeyConstraint(["parent"], ["parents.id"], ondelete="CASCADE"))
op.execute("INSERT INTO parents VALUES (1, 'a')")
op.execute("INSERT INTO children VALUES (1, 1)")"""
ASKS = "op.get_bind().scalar(sa.text('SELECT 1'))"


def make_keys(project: Path, *bodies: str) -> None:
    """A history of two tables with a foreign key, and what revisions do with them."""
    environments.make_project(project)
    for number, body in enumerate((KEYS, *bodies)):
        environments.add_revision(project, f"r{number}", f"r{number - 1}" if number else None, body)


async def test_the_row_that_was_inserted_last_is_asked_of_the_session_that_did(
    tmp_path: Path, make_fleet: MakeFleet
) -> None:
    fleet, project = await make_fleet(2), tmp_path / "session"
    last = {"sqlite": "last_insert_rowid()", "mysql": "LAST_INSERT_ID()"}[fleet.dialect]
    inserts = f"{ASKS}\nop.execute(\"INSERT INTO parents VALUES (NULL, 'b')\")"
    make_keys(project, inserts, f"op.execute('INSERT INTO children (parent) VALUES ({last})')")
    await comes_to_the_same(fleet, project)


async def comes_to_the_same(fleet: Fleet, project: Path) -> list[str]:
    """By env.py, and where what can be is replayed; how the two were run."""
    async with engine.running(two_tracks(fleet, project)) as running:
        for track, tenant in (("online", "one"), ("replay", "two")):
            view = await running.rollout("heads", track=track, select=f"tenant={tenant}")
            assert view.counts == {"succeeded": 1}, view.failures
        found = [event.execution for event in running.of(MigrationFinished)]
    online, replayed = [await fleet.content(database) for database in fleet.databases]
    assert replayed == online
    return found


# Goes through in env.py's session and not in one without its settings.
REFUSED = {
    "sqlite": "op.execute(\"INSERT INTO applied VALUES (only_there('delta'))\")",
    "mysql": "op.execute(\"INSERT INTO applied VALUES ('delta is longer than forty characters, which is refused')\")",
}
LETS = {
    "sqlite": "connection.create_function('only_there', 1, lambda text: text)",
    "mysql": "cursor = connection.cursor(); cursor.execute(\"SET SESSION sql_mode = ''\"); cursor.close()",
}


async def test_what_the_server_refuses_is_given_to_env_py(project: Path, make_fleet: MakeFleet) -> None:
    fleet = await make_fleet(2)
    environments.add_revision(project, "delta", "gamma", REFUSED[fleet.dialect])
    listening(project, f"lets_{fleet.dialect}", LETS[fleet.dialect])
    async with fleet.replaying(project) as running:
        view = await running.rollout(select="tenant=t000")
        assert view.executions == {"fallback": 1}, view.failures
        assert ways(running) == {"t000": "fallback"}
        (told,) = running.of(ReplayRefused)
        assert "revision delta: " in told.message
        exposition = running.parts.metrics.render()[0].decode()
        assert 'orchestrator_replay_fallbacks_total{shard="shard",track="app"} 1.0' in exposition
    database = fleet.databases[0]
    assert await fleet.heads(database) == ["delta"]
    assert [name[:5] for name in await applied(fleet, database)] == ["alpha", "beta", "delta", "gamma"], "each once"


@pytest.mark.parametrize("table", ["alembic_version", 'ver "sion" `x` %s of {tenant}', "select"])
async def test_any_name_of_a_version_table_will_do(table: str, project: Path, make_fleet: MakeFleet) -> None:
    fleet = await make_fleet(5)
    async with fleet.running(project, version_table=table) as running:
        assert (await running.rollout("beta")).counts == {"succeeded": 5}
        assert (await running.rollout()).counts == {"succeeded": 5}
        assert [(one.execution, one.reason) for one in running.of(PlanJudged)] == [("replay", None)] * 2
    for number, database in enumerate(fleet.databases):
        assert await fleet.heads(database, table.format(tenant=f"t{number:03}")) == ["gamma"]


async def test_a_history_with_branches_is_replayed(project: Path, make_fleet: MakeFleet) -> None:
    environments.add_revision(project, "left", "gamma", "op.execute('CREATE TABLE l (a int)')")
    environments.add_revision(project, "right", "gamma", "pass")
    fleet = await make_fleet(5)
    async with fleet.running(project) as running:
        assert (await running.rollout("heads")).counts == {"succeeded": 5}
        assert await fleet.heads(fleet.databases[4]) == ["left", "right"]
        environments.add_revision(project, "joined", ("left", "right"), "op.execute('CREATE TABLE j (a int)')")
        assert (await running.rollout("head")).counts == {"succeeded": 5}
        assert [judged.execution for judged in running.of(PlanJudged)] == ["replay", "replay"]
    for database in fleet.databases:
        assert await fleet.heads(database) == ["joined"]


async def test_what_comes_before_and_after_a_backfill_is_replayed_and_no_step_passes_its_checkpoint_unseen(
    project: Path, make_fleet: MakeFleet
) -> None:
    fills = "op.execute('INSERT INTO alpha VALUES (1), (2)')\nop.add_column('alpha', sa.Column('n', sa.Integer))"
    environments.add_revision(project, "adds", "gamma", fills, "op.drop_column('alpha', 'n')")
    environments.add_revision(project, "fills", "adds", "op.backfill('alpha', {'n': 'id * 10'})")
    environments.add_revision(project, "after", "fills", "op.execute(\"INSERT INTO applied VALUES ('after')\")")
    fleet = await make_fleet(1)
    (database,) = fleet.databases
    only = {"select": "tenant=t000"}
    async with fleet.replaying(project) as running:
        view = await running.rollout(**only)
        assert view.counts == {"succeeded": 1}, view.failures
        ran = (await running.migrations(view))["t000"]
        assert ran.execution == "backfill"
        assert running.of(PlanJudged)[0].execution == "mixed"
        assert await fleet.fetch(database, "SELECT id, n FROM alpha ORDER BY id") == [(1, 10), (2, 20)]
        down = await running.rollout("gamma", direction=Direction.DOWNGRADE, **only)
        assert (down.counts, down.executions) == ({"succeeded": 1}, {"online": 1})
        await fleet.execute(database, "DELETE FROM alpha")
        again = await running.rollout(**only)
        assert again.counts == {"succeeded": 1}, again.failures
        assert await fleet.fetch(database, "SELECT id, n FROM alpha ORDER BY id") == [(1, 10), (2, 20)], "filled anew"


@pytest.mark.parametrize("template", ["generic", "async"])
async def test_an_asynchronous_env_py_is_proved_too(
    template: environments.Template, tmp_path: Path, make_fleet: MakeFleet
) -> None:
    project, fleet = tmp_path / "of its own", await make_fleet(4)
    environments.make_project(project, template)
    environments.add_tables(project, TABLES)
    async with fleet.running(project) as running:
        assert (await running.rollout()).executions == {"online": 2, "replay": 2}


@pytest.mark.parametrize("provisioned", [True, False])
async def test_a_version_table_that_somebody_changes_meanwhile_is_read_again(
    provisioned: bool, project: Path, make_fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = await make_fleet(1)
    (database,) = fleet.databases
    kind: Any = SQLiteReplayer if fleet.dialect == "sqlite" else MySQLReplayer
    replay = kind.replay
    calls: list[Any] = []
    changes = [
        "CREATE TABLE beta (id int)",
        "INSERT INTO applied VALUES ('beta')",
        "UPDATE alembic_version SET version_num = 'beta'",
    ]
    makes = [
        "CREATE TABLE alembic_version (version_num varchar(32) NOT NULL PRIMARY KEY)",
        "CREATE TABLE applied (revision varchar(40) NOT NULL)",
        "CREATE TABLE alpha (id int)",
        "INSERT INTO applied VALUES ('alpha')",
        "INSERT INTO alembic_version VALUES ('alpha')",
    ]

    async def after_a_person(self: Any, *arguments: Any) -> None:
        if not calls:
            await fleet.execute(database, *([] if provisioned else makes), *changes)
        calls.append(arguments)
        await replay(self, *arguments)

    async with fleet.replaying(project) as running:
        if provisioned:
            await running.rollout("alpha", select="tenant=t000")
        monkeypatch.setattr(kind, "replay", after_a_person)
        view = await running.rollout(select="tenant=t000")
        assert view.counts == {"succeeded": 1}, view.failures
        (retried,) = running.of(MigrationRetried)
        assert retried.reason == "contention"
        assert "the version table changed since the plan was made" in retried.message
        assert running.of(ReplayRefused) == []
        assert len(calls) == 2
    assert (await fleet.heads(database), await applied(fleet, database)) == (["gamma"], TABLES)
