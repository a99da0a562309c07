"""What becomes of checkpoints when a database goes back to before the revisions that wrote them.

A downgrade may take the columns away that a backfill has filled, and an upgrade make them again, empty: who went on
then from where it was would leave rows out, and who began anew might change others twice. So each downgrade looks at
the checkpoints of all later revisions: what is done with, or gone with its columns, is forgotten, and of the rest is
kept that nobody can tell. A stamp runs nothing: there, only what has gone with its columns is forgotten.

Alembic tells nobody of a downgrade whose revisions hold nothing of ours, but it makes an `Operations` for each run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable
from functools import wraps
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from alembic.operations import Operations
from sqlalchemy.engine import Connection

if TYPE_CHECKING:  # Alembic may be just importing them, and with them us
    from alembic.runtime.migration import MigrationContext, MigrationInfo
    from alembic.script.revision import RevisionMap

# In the place of `running` and `finished`: the rows may, or may not, still be as the backfill has left them.
DOUBTED = "doubted"
_MARK = "_orchestrator_looks_at_downgrades"


def install() -> None:
    """From now on, in this process, whatever Alembic downgrades."""
    if getattr(Operations, _MARK, False):
        return
    make: Callable[..., None] = Operations.__init__

    @wraps(make)
    def made(operations: Operations, migration_context: MigrationContext, *args: Any, **options: Any) -> None:
        make(operations, migration_context, *args, **options)
        if _applied not in migration_context.on_version_apply_callbacks:
            callbacks = *migration_context.on_version_apply_callbacks, _applied
            migration_context.on_version_apply_callbacks = callbacks

    Operations.__init__ = made  # type: ignore[method-assign, assignment]
    setattr(Operations, _MARK, True)


def _applied(*, ctx: MigrationContext, step: MigrationInfo, **_: Any) -> None:
    """Alembic's `on_version_apply`: the version table was brought along with a step."""
    # Plain Alembic imports this module, and needs the rest for this only.
    from orchestrator.history import checkpoints, owners, session

    connection = ctx.connection
    if step.is_upgrade or not isinstance(connection, Connection):  # offline, it stands for one
        return
    table = checkpoints.table_of(ctx.version_table, ctx.version_table_schema)
    with session.resumable():
        if checkpoints.exists(connection, table):
            _look(connection, table, step, owners.name())


def later(revisions: RevisionMap, ids: Iterable[str]) -> Collection[str]:
    """These revisions, and all that come after them or depend on them."""
    found: set[str] = set()
    waiting = list(ids)
    while waiting:
        if (one := waiting.pop()) not in found:
            found.add(one)
            script = revisions.get_revision(one)
            waiting += script._all_nextrev if script is not None else ()
    return found


def _look(connection: Connection, table: sa.Table, step: MigrationInfo, owner: str) -> None:
    """Whoever is at such a backfill just then finds that it is not its own any more."""
    it = table.c
    rows = connection.execute(sa.select(table).where(it.direction == "upgrade")).mappings().all()
    revisions = later(step.revision_map, step.up_revision_ids) if rows else ()
    for row in rows:
        if row["revision"] not in revisions:
            continue
        ours = it.revision == row["revision"], it.direction == "upgrade", it.ordinal == row["ordinal"]
        if _is_done_with(connection, row, stamped=bool(step.is_stamp)):
            connection.execute(table.delete().where(*ours))
        elif not step.is_stamp and row["state"] != DOUBTED:
            connection.execute(table.update().where(*ours).values(state=DOUBTED, owner=owner))


def _is_done_with(connection: Connection, row: sa.RowMapping, *, stamped: bool) -> bool:
    if stamped:
        return not row["applied"] and _is_gone(connection, row["touched"])
    return bool(row["applied"]) or not row["rows_seen"] or _is_gone(connection, row["touched"])


def touched(table: sa.Table, columns: Collection[str] | None, before: str | None = None) -> str:
    """What a backfill changes, for its checkpoint, and what that says already. `columns`: None where nobody knows."""
    known = None if columns is None else sorted({*columns, *((before and json.loads(before)["columns"]) or ())})
    return json.dumps({"table": table.name, "schema": table.schema, "columns": known})


def _is_gone(connection: Connection, text: str) -> bool:
    """Whether nothing is left of what the backfill has changed: neither the table, nor one of the columns."""
    it = json.loads(text)
    if it["columns"] is None:
        return False
    try:
        there = {one["name"] for one in sa.inspect(connection).get_columns(it["table"], schema=it["schema"])}
    except sa.exc.NoSuchTableError:
        return True
    return there.isdisjoint(it["columns"])
