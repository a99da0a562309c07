"""What somebody who meant no good found."""

from __future__ import annotations

import pytest
from alembic import command
from alembic.util import CommandError

from tests.integration.backfills.conftest import Project

MULTIPLY = 'op.backfill("accounts", set_={"balance": "balance * 100"}, batch_size=7)'
AND_DONE = 'op.backfill("accounts", {"done": 1})'
DIE = 'if not os.path.exists("/nonexistent"): raise RuntimeError("killed")'


def requiring(project: Project, asks: str) -> None:
    """Three revisions, of which the last needs the second's backfill and loses a column."""
    project.numbers(30)
    project.add("first", None, "pass")
    project.add("filled", "first", MULTIPLY)
    project.add("last", "filled", f'{asks}\nop.drop_column("accounts", "done")')


async def stamp(project: Project, revision: str) -> None:
    await project.run(lambda config: command.stamp(config, revision))


@pytest.mark.parametrize("died_before", [DIE, f"{DIE}\n{AND_DONE}"], ids=["version", "second"])
async def test_a_revision_that_was_stamped_over_is_not_taken_for_backfilled(
    one_of_each: Project, died_before: str
) -> None:
    """Its first backfill is finished; whether that was all of them, only its end could tell."""
    requiring(one_of_each, 'op.requires_backfill("filled", or_stamped=True)')
    one_of_each.add("filled", "first", f"{MULTIPLY}\n{died_before}")
    with pytest.raises(RuntimeError):
        await one_of_each.upgrade()
    await stamp(one_of_each, "filled")
    with pytest.raises(CommandError, match="not finished in this database: it was stamped"):
        await one_of_each.upgrade()
    one_of_each.add("filled", "first", f"{MULTIPLY}\n{AND_DONE}")
    await stamp(one_of_each, "first")
    await one_of_each.upgrade()
    assert one_of_each.rows("SELECT sum(balance) - 100 * sum(id) FROM accounts") == [(0,)]


async def test_a_revision_whose_backfill_never_began_is_required(one_of_each: Project) -> None:
    requiring(one_of_each, 'op.requires_backfill("filled")')
    await stamp(one_of_each, "filled")
    with pytest.raises(CommandError, match="ever begun in this database.*Stamp.*or_stamped=True"):
        await one_of_each.upgrade()
    await stamp(one_of_each, "first")
    await one_of_each.upgrade()
    assert one_of_each.rows("SELECT sum(balance) - 100 * sum(id) FROM accounts") == [(0,)]


async def test_one_that_was_stamped_may_be_let_through(one_of_each: Project) -> None:
    requiring(one_of_each, 'op.requires_backfill("filled", or_stamped=True)')
    await stamp(one_of_each, "filled")
    await one_of_each.upgrade()
    assert one_of_each.rows("SELECT version_num FROM alembic_version") == [("last",)]


async def test_a_backfill_that_the_revision_no_longer_has_is_not_waited_for(one_of_each: Project) -> None:
    requiring(one_of_each, 'op.requires_backfill("filled")')
    one_of_each.add("filled", "first", f'{MULTIPLY}\nop.backfill_rows("accounts", ["id"], lambda rows: 1 // 0)')
    with pytest.raises(ZeroDivisionError):
        await one_of_each.upgrade()
    assert [row["state"] for row in one_of_each.checkpoints()] == ["finished", "running"]
    one_of_each.add("filled", "first", MULTIPLY)
    await one_of_each.upgrade()
    assert [row["ordinal"] for row in one_of_each.checkpoints()] == [1]


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("fliled", "there is no such one: did you mean filled"),
        ("fi", "there is no such one: did you mean (filled or first|first or filled)"),
        ("base", "there is no such one"),
        ("first", "revision first, which holds none"),
    ],
)
async def test_what_is_required_must_be_a_revision_with_a_backfill(postgres: Project, named: str, said: str) -> None:
    requiring(postgres, f'op.requires_backfill("{named}", or_stamped=True)')
    with pytest.raises(CommandError, match=said):
        await postgres.upgrade()


async def test_what_is_required_may_be_abbreviated(postgres: Project) -> None:
    requiring(postgres, 'op.requires_backfill("fill")')
    await stamp(postgres, "filled")
    with pytest.raises(CommandError, match="of revision filled: none of them has ever begun"):
        await postgres.upgrade()
    await stamp(postgres, "first")
    await postgres.upgrade()
