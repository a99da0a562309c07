"""What a backfill asks of its server, by kind: who else is at it, how many rows there are, what was refused and why."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic.util import CommandError
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from orchestrator.backfill.model import Backfill, Refusal
from orchestrator.history import failures

# The longest that a batch may take, in seconds: it is tried with fewer rows then.
BATCH_SECONDS = 30
# How long a batch waits for a lock where nobody has set a limit, in seconds.
LOCK_SECONDS = 2
# The first of the two keys of advisory locks, told from that of targets.
LOCK_NAMESPACE = int.from_bytes(b"obkf", "big")

_REFUSALS: dict[str, Refusal] = {
    "55P03": "lock_timeout",
    "57014": "statement_timeout",
    "40P01": "deadlock",
    "40001": "deadlock",
    "1020": "deadlock",  # MariaDB from 11.6.2: a row was changed since the transaction's first look
    "1205": "lock_timeout",
    "3572": "lock_timeout",
    "1213": "deadlock",
    "1969": "statement_timeout",
    "3024": "statement_timeout",
}


def refusal(exc: DBAPIError) -> Refusal | None:
    """Why the server would not have a batch, where fewer rows or another try may help."""
    if exc.connection_invalidated:
        return None
    code = failures.sqlstate(exc)
    if code is None and "database is locked" in str(exc.orig):  # SQLite
        return "lock_timeout"
    return _REFUSALS.get(code or "")


def now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


@dataclass(frozen=True, slots=True)
class Writers:
    """Open transactions that have written to a table, by what tells them apart, and in words."""

    transactions: tuple[str, ...] = ()
    told: str = ""

    def __bool__(self) -> bool:
        return bool(self.transactions)


class Server:
    """One that tells and limits nothing."""

    def __init__(self, table: sa.Table) -> None:
        self._table = table

    @contextmanager
    def alone(self, connection: Connection, backfill: Backfill) -> Iterator[None]:
        """Nobody else runs the backfill meanwhile. Raises CommandError where somebody does."""
        yield

    @contextmanager
    def bounded(self, connection: Connection) -> Iterator[None]:
        """A batch waits and works for a bounded time."""
        yield

    def begin(self, connection: Connection) -> None:
        """Called first in a transaction that writes."""

    def estimate(self, connection: Connection) -> int | None:
        """About how many rows the table has, without counting them; None where nobody knows."""
        return None

    def writers(self, connection: Connection) -> Writers:
        """Who has written to the table in a transaction that is still open, where what they wrote is not waited for by
        a batch that comes upon it."""
        return Writers()

    def still(self, connection: Connection, writers: Writers) -> Writers:
        """Those of them that are still open."""
        return Writers()

    def vacuum(self, connection: Connection) -> tuple[int | None, bool | None]:
        """Dead rows of the table, and whether a vacuum is at work on it."""
        return None, None


class PostgreSQL(Server):
    def __init__(self, table: sa.Table, quoted: str) -> None:
        super().__init__(table)
        self._quoted = quoted

    @contextmanager
    def alone(self, connection: Connection, backfill: Backfill) -> Iterator[None]:
        with connection.begin():
            oid = connection.execute(sa.text("SELECT CAST(CAST(:t AS regclass) AS oid)"), {"t": self._quoted}).scalar()
        lock = {"space": LOCK_NAMESPACE, "key": _number(f"{oid} {backfill.revision} {backfill.direction}")}
        with connection.begin():
            got = connection.execute(sa.text("SELECT pg_catalog.pg_try_advisory_lock(:space, :key)"), lock).scalar()
        if not got:
            raise taken(backfill)
        try:
            yield
        finally:
            if not connection.invalidated and not connection.closed:
                _quietly(connection, "SELECT pg_catalog.pg_advisory_unlock(:space, :key)", lock)

    @contextmanager
    def bounded(self, connection: Connection) -> Iterator[None]:
        """Ours is the limit for locks where nobody has set one, and the one for statements where none is shorter."""
        with connection.begin():
            was = {
                name: str(connection.execute(sa.text(f"SELECT pg_catalog.current_setting('{name}')")).scalar())
                for name in ("lock_timeout", "statement_timeout")
            }
            longest: Any = connection.execute(
                sa.text("SELECT setting FROM pg_catalog.pg_settings WHERE name = 'statement_timeout'")
            ).scalar()
            connection.execute(
                sa.text(
                    "SELECT pg_catalog.set_config('lock_timeout', :lock, false),"
                    " pg_catalog.set_config('statement_timeout', :statement, false)"
                ),
                {
                    "lock": f"{LOCK_SECONDS}s" if was["lock_timeout"] == "0" else was["lock_timeout"],
                    "statement": f"{min(int(longest) or BATCH_SECONDS * 1000, BATCH_SECONDS * 1000)}ms",
                },
            )
        try:
            yield
        finally:
            if not connection.invalidated and not connection.closed:
                for name, value in was.items():
                    _quietly(connection, f"SELECT pg_catalog.set_config('{name}', :value, false)", {"value": value})

    def estimate(self, connection: Connection) -> int | None:
        found: Any = connection.execute(
            sa.text(
                "SELECT sum(c.reltuples)::bigint FROM pg_catalog.pg_class c WHERE c.reltuples > 0 AND c.oid IN ("
                " SELECT CAST(CAST(:t AS regclass) AS oid) UNION ALL"
                " SELECT relid FROM pg_catalog.pg_partition_tree(CAST(:t AS regclass)) WHERE isleaf"
                " AND relid <> CAST(:t AS regclass))"
            ),
            {"t": self._quoted},
        ).scalar()
        return None if not found else int(found)

    def writers(self, connection: Connection) -> Writers:
        return self._open(connection)

    def still(self, connection: Connection, writers: Writers) -> Writers:
        found = self._open(connection)
        left = tuple(one for one in writers.transactions if one in found.transactions)
        return Writers(left, found.told if left else "")

    def _open(self, connection: Connection) -> Writers:
        with connection.begin():
            rows = connection.execute(
                sa.text(
                    "SELECT l.virtualtransaction, l.pid, a.application_name FROM pg_catalog.pg_locks l"
                    " LEFT JOIN LATERAL pg_catalog.pg_stat_get_activity(l.pid) a ON a.pid = l.pid"
                    " WHERE l.locktype = 'relation' AND l.granted"
                    " AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()"
                    " AND l.database = (SELECT oid FROM pg_catalog.pg_database"
                    "  WHERE datname = pg_catalog.current_database())"
                    " AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock',"
                    "  'AccessExclusiveLock')"
                    " AND l.relation IN (SELECT CAST(CAST(:t AS regclass) AS oid) UNION ALL"
                    "  SELECT relid FROM pg_catalog.pg_partition_tree(CAST(:t AS regclass)))"
                ),
                {"t": self._quoted},
            ).all()
        names = sorted({_session(pid, name) for _, pid, name in rows})
        return Writers(tuple(sorted({row[0] for row in rows})), ", ".join(names[:3]))

    def vacuum(self, connection: Connection) -> tuple[int | None, bool | None]:
        row = connection.execute(
            sa.text(
                "SELECT pg_catalog.pg_stat_get_dead_tuples(CAST(CAST(:t AS regclass) AS oid)),"
                " EXISTS (SELECT FROM pg_catalog.pg_stat_progress_vacuum WHERE relid = CAST(:t AS regclass)"
                " AND datname = pg_catalog.current_database())"
            ),
            {"t": self._quoted},
        ).one()
        return int(row[0] or 0), bool(row[1])


class MySQL(Server):
    @contextmanager
    def alone(self, connection: Connection, backfill: Backfill) -> Iterator[None]:
        with connection.begin():
            self._refuse_without_transactions(connection)
            database = connection.execute(sa.text("SELECT DATABASE()")).scalar()
            name = (
                "obkf:"
                + hashlib.sha256(
                    f"{database} {backfill.revision} {backfill.direction} {self._table.fullname}".encode()
                ).hexdigest()[:40]
            )
            got = connection.execute(sa.text("SELECT GET_LOCK(:name, 0)"), {"name": name}).scalar()
        if got != 1:
            raise taken(backfill)
        try:
            yield
        finally:
            if not connection.invalidated and not connection.closed:
                _quietly(connection, "DO RELEASE_LOCK(:name)", {"name": name})

    @contextmanager
    def bounded(self, connection: Connection) -> Iterator[None]:
        with connection.begin():
            names = ["innodb_lock_wait_timeout"] + (["max_statement_time"] if self._is_mariadb(connection) else [])
            was: dict[str, Any] = {
                name: connection.execute(sa.text(f"SELECT @@SESSION.{name}")).scalar() for name in names
            }
            ours = {"innodb_lock_wait_timeout": LOCK_SECONDS, "max_statement_time": BATCH_SECONDS}
            for name in names:
                value = min(was[name] or ours[name], ours[name])
                connection.exec_driver_sql(f"SET SESSION {name} = {value}")
        try:
            yield
        finally:
            if not connection.invalidated and not connection.closed:
                for name, value in was.items():
                    _quietly(connection, f"SET SESSION {name} = {value}", {})

    def estimate(self, connection: Connection) -> int | None:
        found = connection.execute(
            sa.text(
                "SELECT table_rows FROM information_schema.tables"
                " WHERE table_schema = COALESCE(:schema, DATABASE()) AND table_name = :name"
            ),
            {"schema": self._table.schema, "name": self._table.name},
        ).scalar()
        return None if not found else int(found)

    def _refuse_without_transactions(self, connection: Connection) -> None:
        engine = connection.execute(
            sa.text(
                "SELECT engine FROM information_schema.tables"
                " WHERE table_schema = COALESCE(:schema, DATABASE()) AND table_name = :name"
            ),
            {"schema": self._table.schema, "name": self._table.name},
        ).scalar()
        if str(engine).lower() != "innodb":
            raise CommandError(
                f"table {self._table.fullname!r} is kept by {engine}, which has no transactions: a batch and its "
                "checkpoint could not be committed together. Convert it to InnoDB first"
            )

    def _is_mariadb(self, connection: Connection) -> bool:
        return bool(getattr(connection.dialect, "is_mariadb", False))


class SQLite(Server):
    def begin(self, connection: Connection) -> None:
        """Whoever reads first and writes later may find that somebody wrote in between."""
        raw: Any = connection.connection.dbapi_connection
        if not getattr(raw, "in_transaction", False):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    def estimate(self, connection: Connection) -> int | None:
        return int(connection.execute(sa.select(sa.func.count()).select_from(self._table)).scalar_one())


def of(connection: Connection, table: sa.Table) -> Server:
    match connection.dialect.name:
        case "postgresql":
            return PostgreSQL(table, connection.dialect.identifier_preparer.format_table(table))
        case "mysql" | "mariadb":
            return MySQL(table)
        case "sqlite":
            return SQLite(table)
        case other:
            raise CommandError(f"backfills know PostgreSQL, MySQL, MariaDB and SQLite, not {other}")


def taken(backfill: Backfill) -> CommandError:
    return CommandError(
        f"another session is at the backfill of {backfill.table!r} of revision {backfill.revision}: wait for its end, "
        "or end it; whoever comes next goes on where it stopped"
    )


def _session(pid: int | None, name: str | None) -> str:
    if pid is None:
        return "a prepared transaction"
    return f"session {pid} ({name})" if name else f"session {pid}"


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big", signed=True)


def _quietly(connection: Connection, sql: str, parameters: dict[str, Any]) -> None:
    """Put something back as it was. A connection that is lost has nothing to be put back."""
    try:
        with connection.begin():
            connection.execute(sa.text(sql), parameters)
    except DBAPIError:
        pass
