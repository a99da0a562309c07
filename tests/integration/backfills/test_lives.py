"""Checkpoints of a database that goes back and comes again, and of two runs that know nothing of each other."""

from __future__ import annotations

import sys

import anyio
import anyio.to_thread
import pytest
from alembic import command
from alembic.util import CommandError

from tests.engine import until
from tests.integration.backfills.conftest import Make, Project

KINDS = pytest.mark.parametrize("driver", ["psycopg", "asyncpg", "pymysql", "pysqlite"])
ADD = 'op.add_column("accounts", sa.Column("cents", sa.BigInteger))'
DROP = 'op.drop_column("accounts", "cents")'
FILL, ASK = 'op.backfill("accounts", {"cents": "balance * 100"})', 'op.verify("SELECT 1 = 1", "never")'
# Fails behind the fortieth key, until the flag is there.
HALF = """
def transform(rows):
    if rows[-1]["id"] > 40 and not os.path.exists({flag!r}):
        raise RuntimeError("not yet")
    return [{{"{column}": row["balance"] * 100}} for row in rows]
op.backfill_rows("accounts", ["balance"], transform, batch_size=7)
"""


def half(project: Project, column: str) -> str:
    return HALF.format(flag=str(project.folder / "flag"), column=column)


async def fails(project: Project, match: str, to: str = "head") -> None:
    with pytest.raises((CommandError, RuntimeError), match=match):
        await project.upgrade(to)


@KINDS
async def test_a_column_that_was_taken_away_and_made_again_is_filled_anew(make_project: Make, driver: str) -> None:
    project = await make_project(driver)
    project.numbers(60)
    project.add("expand", None, ADD, DROP)
    project.add("filled", "expand", half(project, "cents"), ASK)
    project.add("contract", "filled", 'op.requires_backfill("filled")')
    await fails(project, "not yet")
    assert 0 < project.checkpoints()[0]["rows_changed"] < 60
    await project.downgrade("base")
    assert project.checkpoints() == []
    (project.folder / "flag").touch()
    await project.upgrade()
    assert project.rows("SELECT count(*) FROM accounts WHERE cents = balance * 100") == [(60,)]


@KINDS
async def test_one_that_was_finished_and_not_recorded_is_done_anew_with_its_column(
    make_project: Make, driver: str
) -> None:
    project = await make_project(driver)
    project.numbers(60)
    project.add("expand", None, ADD, DROP)
    project.add(
        "filled", "expand", 'op.backfill("accounts", {"cents": "balance * 100"})', 'op.verify("SELECT 1=1", "")'
    )
    project.add("broken", "filled", 'raise RuntimeError("not yet")')
    await fails(project, "not yet")
    await project.downgrade("base")
    project.add("broken", "filled", 'op.requires_backfill("filled")')
    await project.upgrade()
    assert project.rows("SELECT count(*) FROM accounts WHERE cents = balance * 100") == [(60,)]


@KINDS
async def test_rows_that_may_still_be_changed_are_neither_changed_again_nor_left_out_unasked(
    make_project: Make, driver: str
) -> None:
    project = await make_project(driver)
    project.numbers(60)
    project.add("expand", None, ADD, DROP)
    project.add("filled", "expand", half(project, "balance"), ASK)
    await fails(project, "not yet")
    [before] = project.checkpoints()
    await project.downgrade("base")
    (project.folder / "flag").touch()
    await fails(project, r"had come to \d+, with \d+ rows changed, and since then this database was led back")
    with pytest.raises(CommandError) as told:
        await project.upgrade()
    assert (project.checkpoints()[0]["last_key"], project.checkpoints()[0]["state"]) == (before["last_key"], "doubted")
    project.execute(str(told.value).split("let it go on: ")[1].split(". If they")[0])
    await project.upgrade()
    assert project.rows("SELECT min(balance / id), max(balance / id) FROM accounts") == [(100, 100)]


@KINDS
async def test_a_stamp_over_what_a_downgrade_has_taken_away_is_no_backfill(make_project: Make, driver: str) -> None:
    project = await make_project(driver)
    project.numbers(60)
    project.add("expand", None, ADD, DROP)
    project.add(
        "filled", "expand", 'op.backfill("accounts", {"cents": "balance * 100"})', 'op.verify("SELECT 1=1", "")'
    )
    project.add("contract", "filled", 'op.requires_backfill("filled")')
    await project.upgrade("filled")
    await project.downgrade("base")
    await project.upgrade("expand")
    await project.run(lambda config: command.stamp(config, "filled"))
    await fails(project, "none of them has ever begun")


@KINDS
async def test_what_is_half_undone_is_not_contracted(make_project: Make, driver: str) -> None:
    project = await make_project(driver)
    project.numbers(60)
    project.add("expand", None, ADD, DROP)
    back = half(project, "cents").replace('row["balance"] * 100', "None")
    project.add("filled", "expand", FILL, back)
    project.add("contract", "filled", 'op.requires_backfill("filled")\nop.drop_column("accounts", "note")')
    await project.upgrade("filled")
    with pytest.raises((CommandError, RuntimeError), match="not yet"):
        await project.downgrade("expand")
    await fails(project, "a downgrade has begun to take them back")
    (project.folder / "flag").touch()
    await project.downgrade("expand")
    await project.upgrade()
    assert project.rows("SELECT count(*) FROM accounts WHERE cents = balance * 100") == [(60,)]


@pytest.mark.parametrize("driver", ["psycopg", "pysqlite"])
async def test_what_a_downgrade_has_begun_and_not_changed_is_contracted(make_project: Make, driver: str) -> None:
    project = await make_project(driver)
    project.numbers(60)
    project.add("expand", None, ADD, DROP)
    back = 'op.backfill_rows("accounts", ["balance"], lambda rows: 1 // 0)'
    project.add("filled", "expand", FILL, back)
    project.add("contract", "filled", 'op.requires_backfill("filled")\nop.drop_column("accounts", "note")')
    await project.upgrade("filled")
    with pytest.raises(ZeroDivisionError):
        await project.downgrade("expand")
    assert {one["direction"]: one["rows_changed"] for one in project.checkpoints()} == {"upgrade": 60, "downgrade": 0}
    await project.upgrade()
    assert project.rows("SELECT count(*) FROM accounts WHERE cents = balance * 100") == [(60,)]


LATE = """
import os, time
import orchestrator.operations
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext

heads = MigrationContext.get_current_heads

def late(context):
    found = heads(context)
    open({seen!r}, "w").close()
    while not os.path.exists({gate!r}):
        time.sleep(0.01)
    return found

MigrationContext.get_current_heads = late
config = Config({config!r})
config.set_main_option("sqlalchemy.url", {url!r}.replace("%", "%%"))
command.upgrade(config, "head")
"""


@pytest.mark.parametrize("driver", ["psycopg", "pymysql"])
async def test_a_run_that_began_before_anothers_end_changes_nothing_again(make_project: Make, driver: str) -> None:
    """It has read the version table before the other has brought it along, and comes to the backfill afterwards."""
    project = await make_project(driver)
    project.numbers(60)
    project.add("first", None, "pass")
    project.add("filled", "first", 'op.backfill("accounts", {"balance": "balance * 100"})')
    await project.upgrade("first")
    seen, gate = project.folder / "seen", project.folder / "gate"
    url = project.url.render_as_string(hide_password=False)
    late = LATE.format(seen=str(seen), gate=str(gate), config=str(project.config), url=url)

    async def other() -> None:
        await until(seen.exists)
        await project.upgrade()
        gate.touch()

    with anyio.fail_after(120):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(other)
            done = await anyio.run_process([sys.executable, "-c", late], check=False)
    assert b"somebody else has migrated this database meanwhile" in done.stderr
    assert done.returncode == 1
    assert project.rows("SELECT min(balance / id), max(balance / id) FROM accounts") == [(100, 100)]
    assert project.checkpoints()[0]["applied"]


async def test_a_backfill_in_another_file_stands_alone_in_its_revision_too(make_project: Make) -> None:
    project = await make_project("psycopg")
    project.numbers(60)
    helper = project.folder / "helping.py"
    helper.write_text(
        "from alembic import op\n\n\ndef fill():\n    op.backfill('accounts', {'cents': 'balance * 100'})\n"
    )
    loaded = f"import importlib.util\nspec = importlib.util.spec_from_file_location('helping', {str(helper)!r})\n"
    loaded += "made = importlib.util.module_from_spec(spec)\nspec.loader.exec_module(made)\nmade.fill()"
    project.add("filled", None, f"{ADD}\n{loaded}")
    await fails(project, r"holds a backfill and something else: op.add_column")
    assert project.rows("SELECT count(*) FROM information_schema.columns WHERE column_name = 'cents'") == [(0,)]


async def test_schemas_that_are_translated_are_refused(make_project: Make) -> None:
    project = await make_project("psycopg")
    project.numbers(60)
    translated = 'op.get_bind().execution_options(schema_translate_map={None: "public"})\n'
    project.add("filled", None, f'{translated}op.backfill("accounts", {{"done": 1}})')
    await fails(project, "schema_translate_map")
    assert project.rows("SELECT count(done) FROM accounts") == [(0,)]
