"""What the operations do: find the table, and run the loop of batches between two of Alembic's transactions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy.engine import Connection

from orchestrator.backfill import keys
from orchestrator.backfill.model import Backfill, Kind
from orchestrator.errors import MigrationFailedError
from orchestrator.history import checkpoints, drivers, keyset, owners, pacing, running, session
from orchestrator.history.batches import Loop
from orchestrator.history.changes import Change, SetColumns, Statement, TransformRows, digest
from orchestrator.history.checkpoints import Checkpoint, Identity, TakenOverError
from orchestrator.history.keyset import Keyset
from orchestrator.history.mixed import mixed
from orchestrator.history.running import Running
from orchestrator.history.unpaced import Unpaced

# How many backfills the revision that runs has begun, by what runs it.
_begun: WeakKeyDictionary[MigrationContext, tuple[Running, int]] = WeakKeyDictionary()
_KINDS: dict[type, Kind] = {SetColumns: "set", TransformRows: "rows", Statement: "sql"}


class Asked(Protocol):
    """What every backfill is asked with."""

    table: str
    schema: str | None
    key: tuple[str, ...] | None
    batch_size: int
    until_empty: bool


def run(operations: Operations, op: Asked, make: Callable[[Keyset], Change]) -> int:
    """Run a backfill to its end. Raises CommandError; within the orchestrator, MigrationFailedError where it is told to
    stop."""
    context = operations.get_context()
    connection = _connection(context, "a backfill")
    now = running.current(context)
    _refuse_mixed(now)
    ordinal = _ordinal(context, now)
    if ordinal == 1:
        _mark_when_applied(context, now)
    pacer = pacing.current()
    with _between_transactions(context, connection), session.resumable():
        with connection.begin():
            found = keyset.find(connection, op.table, op.schema, op.key)
            change = make(found)
            table = _checkpoints(context)
            table.create(connection, checkfirst=True)
        columns = tuple(column.name for column in found.columns)
        backfill = Backfill(
            now.revision,
            now.direction,
            ordinal,
            _KINDS[type(change)],
            keyset.named(op.table, op.schema),
            columns,
            op.batch_size,
        )
        loop = Loop(
            connection,
            backfill,
            found,
            change,
            Checkpoint(table, Identity(now.revision, now.direction, ordinal), owners.name()),
            pacer or Unpaced(),
            definition=digest(found, change),
            until_empty=op.until_empty,
            unwatched=pacer is None,
        )
        try:
            return loop.run()
        except TakenOverError:
            raise CommandError(
                f"somebody else has taken the backfill of {backfill.table!r} over; the batch that was on its way was "
                "rolled back"
            ) from None
        except MigrationFailedError as exc:
            if pacer is None:
                raise CommandError(str(exc)) from exc
            raise


def verify(operations: Operations, sql: str, message: str) -> None:
    """Raises CommandError with the message unless the answer is true."""
    connection = _connection(operations.get_context(), "op.verify")
    rows = connection.execute(sa.text(sql)).fetchmany(2)
    value = rows[0][0] if len(rows) == 1 else None
    yes = value is True or (connection.dialect.name != "postgresql" and value == 1)
    if not yes:
        found = "no row" if not rows else "several rows" if len(rows) > 1 else _kind_of(value)
        raise CommandError(f"{message} (verified by {' '.join(sql.split())!r}, which answered with {found})")


def require(operations: Operations, revision: str) -> None:
    """Raises CommandError where a backfill of the revision has begun and is not finished."""
    context = operations.get_context()
    connection = _connection(context, "op.requires_backfill")
    now = running.current(context)
    table = _checkpoints(context)
    left = checkpoints.unfinished(connection, table, revision) if checkpoints.exists(connection, table) else []
    if left:
        row = left[0]
        raise CommandError(
            f"revision {now.revision} requires the backfill of {row['table_name']!r} of revision {revision}, which is "
            f"not finished in this database: it has come to {keys.told(row['last_key'])}, with {row['rows_changed']} "
            f"rows changed. Stamp the database with the revision before {revision} and upgrade again: the backfill "
            "then goes on where it stopped"
        )


def _connection(context: MigrationContext, what: str) -> Connection:
    if context.as_sql:
        raise CommandError(
            f"{what} asks the database as it goes, so revision {running.current(context).revision} cannot be written "
            "as a script (--sql). Run it against the database, and write scripts for what lies before and behind it: "
            "alembic upgrade <from>:<to> --sql"
        )
    assert context.connection is not None, "a context that is not offline has one"
    return context.connection


def _refuse_mixed(now: Running) -> None:
    if now.file is None:
        return
    if others := mixed(Path(now.file).read_bytes()):
        listed = ", ".join(str(other) for other in others[:3])
        raise CommandError(
            f"revision {now.revision} holds a backfill and something else: {listed}. A backfill commits batch by "
            "batch, so nothing beside it could be taken back with it: put it into a revision of its own"
        )


def _ordinal(context: MigrationContext, now: Running) -> int:
    before, count = _begun.get(context, (now, 0))
    count = count + 1 if before == now else 1
    _begun[context] = (now, count)
    return count


def _mark_when_applied(context: MigrationContext, now: Running) -> None:
    """Once the version table shows the revision, its checkpoints are done with: if it runs again, then anew."""
    table = _checkpoints(context)

    def applied(*, ctx: MigrationContext, **_: Any) -> None:
        context.on_version_apply_callbacks = tuple(
            one for one in context.on_version_apply_callbacks if one is not applied
        )
        _begun.pop(context, None)
        assert ctx.connection is not None
        with session.resumable():
            checkpoints.apply(ctx.connection, table, now.revision, now.direction)

    context.on_version_apply_callbacks = (*context.on_version_apply_callbacks, applied)


def _checkpoints(context: MigrationContext) -> sa.Table:
    return checkpoints.table_of(context.version_table, context.version_table_schema)


@contextmanager
def _between_transactions(context: MigrationContext, connection: Connection) -> Iterator[None]:
    """Commit what Alembic has open, as its own `autocommit_block` does, and begin again afterwards."""
    if context._in_external_transaction:
        raise CommandError(
            "env.py has begun a transaction of its own around the migrations, and a backfill commits batch by batch: "
            "let env.py give Alembic a connection without an open transaction"
        )
    transaction = context._transaction
    if transaction is not None:
        transaction.commit()
        context._transaction = None
    elif connection.in_transaction():
        connection.commit()
    level = connection.get_execution_options().get("isolation_level")
    alone = drivers.commits_each(connection)
    if alone:
        connection.execution_options(isolation_level=connection.default_isolation_level)
    try:
        yield
    finally:
        if not connection.invalidated and not connection.closed:
            if alone:
                connection.execution_options(isolation_level=level or "AUTOCOMMIT")
            if transaction is not None:
                context._transaction = connection.begin()


def _kind_of(value: object) -> str:
    """In words that show none of the data."""
    if value is None:
        return "NULL"
    return str(value).lower() if isinstance(value, bool) else f"a {type(value).__name__}"
