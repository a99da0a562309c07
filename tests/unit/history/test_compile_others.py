"""How revisions are rendered for SQLite, and for MySQL and MariaDB as if their dialect had met the server."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.history import compile as compiler
from orchestrator.history import scripts
from orchestrator.history.jobs import CompileJob
from orchestrator.history.revisions import History
from orchestrator.plan.compiled import Compiled, Mark, Online, Rendering, Script, compiled
from orchestrator.plan.steps import Plan, Planner
from tests import environments

URLS = {"sqlite": "sqlite:///x", "mysql": "mysql+pymysql://u@h/d", "mariadb": "mariadb+pymysql://u@h/d"}
SERVERS = {"sqlite": "3.40.1", "mysql": "8.4.3", "mariadb": "10.11.6-MariaDB"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    environments.make_project(tmp_path)
    return tmp_path


def rendered(project: Path, dialect: str, server: str | None = "") -> tuple[Plan, Rendering]:
    track = environments.track_of(project / "alembic.ini")
    snapshot, directory = scripts.read(track)
    history = History(track, snapshot)
    plan = Planner(history, history.resolve("heads")).plan(None)
    server = SERVERS[dialect] if server == "" else server
    place = (dialect, "alembic_version", None, URLS[dialect])
    return plan, compiler.render(CompileJob(track, history.digest, "acme", plan, *place, server=server), directory)


def one(project: Path, dialect: str, body: str, server: str | None = "") -> list[str]:
    environments.add_revision(project, "one", None, body)
    (step,) = rendered(project, dialect, server)[1].steps
    assert step.reason is None
    return [item for item in step.items if not isinstance(item, Mark)]


def cut(project: Path, dialect: str) -> Compiled:
    plan, rendering = rendered(project, dialect)
    return compiled(plan, rendering)


AWKWARD = r"op.execute(sa.table('t', sa.column('a', sa.Text())).insert().values(a='b\\c % %s it\'s'))"


@pytest.mark.parametrize(
    ("dialect", "body", "sql"),
    [
        ("sqlite", AWKWARD, r"'b\c % %s it''s'"),
        ("mysql", AWKWARD, r"'b\\c % %s it''s'"),
        ("mariadb", AWKWARD, r"'b\\c % %s it''s'"),
        ("mysql", r"op.execute('UPDATE t SET a = \'100 %\' WHERE b LIKE \'%x\'')", "a = '100 %' WHERE b LIKE '%x'"),
        ("mysql", "op.create_table('t%d', sa.Column('a`b', sa.Integer))", "CREATE TABLE `t%d` (\n\t`a``b` INTEGER"),
        (
            "mysql",
            r"op.create_table_comment('t', '100 % \\ it\'s')",
            r"ALTER TABLE t COMMENT '100 % \\ it''s'",
        ),
        ("sqlite", "op.get_bind().execute(sa.text('UPDATE t SET a = :a'), {'a': 'it\\'s :b ?'})", "a = 'it''s :b ?'"),
        ("mysql", "op.drop_constraint('c', 't', type_='check')", "ALTER TABLE t DROP CHECK c"),
        ("mariadb", "op.drop_constraint('c', 't', type_='check')", "ALTER TABLE t DROP CONSTRAINT c"),
    ],
)
def test_statements_are_rendered_for_the_server(project: Path, dialect: str, body: str, sql: str) -> None:
    (statement,) = one(project, dialect, body)
    assert sql in statement


def test_the_dialect_of_mysql_is_as_if_it_had_met_the_server(project: Path) -> None:
    """The URL says `mysql`, and the server is MariaDB."""
    body = "op.drop_constraint('c', 't', type_='check')"
    assert one(project, "mysql", body, "10.11.6-MariaDB") == ["ALTER TABLE t DROP CONSTRAINT c"]
    assert one(project, "mysql", body, "8.0.36") == ["ALTER TABLE t DROP CHECK c"]
    upsert = (
        "from sqlalchemy.dialects import mysql\n"
        "i = mysql.insert(sa.table('t', sa.column('a', sa.Integer()))).values(a=1)\n"
        "op.execute(i.on_duplicate_key_update(a=i.inserted.a))"
    )
    (mariadb,), (mysql,) = (one(project, "mysql", upsert, version) for version in ("10.11.6-MariaDB", "8.0.36"))
    assert "a = VALUES(a)" in mariadb
    assert "AS new ON DUPLICATE KEY UPDATE a = new.a" in mysql


@pytest.mark.parametrize(
    ("dialect", "body", "reason"),
    [
        (
            "sqlite",
            "import decimal\nt = sa.table('t', sa.column('a', sa.Numeric))\n"
            "op.execute(t.insert().values(a=decimal.Decimal('1.5')))",
            "UnfaithfulError",
        ),
        ("sqlite", "op.get_bind().execute(sa.text('UPDATE t SET a = :a'), {'a': 2 ** 63})", "UnfaithfulError"),
        ("mysql", "op.get_bind().execute(sa.text('UPDATE t SET a = :a'), {'a': 'a\\0b'})", "UnfaithfulError"),
        (
            "sqlite",
            "with op.batch_alter_table('t', recreate='always') as b:\n    b.drop_column('a')",
            "cannot be rendered",
        ),
        ("mysql", "op.execute('SET sql_mode = 0')", "it changes its session: SET"),
    ],
)
def test_what_cannot_be_rendered_faithfully_runs_online(project: Path, dialect: str, body: str, reason: str) -> None:
    environments.add_revision(project, "one", None, body)
    (step,) = rendered(project, dialect)[1].steps
    assert step.reason is not None
    assert reason in step.reason


def test_what_is_only_looked_at_is_shown_whatever_it_is(project: Path) -> None:
    assert one(project, "sqlite", "op.execute('PRAGMA foreign_keys = OFF')", None) == ["PRAGMA foreign_keys = OFF"]


@pytest.mark.parametrize("dialect", ["sqlite", "mysql", "mariadb"])
def test_each_revision_is_a_script_of_its_own(project: Path, dialect: str) -> None:
    environments.add_tables(project, ["alpha", "beta"])
    environments.add_revision(project, "empty", "beta", "pass")
    found = cut(project, dialect)
    assert [one.revisions for one in found.segments] == [("alpha",), ("beta",), ("empty",)]
    assert all(isinstance(one, Script) and one.transactional for one in found.segments)
    assert (found.per_migration, [one.after for one in found.segments]) == (True, [("alpha",), ("beta",), ("empty",)])


def test_what_follows_a_changed_session_runs_online(project: Path) -> None:
    environments.add_tables(project, ["alpha"])
    environments.add_revision(project, "sets", "alpha", "op.execute('SET foreign_key_checks = 0')")
    environments.add_revision(project, "after", "sets", "op.execute('DROP TABLE alpha')")
    [online] = cut(project, "mysql").segments
    assert isinstance(online, Online)
    assert online.revisions == ("alpha", "sets", "after")
    assert online.reasons[1:] == ("it changes its session: SET", "sets runs before it, and changes its session")


TRANSACTIONAL = "target_metadata=target_metadata, transactional_ddl=True"


def test_env_py_that_takes_ddl_for_transactional(project: Path) -> None:
    env = project / "alembic" / "env.py"
    env.write_text(env.read_text().replace("target_metadata=target_metadata", TRANSACTIONAL))
    environments.add_tables(project, ["alpha", "beta"])
    (script,) = cut(project, "sqlite").segments
    assert isinstance(script, Script)
    assert (script.revisions, script.transactional) == (("alpha", "beta"), True)
    (online,) = cut(project, "mysql").segments
    assert isinstance(online, Online)
    assert "DDL is transactional, which it is not there" in online.reasons[0]


def test_a_commit_in_the_middle_runs_online_on_sqlite(project: Path) -> None:
    env = project / "alembic" / "env.py"
    alone = f"{TRANSACTIONAL}, transaction_per_migration=True"
    env.write_text(env.read_text().replace("target_metadata=target_metadata", alone))
    body = "op.execute('DROP TABLE a')\nwith op.get_context().autocommit_block():\n    op.execute('DROP TABLE b')"
    environments.add_revision(project, "one", None, body)
    environments.add_revision(project, "two", "one", "op.execute('DROP TABLE c')")
    online, script = cut(project, "sqlite").segments
    assert isinstance(online, Online)
    assert online.reasons == ("it commits in the middle",)
    assert isinstance(script, Script)
