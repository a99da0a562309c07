"""What `alembic revision` is told of backfills: how the operations are written into a file, where somebody put them
among its directives, and that the tables of checkpoints, which no metadata holds, are not to be dropped."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import sqlalchemy as sa
from alembic.autogenerate import comparators, renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations.ops import UpgradeOps
from alembic.util import CommandError

from orchestrator.backfill.naming import checkpoints_of
from orchestrator.history.operations import (
    BackfillOp,
    BackfillRowsOp,
    BackfillSqlOp,
    RequiresBackfillOp,
    VerifyOp,
)


def leave_alone(context: AutogenContext, upgrade_ops: UpgradeOps, schemas: object) -> Any:
    """A comparison after all others, which takes the checkpoints' table out of what they found."""
    assert context.migration_context is not None
    name = checkpoints_of(context.migration_context.version_table)
    upgrade_ops.ops[:] = [op for op in upgrade_ops.ops if getattr(op, "table_name", None) != name]
    return _goes_on()


if find_spec("alembic.runtime.plugins") is None:  # else `plugin.setup` has said so
    comparators.dispatch_for("schema")(leave_alone)


def _goes_on() -> Any:
    try:
        from alembic.util import PriorityDispatchResult
    except ImportError:  # before 1.18 nobody asks
        return None
    return PriorityDispatchResult.CONTINUE


@renderers.dispatch_for(BackfillOp)
def _backfill(context: AutogenContext, op: BackfillOp) -> str:
    values = ", ".join(f"{name!r}: {_rendered(context, value)}" for name, value in op.set_.items())
    return _call(context, "backfill", [repr(op.table), f"set_={{{values}}}"], op, where=op.where)


@renderers.dispatch_for(BackfillRowsOp)
def _backfill_rows(context: AutogenContext, op: BackfillRowsOp) -> str:
    module, name = op.transform.__module__, op.transform.__qualname__
    if "<" in name or "." in name:
        raise CommandError(f"the function {name} of a backfill can only be written into a file if a module holds it")
    context.imports.add(f"from {module} import {name}")
    return _call(context, "backfill_rows", [repr(op.table), repr(list(op.columns)), name], op, where=op.where)


@renderers.dispatch_for(BackfillSqlOp)
def _backfill_sql(context: AutogenContext, op: BackfillSqlOp) -> str:
    return _call(context, "backfill_sql", [repr(op.statement), repr(op.table)], op)


@renderers.dispatch_for(VerifyOp)
def _verify(context: AutogenContext, op: VerifyOp) -> str:
    return f"{_prefix(context)}verify({op.sql!r}, {op.message!r})"


@renderers.dispatch_for(RequiresBackfillOp)
def _requires(context: AutogenContext, op: RequiresBackfillOp) -> str:
    or_stamped = ", or_stamped=True" if op.or_stamped else ""
    return f"{_prefix(context)}requires_backfill({op.revision!r}{or_stamped})"


def _call(context: AutogenContext, name: str, arguments: list[str], op: Any, where: Any = None) -> str:
    if where is not None:
        arguments.append(f"where={_rendered(context, where)}")
    if op.key is not None:
        arguments.append(f"key={list(op.key)!r}")
    if op.batch_size != 1000:
        arguments.append(f"batch_size={op.batch_size}")
    if op.until_empty:
        arguments.append("until_empty=True")
    if op.schema is not None:
        arguments.append(f"schema={op.schema!r}")
    return f"{_prefix(context)}{name}({', '.join(arguments)})"


def _rendered(context: AutogenContext, value: Any) -> str:
    """A text is SQL on both sides; of SQLAlchemy's expressions, those that are text."""
    if isinstance(value, sa.TextClause):
        return f"{context.opts['sqlalchemy_module_prefix'] or ''}text({value.text!r})"
    if isinstance(value, sa.ClauseElement):
        raise CommandError(f"an expression of a backfill can only be written into a file as SQL: {value}")
    kind = type(value)
    if kind.__module__ == "datetime":
        context.imports.add("import datetime")
    elif kind.__module__ != "builtins":
        context.imports.add(f"from {kind.__module__} import {kind.__qualname__}")
    return repr(value)


def _prefix(context: AutogenContext) -> str:
    return str(context.opts["alembic_module_prefix"] or "")
