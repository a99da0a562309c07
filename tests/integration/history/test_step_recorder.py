"""What is recorded of a revision that env.py runs, and what is found to be nobody else's, on a real server."""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import event, pool
from sqlalchemy.engine import make_url

from orchestrator.databases.embedded import Server
from orchestrator.history.step_recorder import StepRecorder
from orchestrator.plan.compiled import Mark
from orchestrator.plan.recorded import RecordedStep
from tests import engine
from tests.servers import MakeDatabases

TABLES = """CREATE TABLE users (id int PRIMARY KEY, name text, UNIQUE (name)); INSERT INTO users VALUES (1, 'a');
CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE other (id int PRIMARY KEY, m mood, u int REFERENCES users);
CREATE VIEW seen AS SELECT id FROM users; CREATE SEQUENCE ids; CREATE INDEX ix ON users (lower(name));
COMMENT ON TABLE users IS 'those who use it'"""

Run = Callable[..., RecordedStep]


@pytest.fixture
async def run(pg: Server, make_databases: MakeDatabases) -> Run:
    """Runs the body of a revision on a database that has some tables, and tells what was recorded of it."""
    (database,) = await make_databases(1)
    await engine.execute(pg, database, TABLES)
    url = make_url(pg.url(database)).set(drivername="postgresql+psycopg")

    def run(body: str, *, schema: str | None = None, module: str = "a_revision") -> RecordedStep:
        made = sa.create_engine(url, poolclass=pool.NullPool)
        recorder = StepRecorder(schema, "SELECT 'a line'")
        with suppress(_Undone), made.connect() as connection:
            context = MigrationContext.configure(connection)
            event.listen(connection, "before_cursor_execute", lambda *told: recorder.sends(id(told[0]), told[2]))
            event.listen(connection, "commit", lambda connection: recorder.ends())
            recorder.attach(context)
            with context.begin_transaction():
                recorder.following("r", _function(body, Operations(context), module), None)()
                raise _Undone
        return recorder.steps["r"]

    return run


class _Undone(Exception):
    """What the revision has done is rolled back."""


def _function(body: str, op: Operations, module: str) -> Callable[[], None]:
    """As a module of a project would have it."""
    names: dict[str, Any] = {"__name__": module, "op": op, "sa": sa}
    exec(f"def upgrade():\n{textwrap.indent(body, '    ')}", names)
    upgrade: Callable[[], None] = names["upgrade"]
    return upgrade


async def _of(run: Run, body: str, **options: Any) -> RecordedStep:
    return await asyncio.to_thread(run, body, **options)


QUESTIONS = [
    "it.has_table('users')",
    "it.get_table_names()",
    "it.get_view_names()",
    "it.get_sequence_names()",
    "it.get_columns('users')",
    "it.get_columns('other')",
    "it.get_indexes('users')",
    "it.get_pk_constraint('users')",
    "it.get_foreign_keys('other')",
    "it.get_unique_constraints('users')",
    "it.get_check_constraints('users')",
    "it.get_table_comment('users')",
    "it.get_enums()",
    "it.has_index('users', 'ix')",
    "it.get_multi_columns()",
    "it.get_view_definition('seen')",
    "it.get_schema_names()",
    "sa.MetaData().reflect(bind)",
    "sa.Table('other', sa.MetaData(), autoload_with=bind)",
    "sa.Enum('sad', name='mood').create(bind, checkfirst=True)",
    "sa.Table('users', sa.MetaData()).create(bind, checkfirst=True)",
    "bind.scalar(sa.text('SELECT 1 FROM information_schema.tables WHERE table_name = :t'), {'t': 'users'})",
    "bind.exec_driver_sql(\"SELECT to_regclass('users')\").scalar()",
    "bind.execute(sa.text(\"SELECT typname FROM pg_type WHERE typname = 'mood'\")).first()",
    "[name for name, in bind.execute(sa.text('SELECT relname FROM pg_class'))]",
    "bind.dialect.name == 'postgresql'",
    "bind.engine.name == 'postgresql'",
    "it.engine.name == 'postgresql'",
    "bind.engine.dialect.name == 'postgresql'",
]
MAKES = "op.execute('CREATE TABLE t (a int)')\n"


async def test_questions_to_the_catalog_are_left_out_of_what_is_recorded(run: Run) -> None:
    for asks in QUESTIONS:
        found = await _of(run, f"{MAKES}bind = op.get_bind()\nit = sa.inspect(bind)\n{asks}")
        assert found == RecordedStep(("CREATE TABLE t (a int)",)), asks


SENT = [
    ("op.add_column('users', sa.Column('a', sa.String(5), server_default='100 %'))", ["DEFAULT '100 %'"]),
    (
        "op.bulk_insert(sa.table('users', sa.column('id', sa.Integer), sa.column('name', sa.Text)),"
        " [{'id': 2, 'name': 'it\\'s :x %'}, {'id': 3, 'name': None}])",
        ["'it''s :x %'::VARCHAR)", "VALUES (3::INTEGER, NULL::VARCHAR)"],
    ),
    (
        "op.get_bind().execute(sa.text('UPDATE users SET name = :n'), {'n': 'x'})",
        ["UPDATE users SET name = 'x'"],
    ),
    (
        "op.get_bind().execute(sa.table('users', sa.column('id', sa.Integer)).insert(), {'id': 4})",
        ["INSERT INTO users (id) VALUES (4"],
    ),
    ("op.get_bind().exec_driver_sql('DELETE FROM users')", ["DELETE FROM users"]),
    ("op.execute('SELECT setval(\\'ids\\', 7)')", ["SELECT setval('ids', 7)"]),
    (
        "op.create_table('n', sa.Column('m', sa.Enum('x', name='e')))",
        ["CREATE TYPE e AS", "CREATE TABLE"],
    ),
]


async def test_statements_are_recorded_with_their_values(run: Run) -> None:
    for does, sent in SENT:
        found = await _of(run, does)
        assert found.reason is None, does
        assert len(found.items) == len(sent), does
        for statement, part in zip(found.items, sent, strict=True):
            assert part in statement


async def test_the_indexes_of_a_new_table_have_one_order(run: Run) -> None:
    columns = ", ".join(f"sa.Column('c{number}', sa.Integer, index=True)" for number in range(8))
    found = await _of(run, f"op.create_table('n', {columns})")
    made = [str(item).split()[2] for item in found.items[1:]]
    assert made == sorted(made)
    assert len(made) == 8


async def test_a_revision_that_sends_nothing_and_asks_nothing_does_something_else(run: Run) -> None:
    assert (await _of(run, "print('called a service')")).reason == "it sends no SQL, so what it does is done elsewhere"
    assert await _of(run, "sa.inspect(op.get_bind()).has_table('users')") == RecordedStep()


async def test_an_autocommit_block_is_recorded_with_its_boundaries(run: Run) -> None:
    body = "op.execute('SELECT 1')\nwith op.get_context().autocommit_block():\n    op.execute('VACUUM pg_description')"
    found = await _of(run, f"{body}\nop.execute('SELECT 2')")
    assert found.items == ("SELECT 1", Mark.COMMIT, "VACUUM pg_description", Mark.BEGIN, "SELECT 2")


CONSTRUCT = """from sqlalchemy.ext.compiler import compiles
class Asks(sa.sql.expression.Executable, sa.sql.expression.ClauseElement):
    inherit_cache = False
compiles(Asks)(lambda element, compiler, **options: "SELECT count(*) FROM users")"""
OTHERWISE = [
    ("op.get_bind().execute(sa.text('SELECT id FROM users')).all()", "it reads users"),
    ("op.get_bind().execute(sa.select(sa.table('users', sa.column('id')))).all()", "it reads users"),
    ("op.get_bind().scalar(sa.text('SELECT now()'))", "it asks for now()"),
    ("op.get_bind().scalar(sa.text('SELECT current_database()'))", "it asks for current_database()"),
    ("op.get_bind().exec_driver_sql('SELECT version()').scalar()", "it asks for version()"),
    ("op.get_bind().exec_driver_sql('SELECT count(*) FROM users').scalar()", "it reads users"),
    ("op.get_bind().exec_driver_sql('SELECT %s', (1,)).scalar()", "parameters or a percent sign"),
    (
        "op.get_bind().scalar(sa.text(\"INSERT INTO users VALUES (9, 'x') RETURNING id\"))",
        "it asks for insert …",
    ),
    (
        "print(op.get_bind().execute(sa.text('UPDATE users SET name = NULL')).rowcount)",
        "the result's rowcount",
    ),
    ("print(op.get_bind().exec_driver_sql('DELETE FROM users').rowcount)", "the result's rowcount"),
    (
        "n = sa.Table('users', sa.MetaData(), sa.Column('id', sa.Integer, primary_key=True))\n"
        "op.get_bind().execute(n.insert(), {'id': 7}).inserted_primary_key",
        "the result's inserted_primary_key",
    ),
    ("op.get_bind().engine.url", "engine.url"),
    ("op.get_bind().engine.connect().close()", "engine.connect"),
    ("op.get_bind().engine.dialect.server_version_info", "the server's version"),
    ("sa.inspect(op.get_bind().engine).get_table_names()", "engine.connect"),
    ("op.get_bind().connection.cursor().execute('SELECT 1')", "connection"),
    ("op.get_bind().get_isolation_level()", "get_isolation_level"),
    ("sa.inspect(op.get_bind()).default_schema_name", "the default schema"),
    ("sa.inspect(op.get_bind()).dialect.server_version_info", "the server's version"),
    ("op.get_bind().dialect.server_version_info", "the server's version"),
    ("op.get_context().dialect.default_schema_name", "the default schema"),
    ("sa.inspect(op.get_bind()).get_table_oid('users')", "a table's number"),
    ("op.get_context().opts", "the options of env.py"),
    ("op.get_context().impl.context_opts", "the options of env.py"),
    ("op.get_context().environment_context", "the options of env.py"),
    ("op.get_context().version_table", "the version table, whose name may tell the tenant"),
    ("op.get_context().version_table_schema", "the version table's schema, which may be the tenant's"),
    ("sa.inspect(op.get_bind()).engine.url.database", "engine.url"),
    ("op.get_context().as_sql", "whether SQL is only rendered"),
    ("op.get_context().get_current_heads()", "the current heads"),
    ("from sqlalchemy.orm import Session\nSession(op.get_bind()).execute(sa.text('DELETE FROM users'))", "ORM"),
    ("op.execute('SET role none')", "it leaves something in its session"),
    ("op.get_bind().begin_nested()", "begin_nested"),
    (
        "op.execute('DO $$ BEGIN END $$')\nsa.inspect(op.get_bind()).has_table('t')",
        "after a statement that may do otherwise where the data is another",
    ),
    (
        "op.execute('SET LOCAL search_path = public')\nsa.inspect(op.get_bind()).has_table('t')",
        "it asks the catalog with a search path or a role of its own",
    ),
    (
        "op.execute('SET LOCAL ROLE none')\nop.get_bind().scalar(sa.text('SELECT 1 FROM pg_class LIMIT 1'))",
        "it asks the catalog with a search path or a role of its own",
    ),
    (
        "op.get_bind().scalar(sa.text(\"SELECT conname FROM pg_constraint WHERE conrelid = 'users'::regclass\"))",
        "it takes the first of several rows",
    ),
    (
        "op.get_bind().execute(sa.text('SELECT relname FROM pg_class')).first()",
        "it takes the first of several rows",
    ),
    (
        "op.get_bind().exec_driver_sql('SELECT relname FROM pg_class').scalar()",
        "it takes the first of several rows",
    ),
    (
        f"{CONSTRUCT}\nop.get_bind().execute(Asks()).scalar()",
        "it executes something of its own that returns rows",
    ),
    (
        f"{CONSTRUCT}\nop.get_bind().scalar(Asks())",
        "it executes something of its own that returns rows",
    ),
    (
        "import decimal\nop.get_bind().execute(sa.text('UPDATE users SET id = :d'), {'d': decimal.Decimal(1)})",
        "it cannot be written as text: a bound value of type Decimal",
    ),
]


async def test_what_may_be_another_tenants_otherwise_is_not_recorded(run: Run) -> None:
    for does, said in OTHERWISE:
        found = await _of(run, f"{MAKES}{does}")
        assert said in (found.reason or ""), does
        assert found.items == (), does


async def test_a_transaction_that_it_ends_is_noticed(run: Run) -> None:
    found = await _of(run, f"{MAKES}op.get_bind()._transaction.commit()")
    assert found == RecordedStep(reason="it asks the connection for an answer: _transaction")
    found = await _of(run, "op.get_context()._transaction.commit()")
    assert found == RecordedStep(reason="it ends its transaction by itself")


async def test_a_connection_of_its_own_is_noticed(run: Run) -> None:
    body = "with sa.inspect(op.get_bind()).engine.connect() as mine:\n    mine.execute(sa.text('SELECT 1'))"
    assert (await _of(run, body)).items == ()


AMONG_NEIGHBOURS = [
    ("sa.inspect(bind).has_table('users')", None),
    ("sa.inspect(bind).get_columns('other')", None),
    ("sa.MetaData().reflect(bind)", None),
    ("sa.inspect(bind).has_table('users', schema='public')", "a schema by name"),
    ("sa.Table('users', sa.MetaData(), schema='public').create(bind, checkfirst=True)", "a schema by name"),
    ("sa.inspect(bind).get_schema_names()", "which schemas there are"),
    ("sa.inspect(bind).has_schema('public')", "which schemas there are"),
    ("sa.inspect(bind).get_enums()", "types, which are told with the schema that they are in"),
    ("sa.inspect(bind).get_domains()", "types, which are told with the schema that they are in"),
    ("sa.Enum('sad', name='mood').create(bind, checkfirst=True)", None),
    ("bind.scalar(sa.text('SELECT 1 FROM pg_class LIMIT 1'))", "in its own words"),
]


async def test_what_a_library_sends_past_alembic_is_noticed(run: Run) -> None:
    found = await _of(run, "op.get_bind().exec_driver_sql('SELECT 1')", module="sqlalchemy.ext.another")
    assert found == RecordedStep(reason="it sends SQL past Alembic")


async def test_where_others_share_the_database_only_its_own_schema_is_asked_for(run: Run) -> None:
    for asks, said in AMONG_NEIGHBOURS:
        found = await _of(run, f"bind = op.get_bind()\n{asks}", schema="public")
        assert (found.reason is None) == (said is None), asks
        assert (said or "") in (found.reason or ""), asks
