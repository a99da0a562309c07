"""What the operations do: find the table, and run the loop of batches between two of Alembic's transactions."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.script.revision import RevisionMap
from alembic.util import CommandError
from sqlalchemy.engine import Connection

from orchestrator.backfill.model import Backfill, Kind
from orchestrator.errors import MigrationFailedError
from orchestrator.history import (
    checkpoints,
    clauses,
    connections,
    keyset,
    lives,
    loaded,
    owners,
    pacing,
    running,
    servers,
    session,
    touched,
)
from orchestrator.history.batches import Loop
from orchestrator.history.changes import Change, SetColumns, Statement, TransformRows, digest
from orchestrator.history.checkpoints import Checkpoint, Identity, TakenOverError
from orchestrator.history.keyset import Keyset
from orchestrator.history.mixed import mixed
from orchestrator.history.running import Running
from orchestrator.history.unpaced import Unpaced
from orchestrator.registry.model import MYSQL_DIALECTS

# How many backfills the revision that runs has begun, by what runs it.
_begun: WeakKeyDictionary[MigrationContext, tuple[object, int]] = WeakKeyDictionary()
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
    connection = connection_of(context, "a backfill")
    refuse_translated(connection)
    now = running.current(context)
    _refuse_mixed(now)
    ordinal = _ordinal(context)
    if ordinal == 1:
        _mark_when_applied(context, now)
    pacer = pacing.current()
    with _between_transactions(context, connection), session.resumable():
        with connection.begin():
            found = keyset.find(connection, op.table, op.schema, op.key)
            change = make(found)
            _refuse_unsafe(connection, found, change)
            table = checkpoints.of_context(context)
            if not checkpoints.exists(connection, table):
                table.create(connection)
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
            prove=partial(_prove_unmoved, context, connection, running.expected_heads(context)),
            numbers=partial(_numbers, context, connection, running.step(context).info),
            passed=partial(_passed, context, connection, running.step(context).revision_map),
        )
        try:
            return loop.run()
        except TakenOverError:
            raise CommandError(
                f"somebody else has taken the backfill of {backfill.table!r} over, and goes on with it; the batch that "
                "was on its way here was rolled back. Wait for its end, then upgrade again"
            ) from None
        except MigrationFailedError as exc:
            if pacer is None:
                raise CommandError(str(exc)) from exc
            raise


def verify(operations: Operations, sql: str, message: str) -> None:
    """Raises CommandError with the message unless the answer is true."""
    asked = clauses.statement(sql, (), "the SQL of op.verify")
    context = operations.get_context()
    connection = connection_of(context, "op.verify")
    _refuse_hidden(connection, sql, "op.verify")
    rows = connection.execute(asked).fetchmany(2)
    value = rows[0][0] if len(rows) == 1 else None
    yes = value is True or (connection.dialect.name != "postgresql" and value == 1)
    if not yes:
        found = "no row" if not rows else "several rows" if len(rows) > 1 else _kind_of(value)
        raise CommandError(
            f"{message} (verified by {' '.join(sql.split())!r}, which answered with {found}){_way_out(context)}"
        )


def _way_out(context: MigrationContext) -> str:
    """Where backfills have run before a question that is not answered as it should be: what another run makes of it."""
    step, count = _begun.get(context, (None, 0))
    if not count or step is not running.step(context):
        return ""
    return (
        ". What the revision's backfills have done stays, and another run does not do it again (one with `until_empty` "
        "looks for rows that came since). Put the rest right by SQL, and run it again: it asks again"
    )


def connection_of(context: MigrationContext, what: str) -> Connection:
    if context.as_sql:
        raise CommandError(
            f"{what} asks the database as it goes, so revision {running.current(context).revision} cannot be written "
            "as a script (--sql). Run it against the database, and write scripts for what lies before and behind it: "
            "alembic upgrade <from>:<to> --sql"
        )
    assert context.connection is not None, "a context that is not offline has one"
    return context.connection


def refuse_translated(connection: Connection) -> None:
    if connection.get_execution_options().get("schema_translate_map"):
        raise CommandError(
            "env.py has SQLAlchemy translate schemas (`schema_translate_map`), which what a backfill asks of the "
            "server does not follow: set the session's search path instead, or name the schema in the revision"
        )


def _prove_unmoved(context: MigrationContext, connection: Connection, expected: frozenset[str]) -> None:
    """To be called while nobody else can be at the backfill, after a look at its checkpoint: whoever was at it before
    may have come to its end, and brought the version table along."""
    version = checkpoints.version_of(context)
    found = {str(head) for (head,) in connection.execute(sa.select(version.c.version_num))}
    if found != expected:
        raise CommandError(
            f"somebody else has migrated this database meanwhile: its version table holds {_listed(found)}, and held "
            f"{_listed(expected)} when this run began. The backfill has changed nothing; see what is left to do, and "
            "run it again"
        )


def _numbers(context: MigrationContext, connection: Connection, step: MigrationInfo, server: servers.Server) -> str:
    heads, follows = touched.versions(connection, checkpoints.version_of(context)), step.source_revision_ids
    bearing = touched.bearing(heads, follows, lambda head: lives.earlier(step.revision_map, [head]))
    return json.dumps({"follows": follows, "versions": bearing, **server.numbers(connection)})


def _passed(context: MigrationContext, connection: Connection, revisions: RevisionMap) -> Collection[str]:
    """All revisions that the database has."""
    return lives.earlier(revisions, touched.versions(connection, checkpoints.version_of(context)))


def _listed(heads: Collection[str]) -> str:
    return ", ".join(sorted(heads)) or "nothing"


def _refuse_unsafe(connection: Connection, found: Keyset, change: Change) -> None:
    server, name = servers.of(connection, found.table), found.table.fullname
    if server.hides_rows(connection):
        raise CommandError(
            f"row level security hides rows of {name!r} from the role that migrates, and they would be left out: let "
            "it own the table without FORCE ROW LEVEL SECURITY, or give it BYPASSRLS"
        )
    _refuse_hidden(connection, change.sql, f"the backfill of {name!r}")
    if isinstance(change, TransformRows) and server.has_heirs(connection):
        raise CommandError(
            f"other tables inherit from {name!r}, and may have rows of the same key: backfill these tables one by one"
        )
    kept = server.without_transactions(connection, change.sql if isinstance(change, Statement) else "")
    if kept is not None:
        raise CommandError(f"the backfill of {name!r} cannot be: {kept}")


def _refuse_hidden(connection: Connection, sql: str, what: str) -> None:
    if (hidden := servers.hidden(connection, sql)) is not None:
        raise CommandError(
            f"row level security hides rows of {hidden!r}, which {what} names, from the role that migrates, and what "
            "depends on them would come out wrong: let it own that table without FORCE ROW LEVEL SECURITY, or give it "
            "BYPASSRLS"
        )


def _refuse_mixed(now: Running) -> None:
    if now.file is None:
        return
    if others := mixed(loaded.text(now.file), held=True):
        listed = ", ".join(str(other) for other in others[:3])
        raise CommandError(
            f"revision {now.revision} holds a backfill and something else: {listed}. A backfill commits batch by "
            "batch, so nothing beside it could be taken back with it: put it into a revision of its own"
        )


def _ordinal(context: MigrationContext) -> int:
    """env.py may run the migrations again where they have failed; they are counted anew then."""
    step = running.step(context)
    before, count = _begun.get(context, (step, 0))
    count = count + 1 if before is step else 1
    _begun[context] = (step, count)
    return count


def _mark_when_applied(context: MigrationContext, now: Running) -> None:
    """Once the version table shows the revision, its checkpoints are done with: if it runs again, then anew."""
    table = checkpoints.of_context(context)

    def applied(*, ctx: MigrationContext, step: MigrationInfo, **_: Any) -> None:
        if now.revision not in step.up_revision_ids:
            return
        context.on_version_apply_callbacks = tuple(
            one for one in context.on_version_apply_callbacks if one is not applied
        )
        begun = _begun.pop(context, None)
        if begun is None:  # said already: an attempt before this one has left a callback of its own
            return
        assert ctx.connection is not None
        with session.resumable():
            checkpoints.apply(ctx.connection, table, now.revision, now.direction, begun[1])

    context.on_version_apply_callbacks = (*context.on_version_apply_callbacks, applied)


@contextmanager
def _between_transactions(context: MigrationContext, connection: Connection) -> Iterator[None]:
    """Commit what Alembic has open, as its own `autocommit_block` does, and begin again afterwards."""
    if context._in_external_transaction:
        raise CommandError(
            "env.py has begun a transaction of its own around the migrations, and a backfill commits batch by batch: "
            "let env.py give Alembic a connection without an open transaction"
        )
    level = connection.get_execution_options().get("isolation_level")
    if (
        level == "AUTOCOMMIT"
        and context.impl.transactional_ddl
        and not context._transaction
        and connection.in_transaction()
    ):
        raise CommandError(
            "a backfill stands in an `autocommit_block`, and commits batch by batch by itself: call it outside of that"
        )
    transaction, before = context._transaction, _works_as(connection)
    if transaction is not None:
        transaction.commit()
        context._transaction = None
    elif connection.in_transaction():
        connection.commit()
    if (after := _works_as(connection)) != before:
        raise CommandError(
            f"env.py works as {before}, and its session as {after} once the transaction is over, as a backfill needs "
            "it to be: let env.py set the search path and the role for the session (SET, not SET LOCAL)"
        )
    was, wanted = _isolation(connection)
    if wanted != was:
        connection.execution_options(isolation_level=wanted)
    try:
        yield
    finally:
        if not connection.invalidated and not connection.closed:
            if wanted != was:
                connection.execution_options(isolation_level=was)
            if transaction is not None:
                context._transaction = connection.begin()


def _works_as(connection: Connection) -> str | None:
    """Search path and role on PostgreSQL, which may be set for a transaction only."""
    if connection.dialect.name != "postgresql":
        return None
    asked = "SELECT pg_catalog.current_setting('search_path'), current_user"
    begun = connection.in_transaction()
    path, role = connection.exec_driver_sql(asked).one()
    if not begun:
        connection.rollback()
    return f"role {role} with search path {path}"


def _isolation(connection: Connection) -> tuple[Any, Any]:
    """The isolation level that the connection has (None: it does not matter which), and the one that batches need.

    On MySQL, a statement that copies rows locks them, and so waits for those that others are just writing, only from
    REPEATABLE READ on: below that it would leave them out.
    """
    level: Any = connection.get_execution_options().get("isolation_level")
    is_mysql = connection.dialect.name in MYSQL_DIALECTS
    if connections.commits_each(connection):
        was, wanted = level or "AUTOCOMMIT", connection.default_isolation_level
    elif is_mysql:
        was = wanted = connection.get_isolation_level()
    else:
        was = wanted = None
    return was, "REPEATABLE READ" if is_mysql and wanted != "SERIALIZABLE" else wanted


def _kind_of(value: object) -> str:
    """In words that show none of the data."""
    if value is None:
        return "NULL"
    return str(value).lower() if isinstance(value, bool) else f"a {type(value).__name__}"
