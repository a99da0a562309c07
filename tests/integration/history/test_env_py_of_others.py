"""Kinds of env.py that people have, each as it is, several tenants at a time, against PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.databases.embedded import Server
from orchestrator.history.findings import EnvPy
from orchestrator.registry.model import Target, Track
from tests import engine, environments
from tests.servers import MakeDatabases

TENANTS = 8
TABLES = ["alpha", "beta"]

HEAD = """
import sqlalchemy as sa
from alembic import context
from sqlalchemy import engine_from_config, pool
config = context.config
def made():
    return engine_from_config(config.get_section(config.config_ini_section, {}), "sqlalchemy.", poolclass=pool.NullPool)
"""

# How Alembic's cookbook shares a connection, in the forms that projects have made of it.
RECIPE = """
connectable = config.attributes.get("connection", None)
if connectable is None:
    raise SystemExit("the engine of its own would do as well, but there is one")
context.configure(connection=connectable)
with context.begin_transaction():
    context.run_migrations()
"""
ONLY_THE_CONNECTION = """
context.configure(connection=config.attributes["connection"])
context.run_migrations()
"""
FALLBACK = """
if "connection" in config.attributes:
    connection = config.attributes["connection"]
    with connection.begin():
        context.configure(connection=connection, transactional_ddl=True)
        context.run_migrations()
else:
    with made().connect() as connection:
        context.configure(connection=connection)
        with context.begin_transaction():
            context.run_migrations()
"""
ITS_ENGINE = """
connection = config.attributes.get("connection")
engine = made() if connection is None else connection.engine
with engine.connect() as connection:
    context.configure(connection=connection, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
"""
AS_AN_ENGINE = """
connectable = config.attributes.get("connection", None) or made()
with connectable.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""
ASYNC_OR_GIVEN = """
import asyncio
from sqlalchemy.ext.asyncio import async_engine_from_config
def run(connection):
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
async def run_async():
    engine = async_engine_from_config(config.get_section(config.config_ini_section, {}), "sqlalchemy.")
    async with engine.connect() as connection:
        await connection.run_sync(run)
given = config.attributes.get("connection", None)
if given is None:
    asyncio.run(run_async())
else:
    run(given)
"""


def ordinary(options: str, before: str = "", inside: str = "") -> str:
    return f"""
{before}
with made().connect() as connection:
    {inside or "pass"}
    context.configure(connection=connection, {options})
    with context.begin_transaction():
        context.run_migrations()
"""


def project(folder: Path, env_py: str, revisions: Sequence[str] = TABLES, **fields: Any) -> Track:
    config = environments.make_project(folder)
    (folder / "alembic" / "env.py").write_text(HEAD + env_py)
    environments.add_tables(folder, revisions)
    return environments.track_of(config, **fields)


class Fleet:
    """The tenants of a test, each in a database of its own."""

    def __init__(self, pg: Server, databases: Sequence[str]) -> None:
        self.pg, self.targets = pg, engine.targets_of(databases)

    def placed(self, **fields: str) -> None:
        """Let the registry say more of each target; `{tenant}` stands for its id."""
        self.targets = [
            replace(one, **{key: text.format(tenant=one.tenant) for key, text in fields.items()})  # type: ignore[arg-type]
            for one in self.targets
        ]

    async def to_head(self, track: Track) -> EnvPy:
        """All targets come to head, two revisions each; a second rollout finds nothing to do."""
        registry = engine.registry_of([track], [engine.shard_of(self.pg)], self.targets)
        async with engine.running(registry) as running:
            view = await running.rollout()
            assert view.counts == {"succeeded": len(self.targets)}, view.failures
            assert (await running.rollout()).counts == {"up_to_date": len(self.targets)}
            return (await running.parts.histories.current(registry, track)).env_py

    async def each(self, query: str) -> list[list[tuple[Any, ...]]]:
        return [await engine.fetch(self.pg, target.database, query) for target in self.targets]

    async def check_applied(self, version_table: str = "alembic_version", revisions: Sequence[str] = TABLES) -> None:
        for target in self.targets:
            name = version_table.format(tenant=target.tenant)
            found = await engine.fetch(self.pg, target.database, f'SELECT version_num FROM "{name}"')
            assert found == [(revisions[-1],)]
            applied = await engine.fetch(self.pg, target.database, "SELECT revision FROM applied ORDER BY revision")
            assert [revision for (revision,) in applied] == list(revisions)


@pytest.fixture
async def fleet(pg: Server, make_databases: MakeDatabases) -> Fleet:
    return Fleet(pg, await make_databases(TENANTS))


@pytest.mark.parametrize(
    "env_py",
    [RECIPE, ONLY_THE_CONNECTION, FALLBACK, ITS_ENGINE, AS_AN_ENGINE, ASYNC_OR_GIVEN],
    ids=["recipe", "only", "fallback", "engine", "as_engine", "async"],
)
async def test_env_py_takes_its_connection_from_the_attributes(env_py: str, fleet: Fleet, tmp_path: Path) -> None:
    look = "op.execute(\"INSERT INTO applied SELECT current_setting('application_name')\")"
    track = project(tmp_path, env_py)
    environments.add_revision(tmp_path, "look", "beta", look)
    found = await fleet.to_head(track)
    assert found.problem is None
    assert found.takes_connection
    names = [rows[0][0] for rows in await fleet.each("SELECT revision FROM applied WHERE revision LIKE 'orch%'")]
    assert all(name.startswith("orchestrator ") and "guard" not in name for name in names), "our settings"


async def test_a_failure_on_the_connection_that_was_handed_out_leaves_nothing(fleet: Fleet, tmp_path: Path) -> None:
    track = project(tmp_path, ONLY_THE_CONNECTION)
    environments.add_revision(tmp_path, "bad", "beta", 'op.execute("SELECT no_such_column")')
    registry = engine.registry_of([track], [engine.shard_of(fleet.pg)], fleet.targets)
    async with engine.running(registry) as running:
        view = await running.rollout()
    assert view.counts == {"failed": TENANTS}
    assert await fleet.each("SELECT to_regclass('alpha')::text") == [[(None,)]] * TENANTS


async def test_env_pys_own_version_table_wins(fleet: Fleet, tmp_path: Path) -> None:
    fleet.placed(version_table="of_the_registry")
    track = project(tmp_path, ordinary("version_table='of_env_py'"), version_table="of_the_registry")
    found = await fleet.to_head(track)
    assert found.version_table == ("of_env_py",)
    await fleet.check_applied("of_env_py")
    assert await fleet.each("SELECT to_regclass('of_the_registry')::text") == [[(None,)]] * TENANTS


async def test_env_pys_own_version_table_with_the_tenant_in_it_wins(fleet: Fleet, tmp_path: Path) -> None:
    tenant = 'tenant = context.get_x_argument(as_dictionary=True)["tenant"]'
    track = project(tmp_path, ordinary("version_table=f'versions_{tenant}'", tenant))
    found = await fleet.to_head(track)
    assert (found.version_table, found.arguments) == (("versions_", ""), ("tenant",))
    await fleet.check_applied("versions_{tenant}")


async def test_env_pys_own_schema_of_the_version_table_wins(fleet: Fleet, tmp_path: Path) -> None:
    inside = "connection.execute(sa.text('CREATE SCHEMA IF NOT EXISTS bookkeeping')); connection.commit()"
    found = await fleet.to_head(project(tmp_path, ordinary("version_table_schema='bookkeeping'", inside=inside)))
    assert found.version_table_schema == ("bookkeeping",)
    assert found.sends_sql
    assert await fleet.each("SELECT version_num FROM bookkeeping.alembic_version") == [[("beta",)]] * TENANTS


async def test_a_name_that_cannot_be_told_beforehand_is_refused_unless_the_registry_has_it(
    fleet: Fleet, tmp_path: Path
) -> None:
    tenant = 'tenant = context.get_x_argument(as_dictionary=True)["tenant"].upper()'
    track = project(tmp_path, ordinary("version_table=f'V_{tenant}'", tenant))
    registry = engine.registry_of([track], [engine.shard_of(fleet.pg)], fleet.targets)
    async with engine.running(registry) as running:
        view = await running.rollout()
        assert view.counts == {"failed": TENANTS}
        failure = next(iter((await running.migrations(view)).values())).failure
    assert failure is not None
    assert "env.py sets version_table='V_T000', but the heads were read from 'alembic_version'" in failure.message
    assert failure.remedy == "set `version_table` on track 'app' to what env.py makes; {tenant} may stand in it"
    assert await fleet.each("SELECT to_regclass('applied')::text") == [[(None,)]] * TENANTS
    fleet.targets = [replace(one, version_table=f"V_{one.tenant.upper()}") for one in fleet.targets]
    await fleet.to_head(track)


async def test_two_tenants_that_env_py_gives_one_version_table_are_an_error_before_anything_runs(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    [database] = await make_databases(1)
    targets = [Target(name, "app", "pg", database, version_table=f"v_{name}") for name in ("acme", "globex")]
    track = project(tmp_path, ordinary("version_table='one_for_all'"), version_table="v_{tenant}")
    registry = engine.registry_of([track], [engine.shard_of(pg)], targets)
    async with engine.running(registry) as running:
        with pytest.raises(Exception, match="acme/app and globex/app would share the version table 'one_for_all'"):
            await running.rollout()
    assert await engine.fetch(pg, database, "SELECT to_regclass('one_for_all')::text") == [(None,)]


INCLUDE = """
def include_object(object, name, type_, reflected, compare_to):
    return not (type_ == "table" and name == "legacy")
def include_name(name, type_, parents):
    return True
def render_item(type_, obj, autogen_context):
    return False
"""


async def test_what_only_concerns_autogenerate_is_left_alone(fleet: Fleet, tmp_path: Path) -> None:
    options = "include_object=include_object, include_name=include_name, render_item=render_item, compare_type=True"
    found = await fleet.to_head(project(tmp_path, ordinary(options, INCLUDE)))
    assert found.configured == ("compare_type", "include_name", "include_object", "render_item")
    await fleet.check_applied()


async def test_several_metadata_and_a_transaction_for_each_revision(fleet: Fleet, tmp_path: Path) -> None:
    before = "first, second = sa.MetaData(), sa.MetaData()"
    options = "target_metadata=[first, second], transaction_per_migration=True"
    track = project(tmp_path, ordinary(options, before))
    environments.add_revision(
        tmp_path,
        "gamma",
        "beta",
        "with op.get_context().autocommit_block():\n    op.execute('CREATE INDEX CONCURRENTLY ix ON alpha (id)')\n"
        "op.execute(\"INSERT INTO applied VALUES ('gamma')\")",
    )
    found = await fleet.to_head(track)
    assert (found.metadata, found.transaction_per_migration) == (2, True)
    await fleet.check_applied(revisions=["alpha", "beta", "gamma"])


async def test_callbacks_of_env_py_are_called_for_each_revision(fleet: Fleet, tmp_path: Path) -> None:
    before = """
def note(ctx, step, heads, run_args):
    ctx.connection.execute(sa.text("CREATE TABLE IF NOT EXISTS noted (revision text)"))
    ctx.connection.execute(sa.text("INSERT INTO noted VALUES (:r)"), {"r": step.up_revision_id})
"""
    found = await fleet.to_head(project(tmp_path, ordinary("on_version_apply=note", before)))
    assert "on_version_apply" in found.configured
    assert await fleet.each("SELECT revision FROM noted ORDER BY 1") == [[("alpha",), ("beta",)]] * TENANTS


OPERATION = """
from alembic.operations import MigrateOperation, Operations
@Operations.register_operation("create_counter")
class CreateCounter(MigrateOperation):
    def __init__(self, name):
        self.name = name
    @classmethod
    def create_counter(cls, operations, name):
        return operations.invoke(cls(name))
@Operations.implementation_for(CreateCounter)
def create_counter(operations, operation):
    operations.execute(f"CREATE SEQUENCE {operation.name}")
"""


async def test_operations_of_the_project_and_an_application_beside_env_py(fleet: Fleet, tmp_path: Path) -> None:
    package = tmp_path / "shop_of_a_test"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "operations.py").write_text(OPERATION)
    (package / "models.py").write_text("import sqlalchemy as sa\nmetadata = sa.MetaData()\n")
    before = "from shop_of_a_test import operations\nfrom shop_of_a_test.models import metadata"
    track = project(tmp_path, ordinary("target_metadata=metadata", before))
    environments.add_revision(tmp_path, "gamma", "beta", 'op.create_counter("orders")')
    found = await fleet.to_head(track)
    assert (found.imports, found.metadata) == (("shop_of_a_test",), 1)
    assert await fleet.each("SELECT nextval('orders')::int") == [[(1,)]] * TENANTS


async def test_env_py_opens_more_than_one_connection(fleet: Fleet, tmp_path: Path) -> None:
    before = """
with made().begin() as first:
    first.execute(sa.text("CREATE SCHEMA IF NOT EXISTS extra"))
other = made().connect()
"""
    text = ordinary("", before, "other.execute(sa.text('SELECT 1')).scalar()") + "\nother.close()\n"
    found = await fleet.to_head(project(tmp_path, text))
    assert found.connections == 3
    await fleet.check_applied()


async def test_more_x_arguments_than_we_give_are_told_of_and_taken_for_not_given(fleet: Fleet, tmp_path: Path) -> None:
    before = """
given = context.get_x_argument(as_dictionary=True)
assert given.get("dry_run") is None
"""
    found = await fleet.to_head(project(tmp_path, ordinary("", before)))
    assert found.arguments == ("dry_run",)
    await fleet.check_applied()
