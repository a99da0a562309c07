"""A schema per tenant: told apart on every connection, made on request, read together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from orchestrator.databases.base import Limits, Place
from orchestrator.databases.embedded import Server
from orchestrator.databases.postgresql import PostgreSQL
from orchestrator.databases.quoting import quoted
from orchestrator.errors import TargetError
from orchestrator.events import MigrationRetried, PlanJudged
from orchestrator.registry.model import Execution, Heads, Target
from orchestrator.rollout.state import Direction, MigrationState, Request
from tests import engine, environments
from tests.environments import Template
from tests.servers import MakeDatabases

TABLES = ["alpha", "beta", "gamma"]
MADE = ["alembic_version", "alpha", "applied", "beta", "gamma"]
ODD = ["plain", "With Capitals", 'it\'s "quoted"', "semi;colon -- %(x)s {y}", "ü" * 31, "x" * 63]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    environments.make_project(tmp_path / "project")
    environments.add_tables(tmp_path / "project", TABLES)
    return tmp_path / "project"


def _targets(database: str, schemas: Sequence[str], *, create: bool = True) -> list[Target]:
    return [
        Target(f"t{number:03}", "app", "pg", database, schema=schema, create_schema=create)
        for number, schema in enumerate(schemas)
    ]


async def _tables(pg: Server, database: str) -> Mapping[str, list[str]]:
    """Tables by schema."""
    rows = await engine.fetch(
        pg,
        database,
        "SELECT schemaname::text, array_agg(tablename::text ORDER BY 1) FROM pg_tables "
        "WHERE schemaname !~ '^pg_' AND schemaname <> 'information_schema' GROUP BY 1",
    )
    return {schema: sorted(tables) for schema, tables in rows}


async def _heads(pg: Server, database: str, schemas: Sequence[str]) -> list[list[str]]:
    found = []
    for schema in schemas:
        table = f"{quoted(schema)}.alembic_version"
        found.append([row[0] for row in await engine.fetch(pg, database, f"SELECT version_num FROM {table}")])
    return found


@pytest.mark.parametrize("template", ["generic", "async"])
async def test_schemas_with_odd_names_are_made_and_migrated_side_by_side(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path, template: Template
) -> None:
    (database,) = await make_databases(1)
    config = environments.make_project(tmp_path / "project", template)
    environments.add_tables(tmp_path / "project", TABLES, before_each="time.sleep(random.random() / 50)")
    schemas = [*ODD, *(f"Tenant {number}" for number in range(24))]
    registry = engine.registry_of(
        [environments.track_of(config)], [engine.shard_of(pg, max_concurrent=8)], _targets(database, schemas)
    )
    async with engine.running(registry) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": len(schemas)}
        assert await _heads(pg, database, schemas) == [["gamma"]] * len(schemas)
        assert await _tables(pg, database) == dict.fromkeys(schemas, MADE)
        ledgers = [
            await engine.fetch(pg, database, f"SELECT revision FROM {quoted(schema)}.applied") for schema in schemas
        ]
        assert ledgers == [[("alpha",), ("beta",), ("gamma",)]] * len(schemas), "each revision once, in its own schema"
        down = await running.rollout("-1", direction=Direction.DOWNGRADE)
        assert down.counts == {"succeeded": len(schemas)}
        assert await _heads(pg, database, schemas) == [["beta"]] * len(schemas)
        again = await running.rollout()
        assert again.counts == {"succeeded": len(schemas)}
        assert (await running.rollout()).counts == {"up_to_date": len(schemas)}


async def test_schemas_are_proved_and_replayed(pg: Server, make_databases: MakeDatabases, project: Path) -> None:
    (database,) = await make_databases(1)
    track = environments.track_of(project / "alembic.ini", execution="auto")
    schemas = [*ODD, *(f"Tenant {number}" for number in range(10))]
    registry = engine.registry_of([track], [engine.shard_of(pg)], _targets(database, schemas))
    async with engine.running(registry) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": len(schemas)}
        [judged] = running.of(PlanJudged)
        assert judged.execution == "replay", judged.reason
        assert view.executions["replay"] >= len(schemas) - 6
    assert await _heads(pg, database, schemas) == [["gamma"]] * len(schemas)
    assert await _tables(pg, database) == dict.fromkeys(schemas, MADE)


async def test_a_missing_schema_is_told_with_the_remedy(
    pg: Server, make_databases: MakeDatabases, project: Path
) -> None:
    (database,) = await make_databases(1)
    await engine.execute(pg, database, "CREATE SCHEMA there")
    registry = engine.registry_of(
        [environments.track_of(project / "alembic.ini")],
        [engine.shard_of(pg)],
        _targets(database, ["there", "missing"], create=False),
    )
    async with engine.running(registry) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": 1, "unreachable": 1}
        failure = (await running.migrations(view))["t001"].failure
        assert failure is not None
        assert failure.kind == "missing_schema"
        assert failure.message.startswith("there is no schema 'missing' in database")
        assert "create: true" in str(failure.remedy)
        await running.service.survey.once()
        states = {view.target.tenant: (view.state.value, view.message) for view in running.service.targets()}
        assert states["t000"] == ("up_to_date", None)
        assert states["t001"][0] == "unreachable"
        assert "no schema 'missing'" in str(states["t001"][1])
    assert "public" not in await _tables(pg, database), "nothing was made in the default schema"


async def test_an_env_py_that_sets_another_search_path_is_refused(
    pg: Server, make_databases: MakeDatabases, project: Path
) -> None:
    """Alembic's recipe sets the search path to `-x tenant`; where that is another tenant's schema, it must not run."""
    (database,) = await make_databases(1)
    await engine.execute(pg, database, "CREATE SCHEMA t000", "CREATE SCHEMA other")
    env = project / "alembic" / "env.py"
    line = "with connectable.connect() as connection:\n"
    assert line in env.read_text()
    recipe = (
        "        tenant = context.get_x_argument(as_dictionary=True)['tenant']\n"
        "        connection.exec_driver_sql('SET search_path TO \"%s\"' % tenant)\n"
        "        connection.commit()\n"
    )
    env.write_text(env.read_text().replace(line, line + recipe))
    targets = _targets(database, ["t000", "other"], create=False)
    registry = engine.registry_of([environments.track_of(project / "alembic.ini")], [engine.shard_of(pg)], targets)
    async with engine.running(registry) as running:
        view = await running.rollout()
        migrations = await running.migrations(view)
        assert view.counts == {"succeeded": 1, "failed": 1}
        failure = migrations["t001"].failure
        assert failure is not None
        assert failure.kind == "wrong_database"
        assert "works in schema None; this target's is 'other'" in failure.message
        assert "leave the search path alone" in str(failure.remedy)


async def test_the_lock_is_the_schemas_own(pg: Server, make_databases: MakeDatabases) -> None:
    (database,) = await make_databases(1)
    await engine.execute(pg, database, "CREATE SCHEMA a", "CREATE SCHEMA b")
    first, second = (_place(pg, target) for target in _targets(database, ["a", "b"]))
    kinds = PostgreSQL()
    async with kinds.guard(first), kinds.guard(second):
        with pytest.raises(TargetError, match="another migration holds the lock"):
            async with kinds.guard(replace(first, limits=Limits(lock_wait=0.1))):
                pass


def _place(pg: Server, target: Target) -> Place:
    return Place(target, make_url(pg.url(target.database)), Limits())


async def _read(pg: Server, targets: Sequence[Target]) -> dict[str, Heads | TargetError | None]:
    found: dict[str, Heads | TargetError | None] = {}

    def tell(target: Target, heads: Heads | None, exc: TargetError | None) -> None:
        assert target.tenant not in found, "each is told once"
        found[target.tenant] = exc or heads

    await PostgreSQL().read_many([_place(pg, target) for target in targets], tell)
    return found


async def test_heads_of_many_schemas_are_read_in_slices_of_one_session(
    pg: Server, make_databases: MakeDatabases
) -> None:
    (database,) = await make_databases(1)
    names = [f"s{number}" for number in range(1201)]
    made = [
        f"CREATE SCHEMA {name}; CREATE TABLE {name}.alembic_version (version_num varchar(32) NOT NULL);"
        f"INSERT INTO {name}.alembic_version VALUES ('{name}'), ('a')"
        for name in names
    ]
    for start in range(0, len(made), 200):
        await engine.execute(pg, database, ";".join(made[start : start + 200]))
    await engine.execute(pg, database, "DROP TABLE s7.alembic_version", "TRUNCATE s8.alembic_version")
    await engine.execute(pg, database, "SELECT pg_stat_reset()")
    found = await _read(pg, _targets(database, names))
    expected: dict[str, Heads | None] = {f"t{n:03}": tuple(sorted(("a", name))) for n, name in enumerate(names)}
    assert found == {**expected, "t007": None, "t008": ()}


async def test_what_is_wrong_with_one_schema_is_told_of_it_alone(pg: Server, make_databases: MakeDatabases) -> None:
    (database,) = await make_databases(1)
    names = ["good", "locked", "odd", "missing", "also good"]
    for name in ("good", "locked", "also good"):
        await engine.execute(
            pg,
            database,
            f"CREATE SCHEMA {quoted(name)}",
            f"CREATE TABLE {quoted(name)}.alembic_version (version_num varchar(32))",
            f"INSERT INTO {quoted(name)}.alembic_version VALUES ('x')",
        )
    await engine.execute(pg, database, "CREATE SCHEMA odd", "CREATE TABLE odd.alembic_version (something int)")
    async with engine.locked_table(pg, database, "locked.alembic_version"):
        found = await _read(pg, _targets(database, names, create=False))
    kinds = {tenant: one.kind if isinstance(one, TargetError) else one for tenant, one in found.items()}
    assert kinds == {
        "t000": ("x",),
        "t001": "locked",
        "t002": "unusable",
        "t003": "missing_schema",
        "t004": ("x",),
    }


async def test_tenants_of_one_database_are_told_apart_by_version_table_alone(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    (database,) = await make_databases(1)
    environments.make_project(tmp_path / "project")
    body = (
        'tenant = context.get_x_argument(as_dictionary=True)["tenant"]\n'
        'op.create_table(f"orders_{tenant}", sa.Column("id", sa.Integer))'
    )
    environments.add_revision(tmp_path / "project", "one", None, body)
    track = environments.track_of(tmp_path / "project" / "alembic.ini", version_table="version of {tenant}")
    targets = [Target(f"t{n}", "app", "pg", database, version_table=f"version of t{n}") for n in range(8)]
    async with engine.running(engine.registry_of([track], [engine.shard_of(pg)], targets)) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": 8}, view.failures
        await running.service.survey.once()
        assert {view.state.value for view in running.service.targets()} == {"up_to_date"}
    assert (await _tables(pg, database))["public"] == sorted(
        [f"orders_t{n}" for n in range(8)] + [f"version of t{n}" for n in range(8)]
    )


@pytest.mark.parametrize("execution", ["online", "replay"])
async def test_extensions_of_another_schema_are_found_and_its_version_table_is_not_taken_for_the_tenants(
    pg: Server, make_databases: MakeDatabases, project: Path, execution: Execution
) -> None:
    (database,) = await make_databases(1)
    await engine.execute(pg, database, "CREATE DOMAIN positive AS int CHECK (value > 0)")
    await engine.provision(pg, database)
    await engine.execute(pg, database, "INSERT INTO alembic_version VALUES ('elsewhere')")
    environments.add_revision(project, "delta", "gamma", "op.execute('CREATE TABLE uses (p positive)')")
    track = environments.track_of(project / "alembic.ini", execution=execution)
    alone = _targets(database, ["alone"])
    targets = [replace(one, search_path=("public",)) for one in _targets(database, ["s", "With Capitals", "t", "u"])]
    async with engine.running(engine.registry_of([track], [engine.shard_of(pg)], targets)) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": 4}, view.failures
        assert ("replay" in view.executions) is (execution == "replay")
    assert await _heads(pg, database, ["s", "With Capitals", "t", "u", "public"]) == [["delta"]] * 4 + [["elsewhere"]]
    assert (await _tables(pg, database))["t"] == [*MADE, "uses"]
    async with engine.running(engine.registry_of([track], [engine.shard_of(pg)], alone)) as running:
        assert (await running.rollout()).counts == {"failed": 1}


async def test_a_revision_that_leaves_its_session_in_another_schema_is_taken_back(
    pg: Server, make_databases: MakeDatabases, project: Path
) -> None:
    (database,) = await make_databases(1)
    await engine.execute(pg, database, "CREATE SCHEMA other")
    sets = "op.execute(\"SELECT set_config('search_path', 'other', false)\")"
    environments.add_revision(project, "sets", "gamma", sets)
    environments.add_revision(project, "delta", "sets", 'op.create_table("delta", sa.Column("id", sa.Integer))')
    targets = [
        *_targets(database, ["a"]),
        replace(_targets(database, ["b"])[0], tenant="t001", search_path=("public",)),
    ]
    track = environments.track_of(project / "alembic.ini")
    async with engine.running(engine.registry_of([track], [engine.shard_of(pg)], targets)) as running:
        view = await running.rollout()
        assert view.counts == {"failed": 2}
        failure = (await running.migrations(view))["t000"].failure
        assert failure is not None
        assert failure.message == "revision sets leaves its session in schema 'other'; this target's is 'a'"
        assert failure.revision == "sets"
        assert "the search path" in str(failure.remedy)
    assert "other" not in await _tables(pg, database)


async def test_an_index_is_built_concurrently_beside_other_tenants_transactions(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    """It waits for every transaction of the database, longer than the lock timeout; and it is built once."""
    (database,) = await make_databases(1)
    config = environments.make_project(tmp_path / "project")
    environments.use_transaction_per_migration(tmp_path / "project")
    environments.add_tables(tmp_path / "project", ["alpha"])
    index = """
    with op.get_context().autocommit_block():
        op.create_index("ix_alpha", "alpha", ["id"], postgresql_concurrently=True, if_not_exists=True)
    """
    environments.add_revision(tmp_path / "project", "index", "alpha", index)
    environments.add_revision(tmp_path / "project", "slow", "index", "op.execute('SELECT pg_sleep(1)')")
    schemas = [f"s{number}" for number in range(6)]
    for execution in ("online", "replay"):
        track = environments.track_of(config, execution=execution)
        targets = _targets(database, [f"{execution} {schema}" for schema in schemas])
        registry = engine.registry_of([track], [engine.shard_of(pg, max_concurrent=3)], targets)
        async with engine.running(registry, lock_timeout_seconds=0.2) as running:
            view = await running.rollout()
            assert view.counts == {"succeeded": 6}, view.failures
            assert running.of(MigrationRetried) == []
    invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"
    assert await engine.fetch(pg, database, invalid) == [(0,)]
    assert await engine.fetch(pg, database, "SELECT count(*) FROM pg_indexes WHERE indexname = 'ix_alpha'") == [(12,)]


async def test_what_was_done_outside_of_transactions_is_told_and_not_done_again(
    pg: Server, make_databases: MakeDatabases, project: Path
) -> None:
    (database,) = await make_databases(1)
    environments.use_transaction_per_migration(project)
    body = """
    with op.get_context().autocommit_block():
        op.execute("CREATE TABLE half (id int)")
        op.execute("ALTER TABLE nowhere ADD COLUMN x int")
    """
    environments.add_revision(project, "delta", "gamma", body)
    environments.add_revision(project, "other", "gamma", "pass")
    track = environments.track_of(project / "alembic.ini")
    async with engine.running(engine.registry_of([track], [engine.shard_of(pg)], _targets(database, ["a"]))) as running:
        view = await running.rollout("delta")
        failure = (await running.migrations(view))["t000"].failure
        assert failure is not None
        assert failure.kind == "half_applied"
        assert "what it did outside of transactions stays (CREATE TABLE half (id int))" in failure.message
        assert "take these statements back by hand" in str(failure.remedy)


async def test_a_schema_that_is_missing_is_not_at_base(
    pg: Server, make_databases: MakeDatabases, project: Path
) -> None:
    (database,) = await make_databases(1)
    registry = engine.registry_of(
        [environments.track_of(project / "alembic.ini")],
        [engine.shard_of(pg)],
        _targets(database, ["gone"], create=False),
    )
    async with engine.running(registry) as running:
        for direction in (Direction.DOWNGRADE, Direction.STAMP):
            assert (await running.rollout("base", direction=direction)).counts == {"unreachable": 1}


async def test_a_row_without_a_revision_is_no_empty_version_table(
    pg: Server, make_databases: MakeDatabases, project: Path
) -> None:
    """Nothing may begin at base there, however the heads are read."""
    (database,) = await make_databases(1)
    await engine.execute(pg, database, "CREATE TABLE alembic_version (version_num text)")
    await engine.execute(pg, database, "INSERT INTO alembic_version VALUES (NULL)")
    place, kinds = _place(pg, Target("t000", "app", "pg", database)), PostgreSQL()
    for _ in range(2):  # the second time, a version table is expected
        with pytest.raises(TargetError, match="has a row without a revision"):
            async with kinds.guard(place) as guard:
                await guard.heads()
        kinds._provisioned = True
    with pytest.raises(TargetError, match="has a row without a revision"):
        await kinds.read_heads(place)


async def test_one_odd_version_table_is_its_own_targets_alone(
    pg: Server, make_databases: MakeDatabases, project: Path
) -> None:
    (database,) = await make_databases(1)
    names = ["good", "null", "both", "view", "number", "also good"]
    tables = {
        "good": "TABLE {} (version_num text); INSERT INTO {} VALUES ('gamma')",
        "null": "TABLE {} (version_num text); INSERT INTO {} VALUES ('gamma'), (NULL)",
        "both": "TABLE {} (version_num text); INSERT INTO {} VALUES ('alpha'), ('gamma')",
        "view": "VIEW {} AS SELECT (1 / 0)::text AS version_num",
        "number": "TABLE {} (version_num int); INSERT INTO {} VALUES (7)",
        "also good": "TABLE {} (version_num text); INSERT INTO {} VALUES ('gamma')",
    }
    for name in names:
        table = f"{quoted(name)}.alembic_version"
        await engine.execute(
            pg, database, f"CREATE SCHEMA {quoted(name)}", f"CREATE {tables[name]}".replace("{}", table)
        )
    registry = engine.registry_of(
        [environments.track_of(project / "alembic.ini")], [engine.shard_of(pg)], _targets(database, names)
    )
    async with engine.running(registry) as running:
        await running.service.survey.once()
        states = [view.state.value for view in running.service.targets()]
        assert states[0] == states[5] == "up_to_date"
        assert (states[1], states[3], states[4]) == ("unreachable", "unreachable", "ahead")
        groups = await running.service.preview(Request("app", "head"))
        assert sum(group.count for group in groups) == 6, "nobody is left out of a plan"
        counts = (await running.rollout()).counts
        assert sum(counts.values()) == 6
        assert counts[MigrationState.UP_TO_DATE] >= 2
