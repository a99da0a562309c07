"""What a revision's source tells of its backfills."""

from __future__ import annotations

import pytest

from orchestrator.history.mixed import Mixed, holds_backfill, mixed

HEAD = "from alembic import op\nimport sqlalchemy as sa\n"


def revision(upgrade: str, downgrade: str = "    pass", head: str = HEAD, rest: str = "") -> str:
    return f"{head}\ndef upgrade():\n{upgrade}\n\ndef downgrade():\n{downgrade}\n{rest}"


FILL = "    op.backfill('t', set_={'a': 1})"


@pytest.mark.parametrize(
    "source",
    [
        revision(FILL),
        revision("    op.backfill_rows('t', ['a'], dict)"),
        revision("    op.backfill_sql('delete from t where :after', 't')"),
        revision("    o.backfill('t', set_={})", head="from alembic import op as o\n"),
        revision("    alembic.op.backfill('t', set_={})", head="import alembic\n"),
        revision("    alembic.op.backfill('t', set_={})", head="import alembic.op\n"),
        revision("    o.backfill('t', set_={})", head="import alembic.op as o\n"),
        revision("    fill('t', set_={})", head="from alembic.op import backfill as fill\n"),
        revision("    ours.backfill('t', set_={})", head="from orchestrator import operations as ours\n"),
        revision("    ours.backfill('t', set_={})", head="import orchestrator.operations as ours\n"),
        revision("    orchestrator.operations.backfill('t', set_={})", head="import orchestrator.operations\n"),
        revision("    fill('t', set_={})", head="from orchestrator.operations import backfill as fill\n"),
        revision("    from alembic import op\n    op.backfill('t', set_={})", head=""),
    ],
)
def test_a_backfill_is_found_under_whatever_name_alembic_has(source: str) -> None:
    assert holds_backfill(source)
    assert mixed(source) == ()


@pytest.mark.parametrize(
    "source",
    [
        "",
        "this is no Python",
        revision("    op.execute('update t set backfill = 1')"),
        revision("    other.backfill('t')"),
        revision("    op.requires_backfill('r1')\n    op.drop_column('t', 'a')"),
        revision("    op.add_column('t', sa.Column('backfill', sa.Integer))"),
    ],
)
def test_what_only_speaks_of_backfills_holds_none_and_mixes_nothing(source: str) -> None:
    assert not holds_backfill(source)
    assert mixed(source) == ()


def test_each_direction_is_told_for_itself() -> None:
    up, down = revision(FILL), revision("    pass", FILL)
    assert (holds_backfill(up, "upgrade"), holds_backfill(up, "downgrade")) == (True, False)
    assert (holds_backfill(down, "upgrade"), holds_backfill(down, "downgrade")) == (False, True)


def test_a_backfill_in_a_function_that_a_direction_calls_counts_for_it() -> None:
    source = revision("    first()", rest="\ndef first():\n    second()\n\ndef second():\n" + FILL)
    assert (holds_backfill(source, "upgrade"), holds_backfill(source, "downgrade")) == (True, False)


def test_a_backfill_that_nobody_is_seen_to_call_counts_for_both_directions() -> None:
    source = revision("    HOW['x']()", rest="\nHOW = {'x': lambda: op.backfill('t', set_={})}\n")
    assert holds_backfill(source, "upgrade")
    assert holds_backfill(source, "downgrade")


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("op.execute('update t set b = 1')", "op.execute"),
        ("op.drop_column('t', 'b')", "op.drop_column"),
        ("op.get_bind().execute(sa.text('select 1'))", "op.get_bind"),
        ("op.get_context().connection.execute(sa.text('select 1'))", "get_context().connection"),
        ("context.execute('select 1')", "context.execute"),
        ("context.get_context().bind", "get_context().bind"),
        ("ctx = op.get_context(); ctx.execute('select 1')", "get_context().execute"),
        ("ctx = op.get_context(); helper(ctx)", "get_context() is handed on"),
        ("Operations(op.get_context()).execute('select 1')", "get_context() is handed on"),
        ("ctx = op.get_context", "get_context() is handed on"),
        ("helper(op)", "op is handed on"),
        ("run = op.execute", "op.execute"),
        ("with op.batch_alter_table('t') as batch: batch.drop_column('b')", "op.batch_alter_table"),
    ],
)
def test_what_changes_something_else_is_mixed_and_told_with_its_line(line: str, what: str) -> None:
    source = revision(f"{FILL}\n    {line}", head="from alembic import context, op\nimport sqlalchemy as sa\n")
    assert mixed(source) == (Mixed(6, what),)


def test_a_function_beside_the_operations_is_none_of_them() -> None:
    head = f"{HEAD}from orchestrator.operations import BackfillOp, backfill\nimport orchestrator.operations\n"
    source = revision("    print(BackfillOp)\n    backfill('t', {})\n    op.drop_table('u')", head=head)
    assert [one.what for one in mixed(source)] == ["op.drop_table"]


def test_what_only_asks_may_stand_beside_a_backfill() -> None:
    beside = "    op.requires_backfill('r1')\n    op.verify('select true', 'none left')\n    print(op.f('x'))"
    asks = "\n    print(op.get_context().dialect.name)\n    ctx = op.get_context()\n    print(ctx.dialect.name)"
    assert mixed(revision(f"{FILL}\n{beside}{asks}")) == ()


def test_the_other_direction_and_what_is_called_count_as_well() -> None:
    source = revision(FILL, "    helper()", rest="\ndef helper():\n    op.drop_table('u')\n")
    assert [one.what for one in mixed(source)] == ["op.drop_table"]


def test_several_are_told_in_order_of_their_lines() -> None:
    source = revision(f"    op.drop_column('t', 'z')\n{FILL}\n    op.add_column('t', 'c')")
    assert [str(one) for one in mixed(source)] == ["op.drop_column (line 5)", "op.add_column (line 7)"]
