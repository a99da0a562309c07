"""The barrier before a step that would lose what is not backfilled: whether another revision's backfills are done."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import sqlalchemy as sa
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.engine import Connection

from orchestrator.history import checkpoints, loaded, running
from orchestrator.history.backfilling import connection_of, refuse_translated
from orchestrator.history.mixed import holds_backfill


def require(operations: Operations, revision: str, or_stamped: bool) -> None:
    """Raises CommandError unless the revision's backfills are finished, and the version table was brought along after
    the last of them; with `or_stamped`, a database in which none has ever begun is let through."""
    context = operations.get_context()
    connection = connection_of(context, "op.requires_backfill")
    refuse_translated(connection)
    asks = running.current(context).revision
    script = _found(context, asks, revision)
    revision = script.revision if script is not None else revision
    table = checkpoints.of_context(context)
    rows, undone = (_rows(connection, table, revision, way) for way in ("upgrade", "downgrade"))
    undone = [row for row in undone if row["rows_changed"]]
    if undone:
        raise CommandError(
            f"revision {asks} requires the backfills of revision {revision}, and a downgrade has begun to take them "
            f"back in this database: {undone[0]['rows_changed']} rows of {undone[0]['table_name']!r}. Let it come to "
            f"its end (downgrade to before {revision}; it goes on where it stopped), then upgrade again"
        )
    if not rows and script is not None and not _holds_backfill(script):
        raise CommandError(
            f"revision {asks} requires the backfill of revision {revision}, which holds none: name the revision whose "
            "upgrade() calls op.backfill, op.backfill_rows or op.backfill_sql"
        )
    if (why := _missing(rows, revision, or_stamped)) is not None:
        raise CommandError(f"revision {asks} requires the backfills of revision {revision}: {why}")


def _missing(rows: Sequence[sa.RowMapping], revision: str, or_stamped: bool) -> str | None:
    """Why the rows say that it is not done, and the way out; None: it is."""
    again = f"Stamp the database with the revision before {revision} and upgrade again"
    if not rows and or_stamped:
        return None
    if not rows:
        return (
            f"none of them has ever begun in this database, so it was stamped past them. {again}, which runs them; "
            "or, if every database that was stamped is known to need none, say or_stamped=True in op.requires_backfill"
        )
    again = f"{again}: what is done is not done again, and the rest is"
    left = next((row for row in rows if row["state"] != "finished"), None)
    if left is not None:
        return (
            f"that of {left['table_name']!r} is not finished in this database: it has changed {left['rows_changed']} "
            f"rows. {again}"
        )
    if not all(row["applied"] for row in rows):
        return (
            "they are not finished in this database: it was stamped with the revision although that had not come to "
            f"its end, and may have more of them, which never began. {again}"
        )
    return None


def _found(context: MigrationContext, asks: str, revision: str) -> Script | None:
    """The revision that is meant, which may be abbreviated as everywhere else; None where there is no directory to look
    in. Raises CommandError where there is no such revision."""
    around = context.environment_context
    directory: ScriptDirectory | None = around.script if around is not None else context.script
    if directory is None:
        return None
    try:
        script = directory.get_revision(revision)
    except CommandError:
        script = None
    if script is None:
        known = [one.revision for one in directory.walk_revisions()]
        near = [one for one in known if revision and one.startswith(revision)]
        near = near or difflib.get_close_matches(revision, known, n=3)
        meant = f": did you mean {' or '.join(near[:3])}?" if near else ""
        raise CommandError(
            f"revision {asks} requires the backfill of revision {revision!r}, and there is no such one{meant}"
        )
    return script


def _rows(connection: Connection, table: sa.Table, revision: str, direction: str) -> list[sa.RowMapping]:
    if not checkpoints.exists(connection, table):
        return []
    found = sa.select(table).where(table.c.revision == revision, table.c.direction == direction)
    return list(connection.execute(found.order_by(table.c.ordinal)).mappings())


def _holds_backfill(script: Script) -> bool:
    text = loaded.text(script.path)
    return not text or holds_backfill(text, "upgrade")  # it may be compiled, without its source
