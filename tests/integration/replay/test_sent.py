"""What env.py really sends is held against what was compiled: another text, other values or other transactions are
found on the first targets, whatever makes them, where the schema shows nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from orchestrator.databases.embedded import Server
from orchestrator.rollout.state import Direction
from tests import engine, environments
from tests.integration.replay import guarded
from tests.servers import MakeDatabases

ROOT = Path(__file__).parents[3]
ON_HOLD = """
INSERT INTO users (email, name) VALUES ('ada@example.org', 'Ada');
INSERT INTO tickets (requester_id, subject, status) VALUES (1, 'on_hold', 'on_hold'), (1, 'solved', 'solved')
"""

MADE = "op.execute('CREATE TABLE t (a text, b text DEFAULT now())')"
TABLE = "t = sa.table('t', sa.column('a', sa.Text))\n"
INSERTS = f"{MADE}\n{TABLE}op.bulk_insert(t, [{{'a': 'x'}}, {{'a': 'y'}}])"
ONLINE = "    with connectable.connect() as connection:"


@dataclass(frozen=True)
class Case:
    """An env.py that is changed in one place, and the histories that it runs. `rows`: what column `a` of table `t`
    holds on every target; `said`: of the verdict."""

    name: str
    revisions: tuple[str, ...]
    rows: tuple[str, ...]
    said: str
    old: str = ""
    new: str = ""
    library: str = ""
    top: str = ""
    each: bool = False
    setup: tuple[str, ...] = ()
    track: dict[str, Any] = field(default_factory=dict)


CASES = [
    Case(
        "schemas that are translated",
        (
            "t = sa.Table('t', sa.MetaData(), sa.Column('a', sa.Text), schema='tenant')\n"
            "op.execute(t.insert().values(a='x'))",
        ),
        ("x",),
        "(revision r0, statement 1)",
        "        context.configure(\n            connection=connection",
        "        connection = connection.execution_options(schema_translate_map={'tenant': 'public'})\n"
        "        context.configure(\n            connection=connection",
        setup=("CREATE SCHEMA tenant", "CREATE TABLE tenant.t (a text)", "CREATE TABLE t (a text)"),
    ),
    Case(
        "no transactional DDL",
        (INSERTS, "op.execute('UPDATE t SET a = (b = now()::text)::text')"),
        ("false", "false"),
        "the transaction around it begins or ends elsewhere",
        "connection=connection, target_metadata",
        "connection=connection, transactional_ddl=False, target_metadata",
    ),
    Case(
        "a transaction around all",
        (INSERTS, "op.execute('UPDATE t SET a = (b = now()::text)::text')"),
        ("true", "true"),
        "the transaction around it begins or ends elsewhere",
        ONLINE,
        ONLINE.replace("connect()", "begin()"),
        each=True,
    ),
    Case(
        "a connection's class is asked",
        (
            f"{MADE}\nif isinstance(op.get_bind(), sa.engine.Connection):\n"
            "    op.execute(\"INSERT INTO t VALUES ('x')\")",
        ),
        ("x",),
        "(revision r0, statement 2)",
    ),
    Case(
        "state that is set online",
        (f"import lib\n{MADE}\nop.execute(\"INSERT INTO t VALUES ('%s')\" % lib.name.get())",),
        ("online",),
        "(revision r0, statement 2)",
        ONLINE,
        f"    import lib\n    lib.name.set('online')\n{ONLINE}",
        library="import contextvars\nname = contextvars.ContextVar('name', default='unknown')",
    ),
    Case(
        "operations that are replaced online",
        (INSERTS,),
        ("mine",),
        "(revision r0, statement 2)",
        ONLINE,
        "    from alembic import op\n    plain = op.bulk_insert\n"
        f"    op.bulk_insert = lambda t, rows: plain(t, [{{'a': 'mine'}}])\n{ONLINE}",
        track={"isolation": "process"},
    ),
    Case(
        "a listener that a revision brings",
        (
            f"import lib\n{MADE}\nlib.listen()\nop.execute(\"INSERT INTO t VALUES ('x')\")",
            "op.execute(\"INSERT INTO t VALUES ('y')\")",
        ),
        ("heard", "heard"),
        "somebody listens to SQLAlchemy's before_cursor_execute",
        library="import sqlalchemy as sa\ndef change(c, k, statement, parameters, *_):\n"
        "    return statement.replace(\"'x'\", \"'heard'\").replace(\"'y'\", \"'heard'\"), parameters\n"
        "def listen():\n    sa.event.listen(sa.engine.Engine, 'before_cursor_execute', change, retval=True)",
        track={"isolation": "process"},
    ),
    Case(
        "a listener that takes the place of executemany",
        (INSERTS,),
        ("X", "Y"),
        "somebody listens to SQLAlchemy's do_executemany",
        ONLINE,
        f"    import lib\n{ONLINE}",
        library="import sqlalchemy as sa\n@sa.event.listens_for(sa.engine.Engine, 'do_executemany')\n"
        "def many(cursor, statement, rows, context):\n"
        "    cursor.executemany(statement, [{k: v.upper() for k, v in row.items()} for row in rows])\n    return True",
        track={"isolation": "process"},
    ),
    Case(
        "a password that compiling is not given",
        (f"import lib\n{MADE}\nop.execute(\"INSERT INTO t VALUES ('%s')\" % (lib.PASSWORD is not None))",),
        ("True",),
        "(revision r0, statement 2)",
        library="PASSWORD = None",
        top="from sqlalchemy.engine import make_url\n"
        "lib.PASSWORD = make_url(config.get_main_option('sqlalchemy.url')).password",
    ),
    Case(
        "rows that go together in one statement, as psycopg2 sends them",
        (INSERTS,),
        ("x", "y"),
        "(revision r0, statement 2)",
        ONLINE,
        f"    connectable.dialect.use_insertmanyvalues_wo_returning = True\n{ONLINE}",
    ),
    Case(
        "a connection of a revision's own",
        (f"import lib\n{MADE}", "import lib\nlib.more()\nop.execute(\"INSERT INTO t VALUES ('x')\")"),
        ("more", "x"),
        "(revision r1, statement 1)",
        ONLINE,
        f"    import lib\n    lib.engine = connectable\n{ONLINE}",
        library="import sqlalchemy as sa\nengine = None\ndef more():\n    if engine is not None:\n"
        "        with engine.begin() as other:\n            other.execute(sa.text(\"INSERT INTO t VALUES ('more')\"))",
        each=True,
        track={"isolation": "process"},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_what_is_sent_otherwise_than_it_was_compiled_is_found(
    case: Case, pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    project = _made(tmp_path / "project", case)
    databases = await make_databases(4)
    if case.setup:
        await engine.provision(pg, *databases)
    for database in databases:
        await engine.execute(pg, database, *case.setup)
    async with engine.running(guarded.registry_of(project, pg, databases, **case.track), max_concurrent=1) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": 4}, view.failures
        judged = guarded.judged(running)
        assert case.said in str(judged.reason)
        assert (judged.execution, judged.differs) == ("online", True)
        assert set(guarded.ways(running).values()) == {"online"}
    for database in databases:
        assert await _rows(pg, database) == list(case.rows)


def _made(project: Path, case: Case) -> Path:
    guarded.make_project(project, *case.revisions, each=case.each)
    env = project / "alembic" / "env.py"
    head, online, tail = env.read_text().rpartition("def run_migrations_online")
    changed = tail.replace(case.old, case.new, 1) if case.old else tail
    assert (changed != tail) == bool(case.old)
    top = f"target_metadata = None\n{case.top}"
    env.write_text(head.replace("target_metadata = None", top) + online + changed)
    if case.library:
        (project / "lib.py").write_text(case.library)
    if case.library and "import lib" not in changed:
        env.write_text(f"import lib\n{env.read_text()}")
    return project


async def _rows(pg: Server, database: str, column: str = "a") -> list[Any]:
    return [row[0] for row in await engine.fetch(pg, database, f"SELECT {column} FROM t ORDER BY 1")]


async def test_what_a_revision_makes_of_another_ones_state_is_missed_where_that_one_is_replayed(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    leaves = "import lib\nop.execute('CREATE TABLE t (a int)')\nlib.kept.append(7)"
    takes = (
        "import lib\nassert op.get_bind().scalar(sa.text('SELECT count(*) FROM t')) == 0\n"
        "for n in lib.kept:\n    op.execute(f'INSERT INTO t VALUES ({n})')"
    )
    case = Case("", (leaves, takes), (), "", library="kept = []", each=True)
    project = _made(tmp_path / "project", case)
    databases = await make_databases(6)
    registry = guarded.registry_of(project, pg, databases, isolation="process")
    async with engine.running(registry, max_concurrent=1) as running:
        assert (await running.rollout()).counts == {"succeeded": 6}
        judged = guarded.judged(running)
        assert "env.py sent a target that was replayed in part something else (revision r1" in str(judged.reason)
        assert sorted(guarded.ways(running).values()) == ["mixed"] + ["online"] * 5
    found = [await _rows(pg, database) for database in databases]
    assert sorted(found) == [[], *[[7]] * 5], "the one that was replayed to try it, and is told of"


UNFAITHFUL = """
import datetime, enum, uuid
class Packed(sa.TypeDecorator):
    impl = sa.LargeBinary
    cache_ok = True
    def process_bind_param(self, value, dialect):
        return value.encode()
class Aware(sa.TypeDecorator):
    impl = sa.DateTime
    cache_ok = True
    def process_bind_param(self, value, dialect):
        return value.replace(tzinfo=datetime.timezone.utc)
class Sealed(sa.types.UserDefinedType):
    cache_ok = True
    def get_col_spec(self): return "text"
    def bind_processor(self, dialect): return lambda value: "sealed " + value
    def literal_processor(self, dialect): return lambda value: "'%s'" % value
t = sa.table("t", *[sa.column(*one) for one in [
    ("n", sa.Integer), ("a", sa.Text), ("packed", Packed()), ("aware", Aware()), ("sealed", Sealed()),
    ("flags", sa.ARRAY(sa.Boolean)), ("j", sa.JSON)]])
"""
ODD = [
    r"op.bulk_insert(t, [{'n': 1, 'packed': r'C:\101\134'}])",
    "op.bulk_insert(t, [{'n': 2, 'aware': datetime.datetime(2026, 1, 1, 12)}])",
    "op.bulk_insert(t, [{'n': 3, 'sealed': 'letter'}])",
    "op.bulk_insert(t, [{'n': 4, 'flags': [True, None, False]}])",
    "op.bulk_insert(t, [{'n': 5, 'j': None}])",
    "op.execute(sa.func.setval('s', 100))",
]
COLUMNS = "n int, a citext, packed bytea, aware timestamp, sealed text, flags boolean[], j json"
ORDINARY = [
    "op.bulk_insert(t, [{'n': 6, 'a': 'Bob'}, {'n': 7, 'a': 'bob'}, {'n': 8, 'a': None}])",
    "op.execute(t.update().where(t.c.a.in_(['Bob', 'nobody'])).values(sealed=sa.null(), n=t.c.n - -10))",
    "op.execute(t.delete().where(t.c.a.contains('100%', autoescape=True)))",
    "op.get_bind().execute(sa.text('UPDATE t SET sealed = :s WHERE n = :n'), {'s': \"it's %s $1 \\\\\", 'n': 7})",
    "op.execute('CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS $$ SELECT $1 %% 2 $$'.replace('%%', '%'))",
]


@pytest.mark.parametrize("template", ["generic", "async"])
async def test_values_that_no_literal_means_run_online_and_others_come_to_the_same_by_replay(
    template: environments.Template, pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    environments.make_project(project, template)
    environments.use_transaction_per_migration(project)
    odd_ones = [one for one in ODD if template == "generic" or "aware" not in one]  # asyncpg refuses it
    for number, body in enumerate([*odd_ones, *ORDINARY]):
        guarded.add(project, number, f"{UNFAITHFUL}\n{body}")
    databases = await make_databases(4)
    for database in databases:
        await engine.provision(pg, database)
        await engine.execute(
            pg, database, "CREATE EXTENSION citext", f"CREATE TABLE t ({COLUMNS})", "CREATE SEQUENCE s"
        )
    registry = guarded.registry_of(project, pg, databases)
    async with engine.running(registry, max_concurrent=1) as running:
        (group,) = (await running.service.plan(engine.head())).groups
        assert list(group.online) == [f"r{number}" for number in range(len(odd_ones))], group.online
        assert {reason[:40] for reason in group.online.values()} == {"it cannot be rendered: UnfaithfulError: "}
        view = await running.rollout()
        assert view.counts == {"succeeded": 4}, view.failures
        assert guarded.judged(running).execution == "mixed", guarded.judged(running).reason
        assert sorted(guarded.ways(running).values()) == ["mixed"] * 2 + ["online"] * 2
    found = [await guarded.picture(pg, database, ("t",)) for database in databases]
    assert found == found[:1] * 4


async def test_a_plan_that_goes_online_in_two_places_is_proved(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    asks = "op.execute(sa.text('INSERT INTO t VALUES (:n)').bindparams(n=op.get_bind().scalar(sa.text('TABLE t'))))"
    bodies = ["op.execute('CREATE TABLE t (a int)')", asks, "op.execute('INSERT INTO t VALUES (1)')", asks]
    project = guarded.make_project(tmp_path / "project", *bodies)
    databases = await make_databases(4)
    async with engine.running(guarded.registry_of(project, pg, databases), max_concurrent=1) as running:
        assert (await running.rollout()).counts == {"succeeded": 4}
        assert guarded.judged(running).execution == "mixed", guarded.judged(running).reason
        assert sorted(guarded.ways(running).values()) == ["mixed"] * 2 + ["online"] * 2
    found = [await guarded.picture(pg, database, ("t",)) for database in databases]
    assert found == found[:1] * 4


@pytest.mark.parametrize("asks_first", [False, True])
async def test_a_type_is_made_in_one_run_of_env_py_with_what_names_it(
    asks_first: bool, pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    """SQLAlchemy makes it once in a run: one run for each part of a plan would make it twice."""
    made = "op.create_table({!r}, sa.Column('a', sa.Enum('sad', 'ok', name='Mood')))"
    asks = f"op.get_bind().scalar(sa.text('TABLE users'))\n{made.format('asking')}"
    bodies = [asks, made.format("told")] if asks_first else [made.format("told"), asks]
    project = guarded.make_project(tmp_path / "project", guarded.USERS, *bodies)
    databases = await make_databases(5)
    for execution, some in (("auto", databases[:4]), ("replay", databases[4:])):
        registry = guarded.registry_of(project, pg, some, execution=execution)
        async with engine.running(registry, max_concurrent=1) as running:
            view = await running.rollout()
            assert (view.counts, view.executions) == ({"succeeded": len(some)}, {"online": len(some)}), view.failures
            if execution == "replay":
                assert "type mood, which is made once in a run of env.py" in str(guarded.judged(running).reason)


TYPED = """
import datetime, decimal, enum, uuid
class Mood(enum.Enum):
    sad = 1
    glad = 2
op.create_table("t{n}", *[sa.Column(*one) for one in [
    ("id", sa.Integer, sa.Identity()), ("day", sa.Date), ("at", sa.DateTime), ("price", sa.Numeric(8, 2)),
    ("mood", sa.Enum(Mood, name="mood{n}")), ("key", sa.Uuid), ("name", sa.String(20)), ("on", sa.Boolean)]],
    *[sa.Column(name, sa.Integer, index=True) for name in "zyxw"], sa.PrimaryKeyConstraint("id"))
op.create_index("ix_t{n}", "t{n}", ["name"], unique=True)
t = sa.table("t{n}", *[sa.column(*one) for one in [
    ("day", sa.Date), ("at", sa.DateTime), ("price", sa.Numeric(8, 2)), ("mood", sa.Enum(Mood, name="mood{n}")),
    ("key", sa.Uuid), ("name", sa.String(20)), ("on", sa.Boolean)]])
op.bulk_insert(t, [
    dict(day=datetime.date(2026, 1, 31), at=datetime.datetime(2026, 1, 31, 23, 59, 59, 1000), mood=Mood.glad, on=True,
         price=decimal.Decimal("-12.50"), key=uuid.UUID(int={n}), name="it's 100 % $1 :x"),
    dict(day=None, at=None, mood=None, on=None, price=None, key=None, name=None)])
op.execute(t.update().where(t.c.name.like("it's%")).values(name="né"))
op.execute(sa.text("DELETE FROM t{n} WHERE id = :id").bindparams(id=77))
"""
COMPUTED = """op.create_table("computed", sa.Column("a", sa.Integer), sa.Column("b", sa.Integer, sa.Computed("a + 1")))
op.add_column("computed", sa.Column("c", sa.Integer, sa.Computed("a + 2", persisted=True)))"""
ALONE = """with op.get_context().autocommit_block():
    op.create_index("ix_alone", "t0", ["day"], postgresql_concurrently=True)"""


@pytest.mark.parametrize("template", ["generic", "async"])
async def test_an_ordinary_history_is_replayed(
    template: environments.Template, pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    environments.make_project(project, template)
    environments.use_transaction_per_migration(project)
    for number, body in enumerate([*(TYPED.replace("{n}", str(number)) for number in range(9)), ALONE]):
        guarded.add(project, number, body)
    plain, *databases = await make_databases(5)
    async with engine.running(guarded.registry_of(project, pg, databases), max_concurrent=1) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": 4}, view.failures
        assert guarded.judged(running).execution == "replay", guarded.judged(running).reason
        assert sorted(guarded.ways(running).values()) == ["online"] * 2 + ["replay"] * 2
    online = guarded.registry_of(project, pg, [plain], execution="online")
    async with engine.running(online) as running:
        assert (await running.rollout()).counts == {"succeeded": 1}
    assert "né" in repr(await engine.fetch(pg, plain, "SELECT * FROM t8"))
    tables = [f"t{number}" for number in range(9)]
    found = [await guarded.picture(pg, database, tables) for database in (plain, *databases)]
    assert found == found[:1] * 5


async def test_what_hangs_on_the_server_s_version_runs_online_and_all_else_is_replayed(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    project = guarded.make_project(tmp_path / "project", MADE, COMPUTED, "op.execute('CREATE TABLE u (a int)')")
    async with engine.running(guarded.registry_of(project, pg, await make_databases(4))) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": 4}, view.failures
        assert guarded.judged(running).execution in ("mixed", "replay"), guarded.judged(running).reason


async def test_the_example_is_replayed_as_far_as_it_is_sql(pg: Server, make_databases: MakeDatabases) -> None:
    """What lies behind is about data, and run by env.py."""
    databases = await make_databases(4)
    async with engine.running(guarded.registry_of(ROOT / "alembic", pg, databases), max_concurrent=1) as running:
        view = await running.rollout("e46c218a144d")
        assert view.counts == {"succeeded": 4}, view.failures
        assert sorted(guarded.ways(running).values()) == ["online"] * 2 + ["replay"] * 2
    found = [await guarded.picture(pg, database, ()) for database in databases]
    assert found == found[:1] * 4


async def test_the_example_s_types_are_changed_by_replay_and_changed_back(
    pg: Server, make_databases: MakeDatabases
) -> None:
    """A value is added to an enum; on the way back the type is made anew, and the table is written again."""
    databases = await make_databases(4)
    async with engine.running(guarded.registry_of(ROOT / "alembic", pg, databases), max_concurrent=1) as running:
        for to, direction in (("bf4c1f9d9676", Direction.UPGRADE), ("75fbfdad8fdd", Direction.DOWNGRADE)):
            view = await running.rollout(to, direction=direction)
            assert view.counts == {"succeeded": 4}, view.failures
            assert sorted(guarded.ways(running).values()) == ["online"] * 2 + ["replay"] * 2
            if direction is Direction.UPGRADE:
                for database in databases:
                    await engine.execute(pg, database, ON_HOLD)
    found = [await guarded.picture(pg, database, ()) for database in databases]
    assert found == found[:1] * 4
    statuses = "SELECT subject, status::text FROM tickets ORDER BY 1"
    for database in databases:
        assert await engine.fetch(pg, database, statuses) == [("on_hold", "pending"), ("solved", "solved")]


@pytest.mark.parametrize(
    ("asks", "said"),
    [
        ("x = {'tenant': '', **context.get_x_argument(as_dictionary=True)}['tenant']", "env.py asks which tenant"),
        ("x = ''.join(config.cmd_opts.x or [])", "env.py asks which tenant"),
        ("x = config.get_main_option('sqlalchemy.url')", "r0: env.py gives it arguments: tenant"),
    ],
)
async def test_an_env_py_that_tells_revisions_the_tenant_runs_them_all(
    asks: str, said: str, pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    """Only the last tenant is treated otherwise, who is none of those that a plan is tried on."""
    body = "import lib\nop.execute('CREATE TABLE t (a text)')\n"
    body += "if str(tenant).endswith('3'):\n    op.execute('INSERT INTO t VALUES (3)')"
    project = guarded.make_project(tmp_path / "project", body)
    (project / "lib.py").write_text("import contextvars\ntenant = contextvars.ContextVar('tenant')")
    revision, env = project / "alembic" / "versions" / "r0.py", project / "alembic" / "env.py"
    env.write_text(env.read_text().replace("target_metadata = None", f"target_metadata = None\n{asks}"))
    if "arguments" in said:
        revision.write_text(revision.read_text().replace("def upgrade()", "def upgrade(tenant)"))
        env.write_text(env.read_text().replace("run_migrations()", "run_migrations(tenant=x)"))
    else:
        env.write_text(env.read_text().replace(asks, f"{asks}\nimport lib\nlib.tenant.set(x)"))
        revision.write_text(revision.read_text().replace("str(tenant)", "lib.tenant.get()"))
    databases = await make_databases(4)
    async with engine.running(guarded.registry_of(project, pg, databases), max_concurrent=1) as running:
        view = await running.rollout()
        assert view.counts == {"succeeded": 4}, view.failures
        assert said in str(guarded.judged(running).reason)
    assert [await _rows(pg, database) for database in databases] == [[], [], [], ["3"]]
