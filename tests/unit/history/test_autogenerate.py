"""Operations of backfills that somebody puts among what autogenerate found."""

from __future__ import annotations

import datetime
import subprocess
import sys
from collections.abc import Sequence
from decimal import Decimal
from uuid import UUID

import pytest
import sqlalchemy as sa
from alembic.autogenerate import render_python_code
from alembic.operations import ops
from alembic.util import CommandError

from orchestrator import operations


def transform(rows: Sequence[sa.RowMapping]) -> list[None]:
    return [None for _ in rows]


OPERATIONS = (
    operations.BackfillOp("t", {"a": "b + 1", "c": 7, "d": sa.text("now()")}, where="a IS NULL", until_empty=True),
    operations.BackfillOp("t", {"a": datetime.date(2026, 1, 31), "b": Decimal("1.5"), "c": UUID(int=7)}, key="ref"),
    operations.BackfillRowsOp("t", ["a"], transform, batch_size=50, schema="other"),
    operations.BackfillSqlOp("DELETE FROM t WHERE id > :after AND id <= :upto", "t", key=("x", "y")),
    operations.VerifyOp("SELECT true", "why"),
    operations.RequiresBackfillOp("abc"),
    operations.RequiresBackfillOp("abc", or_stamped=True),
)


@pytest.mark.parametrize("one", OPERATIONS, ids=lambda one: type(one).__name__)
def test_what_is_written_into_a_file_makes_the_same_operation_again(one: ops.MigrateOperation) -> None:
    text = render_python_code(ops.UpgradeOps([one]))
    made: list[ops.MigrateOperation] = []
    names = {"op": _Op(made), "sa": sa, "datetime": datetime, "Decimal": Decimal, "UUID": UUID, "transform": transform}
    exec("\n".join(line.strip() for line in text.splitlines()), names)
    assert [_attributes(again) for again in made] == [_attributes(one)]


def test_an_expression_cannot_be_written() -> None:
    one = operations.BackfillOp("t", {"a": sa.column("b") + 1})
    with pytest.raises(CommandError, match="as SQL"):
        render_python_code(ops.UpgradeOps([one]))


def test_alembic_check_can_tell_of_them() -> None:
    found = ops.UpgradeOps(list(OPERATIONS)).as_diffs()
    assert [diff[0] for diff in found] == [
        "backfill", "backfill", "backfill_rows", "backfill_sql", "verify", "requires_backfill", "requires_backfill"
    ]  # fmt: skip


def test_importing_the_operations_is_enough() -> None:
    """In a process that has imported nothing else, as where a hook of env.py writes revisions."""
    code = (
        "from orchestrator.operations import VerifyOp; from alembic.operations.ops import UpgradeOps;"
        "from alembic.autogenerate import render_python_code;"
        "print(render_python_code(UpgradeOps([VerifyOp('1', 'm')])))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "op.verify('1', 'm')" in ran.stdout


class _Op:
    """Makes operations, as `alembic.op` would to run them."""

    def __init__(self, made: list[ops.MigrateOperation]) -> None:
        self._made = made

    def __getattr__(self, name: str) -> object:
        kinds = {
            "backfill": operations.BackfillOp,
            "backfill_rows": operations.BackfillRowsOp,
            "backfill_sql": operations.BackfillSqlOp,
            "verify": operations.VerifyOp,
            "requires_backfill": operations.RequiresBackfillOp,
        }
        return lambda *args, **kwargs: self._made.append(kinds[name](*args, **kwargs))


def _attributes(one: ops.MigrateOperation) -> dict[str, str]:
    """With texts as texts: no two of SQLAlchemy's are equal."""
    return {name: repr(_plain(value)) for name, value in vars(one).items()} | {"kind": type(one).__name__}


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return value.text if isinstance(value, sa.TextClause) else value
