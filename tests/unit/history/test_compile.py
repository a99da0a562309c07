"""What of a history can be rendered to SQL, how it reads then, and why the rest cannot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.errors import TargetError
from orchestrator.history import compile as compiler
from orchestrator.history import scripts
from orchestrator.history.jobs import CompileJob
from orchestrator.history.revisions import History
from orchestrator.plan.compiled import (
    Begun,
    Compiled,
    Mark,
    Move,
    Online,
    RenderedStep,
    Rendering,
    Script,
    agreed,
    compiled,
)
from orchestrator.plan.steps import Plan, Planner
from tests import environments


@pytest.fixture
def project(tmp_path: Path) -> Path:
    environments.make_project(tmp_path)
    return tmp_path


def plan_of(
    project: Path, start: tuple[str, ...] | None = None, goal: str = "heads"
) -> tuple[Plan, CompileJob, object]:
    track = environments.track_of(project / "alembic.ini")
    snapshot, directory = scripts.read(track)
    history = History(track, snapshot)
    direction = "downgrade" if goal == "base" else "upgrade"
    plan = Planner(history, history.resolve(goal, direction), direction).plan(start)  # type: ignore[arg-type]
    url, environment = "postgresql+psycopg://u@h/d", {"TENANT": "acme"}
    place = ("postgresql", "alembic_version", None, url, environment)
    return plan, CompileJob(track, history.digest, "acme", plan, *place), directory


def rendered(project: Path, start: tuple[str, ...] | None = None, goal: str = "heads") -> Rendering:
    _, job, directory = plan_of(project, start, goal)
    return compiler.render(job, directory)  # type: ignore[arg-type]


def one(project: Path, body: str) -> RenderedStep:
    environments.add_revision(project, "one", None, body)
    (step,) = rendered(project).steps
    return step


def cut(project: Path, start: tuple[str, ...] | None = None, goal: str = "heads") -> Compiled:
    plan, _, _ = plan_of(project, start, goal)
    return compiled(plan, rendered(project, start, goal))


@pytest.mark.parametrize(
    ("body", "sql"),
    [
        ("op.drop_column('t', 'a')", "ALTER TABLE t DROP COLUMN a"),
        (r"op.execute('SELECT \'a\tb\'')", "SELECT 'a\tb'"),
        (r"op.execute('UPDATE t SET a = \'100 %\' WHERE b LIKE \'%x\'')", "UPDATE t SET a = '100 %' WHERE b LIKE '%x'"),
        (r"op.execute(sa.table('t', sa.column('a', sa.Text())).insert().values(a='b\\c'))", r"'b\c'"),
        (r"op.get_bind().execute(sa.text('UPDATE t SET a = :a'), {'a': 'it\'s :b'})", "SET a = 'it''s :b'"),
        (
            "op.execute(sa.text('UPDATE t SET n = n-:d WHERE id = 1').bindparams(d=-5))",
            "n = n-(-5)::INTEGER WHERE id = 1",
        ),
        (r"op.get_bind().exec_driver_sql('UPDATE t SET a = \'x:y\'')", "UPDATE t SET a = 'x:y'"),
        ("op.execute('CREATE FUNCTION f() RETURNS int AS $$ BEGIN RETURN 1; END; $$ LANGUAGE plpgsql')", "END; $$"),
        ("sa.Enum('x', name='e').create(op.get_bind(), checkfirst=False)", "CREATE TYPE e AS ENUM ('x')"),
        ("if op.get_bind().dialect.name == 'postgresql':\n    op.execute('SELECT 1')", "SELECT 1"),
        ("if op.get_bind().engine.name == 'postgresql':\n    op.execute('SELECT 1')", "SELECT 1"),
        ("op.execute('SELECT setval(\\'s\\', 7)')", "SELECT setval('s', 7)"),
        ("op.execute('SET LOCAL lock_timeout = 100')", "SET LOCAL lock_timeout = 100"),
        ("op.execute('SET CONSTRAINTS ALL DEFERRED')", "SET CONSTRAINTS ALL DEFERRED"),
        ("op.add_column('t', sa.Column('a', sa.DateTime, server_default=sa.func.now()))", "DEFAULT now()"),
        ("op.create_check_constraint('c', 't', sa.column('a').in_([1.5, 2.5]))", "1.5"),
        (
            "import decimal, datetime\n"
            "t = sa.table('t', sa.column('a', sa.Numeric()), sa.column('b', sa.Date()))\n"
            "op.execute(t.insert().values(a=decimal.Decimal('1.50'), b=datetime.date(2026, 1, 2)))",
            "VALUES (1.50, '2026-01-02'::DATE)",
        ),
    ],
)
def test_statements_are_rendered_as_they_are(project: Path, body: str, sql: str) -> None:
    step = one(project, body)
    assert step.reason is None
    (statement,) = [item for item in step.items if not isinstance(item, Mark)]
    assert sql in statement


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("if op.get_bind().execute(sa.text('SELECT 1')).scalar(): pass", "a statement that returns rows"),
        ("op.get_bind().execute(sa.text('/* c */ -- d\\n WITH x AS (SELECT 1) SELECT * FROM x'))", "returns rows"),
        ("op.get_bind().execute(sa.text('DELETE FROM t RETURNING id'))", "returns rows"),
        ("op.get_bind().execute(sa.select(sa.column('a')))", "returns rows"),
        ("n = op.get_bind().execute(sa.text('UPDATE t SET a = 1')).rowcount", "rowcount"),
        ("if op.get_bind().execute(sa.text('UPDATE t SET a = 1')): pass", "whether there is a result"),
        ("sa.inspect(op.get_bind()).has_table('t')", "inspect()"),
        ("sa.inspect(op.get_bind().engine).has_table('t')", "inspect() of the engine"),
        ("try:\n    sa.inspect(op.get_bind())\nexcept Exception:\n    pass", "it catches errors"),
        ("import contextlib\nwith contextlib.suppress(Exception):\n    op.execute('SELECT 1')", "it catches errors"),
        ("op.execute('SET LOCAL standard_conforming_strings = off')", "leaves something in its session"),
        (
            "from sqlalchemy.orm import Session\nSession(bind=op.get_bind()).execute(sa.text('DELETE FROM t'))",
            "asks the",
        ),
        ("op.get_bind().get_isolation_level()", "get_isolation_level"),
        ("op.get_bind().engine.url", "engine.url"),
        ("sa.Table('t', sa.MetaData(), sa.Column('a', sa.Text)).create(op.get_bind(), checkfirst=True)", "checkfirst"),
        ("sa.Table('t', sa.MetaData(), autoload_with=op.get_bind())", "asks the connection"),
        ("if context.is_offline_mode(): pass", "whether it runs in offline mode"),
        ("if op.get_context().as_sql: pass", "whether SQL is only rendered"),
        ("op.get_context().get_current_revision()", "current heads"),
        ("context.get_x_argument(as_dictionary=True)", "-x arguments"),
        ("context.config.get_main_option('sqlalchemy.url')", "for the configuration"),
        ("op.get_context().config.get_main_option('sqlalchemy.url')", "for the configuration"),
        ("vars(os)['environ']['TENANT']", "environment variable TENANT"),
        ("vars(os)['environ'].get('TENANT', 'x')", "environment variable TENANT"),
        ("os.environ['HOME']", "something outside of its database (`environ`"),
        ("os.getenv('HOME', 'x')", "outside of its database (`getenv`"),
        ("import datetime\ndatetime.datetime.now()", "outside of its database (`now`"),
        ("time.time()", "outside of its database (`time`"),
        ("from pathlib import Path\nPath(__file__).read_text()", "outside of its database (`read_text`"),
        ("open(__file__).close()", "outside of its database (`open`"),
        ("op.get_context().opts['script']", "options of env.py"),
        ("op.get_context().impl.context_opts['script']", "options of env.py"),
        ("op.get_context().environment_context.context_opts", "options of env.py"),
        ("op.execute(f\"SELECT '{op.get_context().version_table}'\")", "for the version table, whose name"),
        ("op.create_table('a', schema=op.get_context().version_table_schema)", "for the version table's schema"),
        ("op.get_bind().dialect.default_schema_name", "default schema"),
        ("op.get_context().dialect.server_version_info", "server's version"),
        ("op.get_context().impl.as_sql", "whether SQL is only rendered"),
        ("op.bulk_insert(sa.table('t', sa.column('a'), sa.column('b')), [{'a': 1}, {'a': 2, 'b': 3}])", "of the first"),
        ("op.execute(sa.text('SELECT :a').bindparams(a='C\\\\:x'))", "a backslash before a colon"),
        ("import decimal\nop.execute(sa.text('SELECT :a / 2').bindparams(a=decimal.Decimal('5')))", "type Decimal"),
        ("import datetime\nop.execute(sa.text('SELECT :d + 1').bindparams(d=datetime.date(2026, 1, 1)))", "type date"),
        ("op.execute(sa.table('t', sa.column('a', sa.Numeric())).insert().values(a=sa.column('b') * 1.1))", "float"),
        ("op.execute(sa.table('t', sa.column('a', sa.Float())).insert().values(a=1.5))", "float"),
        (
            "import datetime\nop.bulk_insert(sa.table('t', sa.column('a', sa.DateTime())), "
            "[{'a': datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)}])",
            "with a time zone",
        ),
        ("op.execute('SELECT 1 -- x\\r; COMMIT; BEGIN')", "a COMMIT of its own"),
        ("op.execute('COMMIT')", "a COMMIT of its own"),
        ("op.execute('UPDATE t SET a = 1; END')", "a END of its own"),
        ("op.execute('COPY t FROM STDIN')", "its client has a part in it: COPY"),
        ("op.execute('SELECT 1 -- nothing\\n; -- only this'); op.execute(' ; ')", "without a word"),
        ('op.execute("SELECT \'open")', "does not end"),
        ("op.execute('SELECT 1', execution_options={'isolation_level': 'AUTOCOMMIT'})", "options"),
        ("op.execute(sa.table('t', sa.column('a', sa.LargeBinary())).insert().values(a=b'x'))", "bytes"),
        ("op.execute(sa.table('t', sa.column('a', sa.Float())).insert().values(a=float('nan')))", "float"),
        ("op.execute(sa.text('UPDATE t SET a = :a'))", "no value is given for :a"),
        ("op.execute(sa.table('t', sa.column('a', sa.Text())).insert())", "no value is given for :a"),
        (
            "op.execute(sa.Table('t', sa.MetaData(), sa.Column('a', sa.Text, default=lambda: 'x'),"
            " sa.Column('b', sa.Text)).insert().values(b='1'))",
            "computed in Python",
        ),
        ("op.get_bind().execute(sa.text('UPDATE t SET a = :a'), [{'a': 1}, {'a': 2}])", "many sets"),
        ("context.get_context().impl.static_output('SELECT 1')", "writes to Alembic's output"),
        ("raise ValueError('no\\nway')", "ValueError: no way"),
        ("op.execute('SET search_path TO app')", "leaves something in its session: SET SEARCH_PATH"),
        ("op.execute('set role owner')", "leaves something in its session"),
        ("op.execute('CREATE TEMP TABLE keep AS SELECT 1')", "leaves something in its session: CREATE TEMP TABLE"),
        ("op.execute('SELECT 1 AS a INTO TEMPORARY keep')", "leaves something in its session"),
        ("op.execute('DISCARD ALL')", "leaves something in its session"),
        ("op.execute('SELECT pg_advisory_unlock_all()')", "leaves something in its session"),
        ("op.execute(\"SELECT set_config('search_path', 'app', false)\")", "leaves something in its session"),
        ("op.execute(sa.table('t', sa.column('a', sa.ARRAY(sa.Float()))).insert().values(a=[float('nan')]))", "float"),
        ("raise SystemExit(3)", "SystemExit"),
        ("sa.text('SELECT 1')", "it sends no SQL"),
        ("with sa.create_engine('sqlite://').connect(): pass", "while revisions are only compiled"),
        (
            "with op.batch_alter_table('t', recreate='always') as batch:\n    batch.drop_column('a')",
            "cannot be rendered",
        ),
    ],
)
def test_what_reads_or_cannot_be_rendered_runs_online_and_says_why(project: Path, body: str, reason: str) -> None:
    step = one(project, body)
    assert reason in str(step.reason)
    assert not [item for item in step.items if not isinstance(item, Mark)]


def test_a_revision_may_ask_to_be_run_online(project: Path) -> None:
    file = environments.add_revision(project, "one", None, "op.execute('SELECT 1')")
    file.write_text(file.read_text() + "\n\nexecution = 'online'\n")
    assert "execution = 'online'" in str(rendered(project).steps[0].reason)


def test_one_step_that_fails_leaves_the_others_rendered(project: Path) -> None:
    environments.add_revision(project, "one", None, "op.execute('SELECT 1')")
    environments.add_revision(project, "two", "one", "op.get_bind().scalar(sa.text('SELECT 1'))")
    environments.add_revision(project, "three", "two", "op.execute('SELECT 3')")
    assert [type(segment) for segment in cut(project).segments] == [Online], "one transaction stays one"
    environments.use_transaction_per_migration(project)
    found = cut(project).segments
    assert [type(segment) for segment in found] == [Script, Online, Script]
    assert [segment.revisions for segment in found] == [("one",), ("two",), ("three",)]
    assert [(segment.before, segment.after) for segment in found] == [
        ((), ("one",)),
        (("one",), ("two",)),
        (("two",), ("three",)),
    ]
    assert isinstance(found[1], Online)
    assert "scalar" in found[1].reasons[0]


def test_an_autocommit_block_stands_alone(project: Path) -> None:
    body = """
    op.execute('SELECT 1')
    with op.get_context().autocommit_block():
        op.execute('CREATE INDEX CONCURRENTLY i ON t (a)')
    op.execute('SELECT 2')
    """
    environments.add_revision(project, "one", None, body)
    first, alone, last = cut(project).segments
    assert isinstance(first, Script)
    assert isinstance(alone, Script)
    assert isinstance(last, Script)
    assert (first.transactional, alone.transactional, last.transactional) == (True, False, True)
    assert first.revisions == alone.revisions == ()
    assert last.revisions == ("one",)
    assert first.creates_version


def test_one_transaction_for_all_or_one_for_each(project: Path) -> None:
    environments.add_revision(project, "one", None, "op.execute('SELECT 1')")
    environments.add_revision(project, "two", "one", "op.execute('SELECT 2')")
    assert [segment.revisions for segment in cut(project).segments] == [("one", "two")]
    env = project / "alembic" / "env.py"
    env.write_text(env.read_text().replace("literal_binds=True", "transaction_per_migration=True"))
    assert [segment.revisions for segment in cut(project).segments] == [("one",), ("two",)]


def test_a_downgrade_is_rendered_too_and_keeps_the_version_table(project: Path) -> None:
    environments.add_revision(project, "one", None, "pass", "op.drop_table('t')")
    (script,) = cut(project, ("one",), "base").segments
    assert isinstance(script, Script)
    assert (script.before, script.after) == (("one",), ())
    assert script.items == (Begun("one"), "DROP TABLE t", Move(("one",), ()))
    assert cut(project, ("one",), "base").create_version is None


def test_env_py_that_begins_no_transaction_runs_online(project: Path) -> None:
    environments.add_revision(project, "one", None, "op.execute('SELECT 1')")
    env = project / "alembic" / "env.py"
    env.write_text(env.read_text().replace("with context.begin_transaction():", "if True:", 1))
    assert "begins no transaction in offline mode" in str(rendered(project).steps[0].reason)


def test_env_py_that_has_callbacks_runs_online(project: Path) -> None:
    environments.add_revision(project, "one", None, "pass")
    env = project / "alembic" / "env.py"
    env.write_text(env.read_text().replace("literal_binds=True", "on_version_apply=print"))
    assert "on_version_apply" in str(rendered(project).steps[0].reason)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("url=url", "url='sqlite://'", "set up for sqlite"),
        ("context.run_migrations()", "pass", "without rendering"),
        ("url=url", "connection=object()", "a connection in offline mode"),
        ("literal_binds=True", "version_table='mine'", "read from 'alembic_version'"),
    ],
)
def test_env_py_that_cannot_be_run_offline_says_so(project: Path, before: str, after: str, said: str) -> None:
    environments.add_revision(project, "one", None, "pass")
    env = project / "alembic" / "env.py"
    env.write_text(env.read_text().replace(before, after, 1))
    with pytest.raises(TargetError, match=said):
        rendered(project)


def test_what_is_made_up_on_the_way_runs_online(project: Path) -> None:
    environments.add_revision(project, "one", None, "op.execute('SELECT 1')")
    environments.add_revision(
        project, "two", "one", "sa.made_up = getattr(sa, 'made_up', 0) + 1\nop.execute(f'SELECT {sa.made_up}')"
    )
    environments.add_revision(project, "three", "two", "op.execute('SELECT 3')")
    found = agreed(rendered(project), rendered(project))
    assert [step.reason and "differs from run to run" in step.reason for step in found.steps] == [None, True, None]


def test_indexes_of_a_new_table_come_in_one_order(project: Path) -> None:
    """Alembic's own is that of addresses in memory, and differs from run to run."""
    names = [f"ix_{letter}" for letter in "qwertyuiop"]
    indexes = ", ".join(f"sa.Index({name!r}, 'id')" for name in names)
    items = one(project, f"op.create_table('t', sa.Column('id', sa.Integer), {indexes})").items
    made = [item for item in items if "INDEX" in item]
    assert made == [f"CREATE INDEX {name} ON t (id)" for name in sorted(names)]


def test_renderings_of_different_shape_run_online() -> None:
    first = Rendering((RenderedStep("a", ("a",)),), (Mark.BEGIN,))
    for second in (Rendering((RenderedStep("a", ("a",)),)), Rendering((RenderedStep("b", ("b",)),), (Mark.BEGIN,))):
        assert all(step.reason for step in agreed(first, second).steps)


def test_a_rendering_of_another_plan_is_refused() -> None:
    with pytest.raises(ValueError, match="not of this plan"):
        compiled(Plan((), ("a",), "upgrade", ("a",)), Rendering((RenderedStep("b", ("b",)),)))


@pytest.mark.parametrize("body", ["pass", '"""Only words."""', '"""Words."""\npass', "return None"])
def test_a_revision_that_does_nothing_needs_no_env_py(project: Path, body: str) -> None:
    assert one(project, body).reason is None


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            "config = context.config",
            "config = context.config\nimport psycopg",
            "takes a driver, a cursor or a listener",
        ),
        (
            "config = context.config",
            "config = context.config\nsa = __import__('sqlalchemy')\n"
            "sa.event.listen(sa.engine.Engine, 'commit', print)",
            "takes a driver, a cursor or a listener",
        ),
        (
            "config = context.config",
            "config = context.config\ntenant = context.get_x_argument(as_dictionary=True)['tenant']",
            "which tenant it is for",
        ),
        ("config = context.config", "config = context.config\ncontext.get_x_argument()", "which tenant it is for"),
        (
            "config = context.config",
            "config = context.config\ncontext.get_x_argument(as_dictionary=True).get('url')",
            None,
        ),
    ],
)
def test_env_py_that_may_do_more_runs_online(project: Path, before: str, after: str, said: str | None) -> None:
    environments.add_revision(project, "one", None, "op.execute('SELECT 1')")
    env = project / "alembic" / "env.py"
    env.write_text(env.read_text().replace(before, after, 1))
    (step,) = rendered(project).steps
    assert step.reason is None if said is None else said in str(step.reason)


def test_an_env_py_that_sends_something_after_the_revisions_runs_online(project: Path) -> None:
    environments.use_transaction_per_migration(project)
    environments.add_revision(project, "one", None, "op.execute('SELECT 1')")
    env = project / "alembic" / "env.py"
    inside = "            context.run_migrations()\n"
    assert env.read_text().count(inside) == 1
    env.write_text(
        env.read_text().replace("context.run_migrations()\n", "context.run_migrations(); context.execute('GRANT')\n")
    )
    (step,) = rendered(project).steps
    assert step.reason == "env.py sends statements of its own"


def test_the_rest_of_a_revision_that_committed_before_is_marked(project: Path) -> None:
    body = """
    op.execute('SELECT 1')
    with op.get_context().autocommit_block():
        op.execute('SELECT 2')
    op.execute('SELECT 3')
    """
    environments.use_transaction_per_migration(project)
    environments.add_revision(project, "one", None, body)
    environments.add_revision(project, "two", "one", "op.execute('SELECT 4')")
    scripts_ = [segment for segment in cut(project).segments if isinstance(segment, Script)]
    assert [script.continues for script in scripts_] == [None, "one", "one", None]


FILL = "op.backfill('t', set_={'a': 1})"


def test_a_backfill_runs_online_and_its_body_is_not_run(project: Path) -> None:
    step = one(project, f"raise RuntimeError('not to be run')\n{FILL}")
    assert (step.reason, step.items) == ("it changes rows in batches", ())


@pytest.mark.parametrize("asked", ["op.requires_backfill('one')", "op.verify('SELECT true', 'no')"])
def test_what_asks_whether_it_may_go_on_runs_online(project: Path, asked: str) -> None:
    name = asked.partition("(")[0]
    assert one(project, f"{asked}\nop.drop_column('t', 'a')").reason == f"it asks the database (`{name}`)"


def _history(project: Path, *bodies: str) -> None:
    down = None
    for name, body in zip("abcdef", bodies, strict=False):
        environments.add_revision(project, name, down, body)
        down = name


def _segments(made: Compiled) -> list[tuple[str, tuple[str, ...]]]:
    return [("online" if isinstance(one, Online) else "sql", one.revisions) for one in made.segments]


SQL, ASKS = "op.execute('SELECT 1')", "op.get_bind().execute(sa.text('SELECT 1')).scalar()"


def test_backfills_end_the_transaction_that_others_share(project: Path) -> None:
    """env.py has one transaction for all revisions; what comes before and after a backfill is replayed nevertheless."""
    _history(project, SQL, SQL, FILL, SQL, FILL, FILL)
    made = cut(project)
    assert _segments(made) == [("sql", ("a", "b")), ("online", ("c",)), ("sql", ("d",)), ("online", ("e", "f"))]
    scripts_ = [one for one in made.segments if isinstance(one, Script)]
    assert [(one.transactional, one.before, one.after) for one in scripts_] == [
        (True, (), ("b",)),
        (True, ("c",), ("d",)),
    ]
    assert made.segments[0].creates_version  # type: ignore[union-attr]


def test_what_shares_a_transaction_with_an_online_revision_still_does(project: Path) -> None:
    _history(project, SQL, ASKS, FILL, SQL)
    made = cut(project)
    assert _segments(made) == [("online", ("a", "b", "c")), ("sql", ("d",))]
    online = made.segments[0]
    assert isinstance(online, Online)
    assert online.reasons[0] == "it shares a transaction with b, which runs online"
    assert online.reasons[2] == "it changes rows in batches"


def test_where_all_ends_online_nothing_is_replayed(project: Path) -> None:
    _history(project, FILL, ASKS)
    assert not cut(project).replayable


def test_what_would_reach_outside_is_not_run_to_be_rendered(project: Path, tmp_path: Path) -> None:
    step = one(project, f"op.execute('SELECT 1')\nopen({str(tmp_path / 'made')!r}, 'w').close()")
    assert "(`open`, line" in str(step.reason)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("sent", ["VALUES ('{0}')", "VALUES (md5('{0}'))", "/* {0} */ VALUES (1)"])
def test_a_value_of_the_environment_is_never_compiled(project: Path, sent: str) -> None:
    secret = "hunt'er2"
    sql = sent.format("hunt''er2")
    environments.add_revision(project, "one", None, f'op.execute("""INSERT INTO t {sql}""")')
    environments.add_revision(project, "two", "one", SQL)
    environments.use_transaction_per_migration(project)
    _, job, directory = plan_of(project)
    job = replace(job, environment={"SHORT": "1", "CRYPT_KEY": secret}, secrets=(secret,))
    first, second = compiler.render(job, directory).steps  # type: ignore[arg-type]
    assert first.reason == "it sends the value of CRYPT_KEY, which may be a secret"
    assert first.items == (Mark.BEGIN, Mark.COMMIT)
    assert second.reason is None


@pytest.mark.parametrize(
    ("name", "value", "hidden"),
    [
        ("ADMIN_PASSWORD", "correct horse", True),
        ("stripe_api_key", "correct horse", True),
        ("MONKEY", "correct horse", False),
        ("MYSQL_PWD", "correct horse", True),
        ("PWD", "correct horse", False),
        ("OLDPWD", "correct horse", False),
        ("ADMIN_PASSWORD", "horse", False),
    ],
)
def test_nor_is_one_of_our_own_that_sounds_like_a_secret(
    project: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, hidden: bool
) -> None:
    """Settings that an installed package reads from there."""
    monkeypatch.setenv(name, value)
    environments.add_revision(project, "one", None, "op.execute(\"INSERT INTO t VALUES ('correct horse')\")")
    _, job, directory = plan_of(project)
    [step] = compiler.render(job, directory).steps  # type: ignore[arg-type]
    assert step.reason == (f"it sends the value of {name}, which may be a secret" if hidden else None)
    assert ("correct horse" in str(step)) is not hidden


@pytest.mark.parametrize(
    ("leaves", "what"),
    [
        ("op.execute(\"DO $$ BEGIN SET timezone = 'Asia/Tokyo'; END $$\")", "SET timezone"),
        ("op.execute(\"DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET a.b = 1', 'd'); END $$\")", "ALTER DATABASE"),
        ("op.execute(\"INSERT INTO t VALUES (currval('s'))\")", "currval"),
        ("op.execute('CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$')", "pg_temp"),
        ("op.execute('SELECT my_function(); SET ROLE owner')", "SET ROLE"),
        (f"{ASKS}\nop.execute('PREPARE ins AS SELECT 1')", "PREPARE ins"),
        ("op.get_bind().scalar(sa.text('SELECT lastval()'))", "lastval"),
    ],
)
def test_what_lives_in_a_session_is_not_cut_from_the_rest(project: Path, leaves: str, what: str) -> None:
    environments.use_transaction_per_migration(project)
    _history(project, leaves, SQL, ASKS)
    (all_,) = cut(project).segments
    assert isinstance(all_, Online)
    assert what in str(all_.reasons[1])
    assert "may leave something in its session, or ask for it" in all_.reasons[1]


def test_what_lives_in_a_session_is_replayed_where_all_is(project: Path) -> None:
    environments.use_transaction_per_migration(project)
    _history(project, "op.execute(\"INSERT INTO t VALUES (currval('s'))\")", SQL)
    assert _segments(cut(project)) == [("sql", ("a",)), ("sql", ("b",))]


@pytest.mark.parametrize(
    "body",
    [
        "DO $$ BEGIN PERFORM pg_advisory_unlock_all(); END $$",
        "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_lock(1); END'",
        "DO $$ BEGIN EXECUTE 'DISCARD TEMP'; END $$",
    ],
)
def test_what_may_let_go_of_the_lock_is_run_by_env_py(project: Path, body: str) -> None:
    assert "lets go of its locks" in str(one(project, f'op.execute("""{body}""")').reason)
