"""Databases that are led past half a backfill, back and forth, in ways that nobody foresees."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError

from orchestrator.backfill.model import Answer, Go, Refused, Report
from orchestrator.history import batches, lives, pacing
from tests.crossed import crossed
from tests.integration.backfills.conftest import Make, Project
from tests.integration.backfills.test_lives import ADD, ASK, DROP, FILL, KINDS, fails, half

TEN_TIMES = 'op.backfill("accounts", {"balance": "balance * 10"}, batch_size=7)'
DRIVERS = ["psycopg", "pymysql", "pysqlite"]
EACH = pytest.mark.parametrize("driver", DRIVERS)
UNTOLD = "Whether these rows are as it has left them cannot be told"
# Plain Alembic in a process of its own.
ALONE = """
from alembic import command
from alembic.config import Config
config = Config({config!r})
config.set_main_option("sqlalchemy.url", {url!r}.replace("%", "%%"))
import orchestrator.operations
command.{what}(config, {to!r})
"""


def _alone(project: Project, what: str, to: str) -> None:
    url = project.url.render_as_string(hide_password=False)
    script = ALONE.format(config=str(project.config), url=url, what=what, to=to)
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


@dataclass
class Between:
    """Does something once, before the fourth batch."""

    do: Any
    asked: int = 0

    def ask(self, report: Report) -> Answer:
        self.asked += 1
        if self.asked == 4:
            self.do()
        return Go(7)


def _times(project: Project, column: str = "balance", table: str = "accounts") -> list[tuple[int, int]]:
    return [(int(a), int(b)) for a, b in project.rows(f"SELECT min({column} / id), max({column} / id) FROM {table}")]


async def _refused(project: Project, match: str = UNTOLD) -> tuple[str, str]:
    """The statements that let it go on, and begin anew."""
    with pytest.raises(CommandError, match=match) as caught:
        await project.upgrade()
    on = str(caught.value).partition("let it go on: ")[2]
    return on.partition(". If they were")[0], on.rpartition("begin anew: ")[2].partition("\n")[0]


async def _half_done(project: Project) -> None:
    with pytest.raises((CommandError, RuntimeError), match="not yet"):
        await project.upgrade()


@crossed(driver=[*DRIVERS, "asyncpg"], what=["column", "table"])
async def test_what_has_got_another_name_is_not_gone(make_project: Make, driver: str, what: str) -> None:
    """Its rows are as they were left: who began anew would change them twice."""
    project = await make_project(driver)
    project.numbers(60)
    if what == "column":
        there, column, table = half(project, "cents").replace('"balance"', '"cents"'), "cents", "accounts"
        kind = "existing_type=sa.BigInteger(), existing_nullable=False"
        rename = f'with op.batch_alter_table("accounts") as batch:\n    batch.alter_column({{}}, {kind})'
        forth = rename.format('"balance", new_column_name="cents"')
        back = rename.format('"cents", new_column_name="balance"')
    else:
        there, column, table = half(project, "balance").replace('"accounts"', '"people"'), "balance", "people"
        forth, back = 'op.rename_table("accounts", "people")', 'op.rename_table("people", "accounts")'
    project.add("named", None, forth, back)
    project.add("filled", "named", there)
    await _half_done(project)
    await project.downgrade("base")
    (project.folder / "flag").touch()
    on, _ = await _refused(project)
    project.execute(on)
    await project.upgrade()
    assert _times(project, column, table) == [(100, 100)]


@EACH
async def test_what_is_half_undone_and_led_past_is_not_gone_on_with(make_project: Make, driver: str) -> None:
    project = await make_project(driver)
    project.numbers(60)
    project.add("filled", None, TEN_TIMES, half(project, "balance"))
    project.add("later", "filled", ADD, DROP)
    await project.upgrade("filled")
    with pytest.raises((CommandError, RuntimeError), match="not yet"):
        await project.downgrade("base")
    await project.upgrade()
    (project.folder / "flag").touch()
    with pytest.raises(CommandError, match=UNTOLD) as caught:
        await project.downgrade("base")
    project.execute(str(caught.value).partition("let it go on: ")[2].partition(". If they were")[0])
    await project.downgrade("base")
    assert _times(project) == [(1000, 1000)]


@EACH
async def test_a_stamp_over_what_is_half_undone_does_not_make_it_done(make_project: Make, driver: str) -> None:
    project = await make_project(driver)
    project.numbers(60)
    project.add("first", None, "pass")
    project.add("filled", "first", TEN_TIMES, half(project, "balance"))
    await project.upgrade()
    with pytest.raises((CommandError, RuntimeError), match="not yet"):
        await project.downgrade("first")
    await project.run(lambda config: command.stamp(config, "first"))
    await fails(project, r"the downgrade of revision filled has put back \d+ rows of 'accounts' and did not come")
    await project.run(lambda config: command.stamp(config, "filled"))
    (project.folder / "flag").touch()
    await project.downgrade("first")
    assert _times(project) == [(1000, 1000)]


@KINDS
async def test_a_run_whose_database_another_has_led_back_ends(make_project: Make, driver: str) -> None:
    """Between two of its batches. What the other has noted stays noted."""
    project = await make_project(driver)
    project.numbers(60)
    project.add("first", None, "pass", "pass")
    project.add("filled", "first", TEN_TIMES, ASK)
    await project.upgrade("first")
    with pacing.applied(Between(lambda: _alone(project, "downgrade", "base"))):
        await fails(project, "somebody else has taken the backfill of 'accounts' over")
    [checkpoint] = project.checkpoints()
    assert (checkpoint["state"], checkpoint["rows_changed"]) == ("doubted", 21)
    on, _ = await _refused(project)
    project.execute(on)
    await project.upgrade()
    assert _times(project) == [(10, 10)]


async def test_a_column_that_was_made_anew_unseen_is_filled_anew(postgres: Project) -> None:
    """By a script, another history, or a person."""
    postgres.numbers(60)
    postgres.add("expand", None, ADD, DROP)
    postgres.add("filled", "expand", half(postgres, "cents"), ASK)
    await _half_done(postgres)
    (postgres.folder / "flag").touch()
    postgres.execute("ALTER TABLE accounts DROP COLUMN cents", "ALTER TABLE accounts ADD COLUMN cents BIGINT")
    await postgres.upgrade()
    assert postgres.rows("SELECT count(*) FROM accounts WHERE cents = balance * 100") == [(60,)]


MADE_ANEW = (
    "ALTER TABLE accounts RENAME TO before",
    "CREATE TABLE accounts (LIKE before INCLUDING ALL)",
    "INSERT INTO accounts TABLE before",
)
LED_PAST = "DELETE FROM alembic_version", "INSERT INTO alembic_version VALUES ('expand')"


@pytest.mark.parametrize("statements", [MADE_ANEW, LED_PAST])
async def test_what_was_done_unseen_is_not_gone_on_with_unasked(postgres: Project, statements: tuple[str, ...]) -> None:
    """The table copied, as a dump does it; other revisions run by a script, there and back."""
    postgres.numbers(60)
    postgres.add("expand", None, ADD, DROP)
    postgres.add("filled", "expand", half(postgres, "balance"), ASK)
    await _half_done(postgres)
    (postgres.folder / "flag").touch()
    postgres.execute(*statements)
    on, _ = await _refused(postgres)
    postgres.execute(on)
    await postgres.upgrade()
    assert _times(postgres) == [(100, 100)]


@pytest.mark.parametrize("driver", ["pymysql", "pysqlite", "aiosqlite"])
async def test_a_step_back_that_fails_after_its_ddl_is_noted(make_project: Make, driver: str) -> None:
    """Where the server keeps what a step has done, however that ends; a person then makes the column again."""
    project = await make_project(driver)
    project.numbers(60)
    project.add("expand", None, ADD, f'{DROP}\nraise RuntimeError("afterwards")')
    project.add("filled", "expand", half(project, "cents"), ASK)
    await _half_done(project)
    with pytest.raises(RuntimeError, match="afterwards"):
        await project.downgrade("base")
    project.execute("ALTER TABLE accounts ADD COLUMN cents BIGINT")  # it has gone: SQL of ours has not kept it
    (project.folder / "flag").touch()
    _, anew = await _refused(project)
    project.execute(anew)
    await project.upgrade()
    assert project.rows("SELECT count(*) FROM accounts WHERE cents = balance * 100") == [(60,)]


@EACH
async def test_env_py_may_try_again(make_project: Make, driver: str) -> None:
    """On the same context: a backfill that failed goes on, and is no other one."""
    project = await make_project(driver)
    project.numbers(60)
    env = project.folder / "alembic" / "env.py"
    again = "try:\n                context.run_migrations()\n            except RuntimeError:\n"
    again += (
        f"                open({str(project.folder / 'flag')!r}, 'w').close()\n                context.run_migrations()"
    )
    before, run, after = env.read_text().rpartition("context.run_migrations()")
    env.write_text(before + again + after)
    assert run
    project.add("filled", None, f"{half(project, 'balance')}\n{FILL.replace('cents', 'done')}")
    await project.upgrade()
    assert _times(project) == [(100, 100)]
    assert [(row["ordinal"], bool(row["applied"])) for row in project.checkpoints()] == [(1, True), (2, True)]


@pytest.mark.parametrize("driver", ["pysqlite", "aiosqlite"])
async def test_a_commit_that_a_reader_keeps_off_is_taken_back(make_project: Make, driver: str) -> None:
    project = await make_project(driver)
    project.numbers(60)
    project.add("filled", None, TEN_TIMES)
    project.url = project.url.update_query_dict({"timeout": "0.1"})
    readers: list[sa.Connection] = []
    refused = 0

    def meet(report: Report) -> None:
        nonlocal refused
        refused += isinstance(report.last, Refused)
        if refused and readers:
            readers.pop().rollback()
        elif not refused and not readers and report.progress.changed >= 21:
            readers.append(reader)
            reader.exec_driver_sql("BEGIN")
            reader.execute(sa.text("SELECT count(*) FROM accounts")).all()

    class Pacer:
        def ask(self, report: Report) -> Answer:
            meet(report)
            return Go(7)

    with project.connected() as reader, pacing.applied(Pacer()):
        await project.upgrade()
    assert refused == 1
    assert _times(project) == [(10, 10)]


@pytest.mark.parametrize("stamped", [True, False])
async def test_two_runs_that_begin_at_once_on_sqlite(
    make_project: Make, monkeypatch: pytest.MonkeyPatch, stamped: bool
) -> None:
    """The other one begins and ends between this one's look at the checkpoint and its first batch."""
    project = await make_project("pysqlite")
    project.numbers(60)
    project.add("first", None, "pass")
    project.add("filled", "first", TEN_TIMES)
    await project.upgrade("filled" if stamped else "first")
    await project.run(lambda config: command.stamp(config, "first"))
    monkeypatch.setattr(batches.Loop, "_wait_for_writers", lambda self: _alone(project, "upgrade", "head"))
    await fails(project, "somebody else has taken the backfill of 'accounts' over")
    assert _times(project) == [(100, 100) if stamped else (10, 10)]


async def test_a_tenant_on_the_search_path_has_checkpoints_of_its_own(postgres: Project) -> None:
    """`public` has the same history, and has come half through it."""
    postgres.numbers(60)
    postgres.add("first", None, "pass", "pass")
    postgres.add("filled", "first", half(postgres, "balance"), ASK)
    await _half_done(postgres)
    postgres.execute(
        "CREATE SCHEMA tenant",
        "CREATE TABLE tenant.accounts AS TABLE accounts",
        "ALTER TABLE tenant.accounts ADD PRIMARY KEY (id)",
        "UPDATE tenant.accounts SET balance = id",
        "CREATE TABLE tenant.alembic_version AS TABLE alembic_version",
    )
    (postgres.folder / "flag").touch()
    public = postgres.url
    postgres.url = public.update_query_dict({"options": "-c search_path=tenant,public"})
    await postgres.upgrade()
    postgres.url = public
    assert _times(postgres, table="tenant.accounts") == [(100, 100)]
    assert [row["state"] for row in postgres.checkpoints()] == ["running"]


async def test_a_backfill_in_an_autocommit_block_is_refused(postgres: Project) -> None:
    postgres.numbers(60)
    postgres.add("filled", None, f"with op.get_context().autocommit_block():\n    {TEN_TIMES}")
    await fails(postgres, "stands in an `autocommit_block`")
    assert _times(postgres) == [(1, 1)]


def test_operations_are_made_as_alembic_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """By name as well, and where somebody else has wrapped how they are made."""
    plain: Any = Operations.__init__
    while hasattr(plain, "__wrapped__"):
        plain = plain.__wrapped__

    @wraps(plain)
    def theirs(self: Operations, *args: Any, **options: Any) -> None:
        plain(self, *args, **options)

    monkeypatch.setattr(Operations, "__init__", theirs)
    monkeypatch.setattr(Operations, "_orchestrator_looks_at_steps", False)
    lives.install()
    lives.install()
    with sa.create_engine("sqlite://").connect() as connection:
        context = MigrationContext.configure(connection)
        Operations(migration_context=context)
        assert len(context.on_version_apply_callbacks) == 1


SWAP = """
op.add_column("accounts", sa.Column("wide", sa.BigInteger))
op.execute("UPDATE accounts SET wide = balance")
op.drop_column("accounts", "balance")
op.alter_column("accounts", "wide", new_column_name="balance", existing_type=sa.BigInteger())
"""


@pytest.mark.parametrize("driver", ["psycopg", "pymysql"])
async def test_what_was_copied_into_another_column_is_not_made_twice(make_project: Make, driver: str) -> None:
    """A column is widened by way of another one, there and back: the rows that were changed went with it."""
    project = await make_project(driver)
    project.numbers(60)
    project.add("widened", None, SWAP, SWAP)
    project.add("filled", "widened", half(project, "balance"), ASK)
    await _half_done(project)
    await project.downgrade("base")
    (project.folder / "flag").touch()
    on, _ = await _refused(project)
    project.execute(on)
    await project.upgrade()
    assert _times(project) == [(100, 100)]


@EACH
async def test_what_a_downgrade_has_saved_elsewhere_is_not_made_twice(make_project: Make, driver: str) -> None:
    project = await make_project(driver)
    project.numbers(60)
    project.add(
        "expand",
        None,
        f'{ADD}\nop.execute("UPDATE accounts SET cents = balance")',
        f'op.execute("UPDATE accounts SET balance = cents")\n{DROP}',
    )
    project.add("filled", "expand", half(project, "cents").replace('"balance"', '"cents"'), ASK)
    await _half_done(project)
    await project.downgrade("base")
    (project.folder / "flag").touch()
    on, _ = await _refused(project)
    project.execute(on)
    await project.upgrade()
    assert _times(project, "cents") == [(100, 100)]


@crossed(driver=DRIVERS, tied=["branch", "depends_on"])
async def test_another_branch_that_goes_on_meanwhile_is_no_way_past(make_project: Make, driver: str, tied: str) -> None:
    """It takes the row of the version table that the backfill's revision began from."""
    project = await make_project(driver)
    project.numbers(60)
    project.add("root", None, "pass")
    project.add("filled", "root" if tied == "branch" else None, half(project, "balance"), ASK)
    if tied == "depends_on":
        file = next((project.folder / "alembic" / "versions").glob("filled*.py"))
        file.write_text(file.read_text() + '\ndepends_on = "root"\n')
    with pytest.raises((CommandError, RuntimeError), match="not yet"):
        await project.upgrade("filled")
    project.add("other", "root", "pass")
    await project.upgrade("other")
    (project.folder / "flag").touch()
    await project.upgrade("filled")
    assert _times(project) == [(100, 100)]


async def test_a_dependency_that_was_led_back_unseen_is_noticed(postgres: Project) -> None:
    """The backfill's revision began from a revision that is no head, so it has no row of its own."""
    postgres.numbers(60)
    postgres.add("one", None, "pass")
    postgres.add("two", "one", "pass")
    postgres.add("filled", None, half(postgres, "balance"), ASK)
    file = next((postgres.folder / "alembic" / "versions").glob("filled*.py"))
    file.write_text(file.read_text() + '\ndepends_on = "one"\n')
    await postgres.upgrade("two")
    with pytest.raises((CommandError, RuntimeError), match="not yet"):
        await postgres.upgrade("filled")
    postgres.execute("UPDATE alembic_version SET version_num = 'one'", "UPDATE alembic_version SET version_num = 'two'")
    (postgres.folder / "flag").touch()
    with pytest.raises(CommandError, match=UNTOLD):
        await postgres.upgrade("filled")


@crossed(driver=DRIVERS, how=["sql", "purge"])
async def test_what_was_led_back_by_hand_is_noticed_on_the_way_up(make_project: Make, driver: str, how: str) -> None:
    """Revisions before it are run again, so their columns are made again."""
    project = await make_project(driver)
    project.numbers(60)
    project.add("zero", None, "pass")
    project.add("expand", "zero", ADD, DROP)
    project.add("filled", "expand", half(project, "cents"), ASK)
    await _half_done(project)
    project.execute("ALTER TABLE accounts DROP COLUMN cents")
    if how == "sql":
        project.execute("UPDATE alembic_version SET version_num = 'zero'")
    else:
        await project.run(lambda config: command.stamp(config, "zero", purge=True))
    (project.folder / "flag").touch()
    _, anew = await _refused(project)
    project.execute(anew)
    await project.upgrade()
    assert project.rows("SELECT count(*) FROM accounts WHERE cents = balance * 100") == [(60,)]


async def test_a_step_back_that_was_refused_leaves_no_doubt(make_project: Make) -> None:
    """Also on MySQL, which commits before it tries."""
    project = await make_project("pymysql")
    project.numbers(60)
    wait = "op.execute('SET SESSION lock_wait_timeout = 1')"
    project.add("expand", None, ADD, f"{wait}\n{DROP}")
    project.add("filled", "expand", half(project, "cents"), ASK)
    await _half_done(project)
    with project.connected() as other:
        other.execute(sa.text("SELECT count(*) FROM accounts")).all()  # its transaction holds the table's definition
        with pytest.raises(sa.exc.OperationalError, match="Lock wait timeout"):
            await project.downgrade("base")
        other.rollback()
    (project.folder / "flag").touch()
    await project.upgrade()
    assert project.rows("SELECT count(*) FROM accounts WHERE cents = balance * 100") == [(60,)]


async def test_a_table_that_is_made_anew_beside_others_like_it_is_filled_anew(postgres: Project) -> None:
    """PostgreSQL tells that it is gone, though another has columns of the same names."""
    postgres.execute("CREATE TABLE others (id BIGINT PRIMARY KEY, name TEXT, done BIGINT)")
    made = """
    op.create_table("people", sa.Column("id", sa.BigInteger, primary_key=True), sa.Column("done", sa.BigInteger))
    op.execute("INSERT INTO people (id) SELECT i FROM generate_series(1, 60) AS i")
    """
    postgres.add("made", None, made, 'op.drop_table("people")')
    fill = half(postgres, "done").replace('"accounts"', '"people"').replace('"balance"', '"id"')
    postgres.add("filled", "made", fill, ASK)
    await _half_done(postgres)
    await postgres.downgrade("base")
    (postgres.folder / "flag").touch()
    await postgres.upgrade()
    assert _times(postgres, "done", "people") == [(100, 100)]


async def test_a_value_that_asyncpg_would_write_as_infinite_is_refused(make_project: Make) -> None:
    project = await make_project("asyncpg")
    project.execute(
        "CREATE TABLE accounts (id BIGINT PRIMARY KEY, until DATE, copied DATE)",
        "INSERT INTO accounts SELECT i, '9999-12-31' FROM generate_series(1, 9) AS i",
    )
    copy = 'op.backfill_rows("accounts", ["until"], lambda rows: [{"copied": row["until"]} for row in rows])'
    project.add("filled", None, copy)
    await fails(project, "sets copied to 9999-12-31, which asyncpg would write as an infinite one")
    project.add("filled", None, 'op.backfill("accounts", {"copied": "until"})')
    await project.upgrade()
    assert project.rows("SELECT DISTINCT CAST(copied AS text) FROM accounts") == [("9999-12-31",)]


@crossed(driver=DRIVERS, way=["on", "back"])
async def test_checkpoints_of_an_earlier_release_are_brought_along(make_project: Make, driver: str, way: str) -> None:
    project = await make_project(driver)
    project.numbers(60)
    project.add("expand", None, ADD, DROP)
    project.add("filled", "expand", half(project, "cents"), ASK)
    await _half_done(project)
    project.execute(
        "ALTER TABLE alembic_version_backfills DROP COLUMN numbers",
        """UPDATE alembic_version_backfills SET touched =
           '{"table"\\: "accounts", "schema"\\: null, "columns"\\: ["cents"]}'""",
    )
    (project.folder / "flag").touch()
    if way == "back":  # what it knew is not enough to say that nothing could be made twice
        await project.downgrade("base")
        _, anew = await _refused(project)
        project.execute(anew)
    await project.upgrade()
    assert project.rows("SELECT count(*) FROM accounts WHERE cents = balance * 100") == [(60,)]


def _cleaning(project: Project) -> None:
    """A revision comes into the history in front of the backfill, which has begun behind the first one."""
    project.add("cleaned", "first", "op.execute(\"UPDATE accounts SET note = 'clean'\")")
    project.add("filled", "cleaned", half(project, "balance"), ASK)


@crossed(driver=DRIVERS, tried=[False, True])
async def test_a_revision_that_is_put_in_front_leads_nowhere_back(make_project: Make, driver: str, tried: bool) -> None:
    project = await make_project(driver)
    project.numbers(60)
    project.add("first", None, "pass")
    project.add("filled", "first", half(project, "balance"), ASK)
    await _half_done(project)
    _cleaning(project)
    if tried:
        await project.upgrade("cleaned")
        await project.downgrade("first")
    (project.folder / "flag").touch()
    await project.upgrade()
    assert _times(project) == [(100, 100)]
    assert project.rows("SELECT DISTINCT note FROM accounts") == [("clean",)]


@crossed(driver=DRIVERS, back=["by a step", "by hand"])
async def test_what_it_has_gone_on_behind_is_no_longer_new_to_it(make_project: Make, driver: str, back: str) -> None:
    project = await make_project(driver)
    project.numbers(60)
    project.add("first", None, "pass")
    project.add("filled", "first", half(project, "balance"), ASK)
    await _half_done(project)
    _cleaning(project)
    await _half_done(project)
    if back == "by a step":
        await project.downgrade("first")
    else:
        project.execute("UPDATE alembic_version SET version_num = 'first'")
    (project.folder / "flag").touch()
    on, _ = await _refused(project)
    project.execute(on)
    await project.upgrade()
    assert _times(project) == [(100, 100)]


async def test_what_was_led_back_by_hand_stays_so_behind_a_revision_put_in_front(postgres: Project) -> None:
    postgres.numbers(60)
    postgres.add("zero", None, "pass")
    postgres.add("first", "zero", "pass")
    postgres.add("filled", "first", half(postgres, "balance"), ASK)
    await _half_done(postgres)
    postgres.execute(*(f"UPDATE alembic_version SET version_num = '{revision}'" for revision in ("zero", "first")))
    _cleaning(postgres)
    (postgres.folder / "flag").touch()
    await _refused(postgres)


@crossed(driver=DRIVERS, seen=[True, False])
async def test_another_branch_that_comes_and_goes_is_no_way_back(make_project: Make, driver: str, seen: bool) -> None:
    project = await make_project(driver)
    project.numbers(60)
    project.add("root", None, "pass")
    project.add("left", "root", "pass")
    project.add("filled", "left", half(project, "balance"), ASK)
    project.add("right", "root", "pass")
    project.add("righter", "right", ADD, DROP)
    await project.upgrade("left")
    await project.upgrade("right")
    with pytest.raises((CommandError, RuntimeError), match="not yet"):
        await project.upgrade("filled")
    if seen:
        await project.upgrade("righter")
        await project.downgrade("right")
    else:
        for there, then in (("right", "righter"), ("righter", "right")):
            project.execute(f"UPDATE alembic_version SET version_num = '{then}' WHERE version_num = '{there}'")
    (project.folder / "flag").touch()
    await project.upgrade("filled")
    assert _times(project) == [(100, 100)]


@EACH
async def test_another_branch_that_bears_what_it_follows_may_come_and_go(make_project: Make, driver: str) -> None:
    """The backfill's revision depends on one that is no head: it is told by the branch's row, which steps write."""
    project = await make_project(driver)
    project.numbers(60)
    for revision, down in (("one", None), ("two", "one"), ("three", "two")):
        project.add(revision, down, "pass")
    project.add("filled", None, half(project, "balance"), ASK)
    file = next((project.folder / "alembic" / "versions").glob("filled*.py"))
    file.write_text(file.read_text() + '\ndepends_on = "one"\n')
    await project.upgrade("two")
    with pytest.raises((CommandError, RuntimeError), match="not yet"):
        await project.upgrade("filled")
    await project.upgrade("three")
    await project.downgrade("two")
    (project.folder / "flag").touch()
    await project.upgrade("filled")
    assert _times(project) == [(100, 100)]


@EACH
async def test_a_stamp_does_not_hide_that_a_database_was_led_back_by_hand(make_project: Make, driver: str) -> None:
    project = await make_project(driver)
    project.numbers(60)
    project.add("zero", None, "pass")
    project.add("expand", "zero", ADD, DROP)
    project.add("filled", "expand", half(project, "cents"), ASK)
    await _half_done(project)
    project.execute("UPDATE accounts SET cents = NULL", "UPDATE alembic_version SET version_num = 'zero'")
    await project.run(lambda config: command.stamp(config, "expand"))
    (project.folder / "flag").touch()
    _, anew = await _refused(project)
    project.execute(anew)
    await project.upgrade()
    assert _times(project, "cents") == [(100, 100)]


@EACH
async def test_stamps_there_and_back_run_nothing(make_project: Make, driver: str) -> None:
    project = await make_project(driver)
    project.numbers(60)
    project.add("zero", None, "pass")
    project.add("first", "zero", "pass")
    project.add("filled", "first", half(project, "balance"), ASK)
    await _half_done(project)
    for revision in ("filled", "zero", "first"):
        await project.run(partial(command.stamp, revision=revision))
    (project.folder / "flag").touch()
    await project.upgrade()
    assert _times(project) == [(100, 100)]


@EACH
async def test_a_stamp_back_and_what_it_has_run_before_again_is_noticed(make_project: Make, driver: str) -> None:
    project = await make_project(driver)
    project.numbers(60)
    project.add("zero", None, "pass")
    project.add("first", "zero", "op.execute('UPDATE accounts SET balance = id')")
    project.add("filled", "first", half(project, "balance"), ASK)
    await _half_done(project)
    await project.run(lambda config: command.stamp(config, "zero"))
    (project.folder / "flag").touch()
    _, anew = await _refused(project)
    project.execute(anew)
    await project.upgrade()
    assert _times(project) == [(100, 100)]
