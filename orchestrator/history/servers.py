"""What a backfill asks of its server, by kind: who else is at it, how many rows there are, what was refused and why."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic.util import CommandError
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from orchestrator.backfill.model import Backfill, Refusal
from orchestrator.history import failures, scanner, sqlite_indexes, touched

# The longest that a batch may take, in seconds: it is tried with fewer rows then.
BATCH_SECONDS = 30
# How long a batch waits for a lock where nobody has set a limit, in seconds.
LOCK_SECONDS = 2
# A smaller table has about as many rows as it has room for, or none, as far as PostgreSQL's planner knows.
FEW_PAGES, PAGE = 10, 8192
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


@dataclass(frozen=True, slots=True)
class Narrowed:
    """Columns whose character set has characters that the session's has not: MySQL gives `?` in their place."""

    columns: frozenset[str] = frozenset()
    session: str = ""


class Server:
    """One that tells and limits nothing."""

    # Whether one statement may write, and ask something else.
    writes_and_asks = False

    def __init__(self, table: sa.Table) -> None:
        self._table = table

    @contextmanager
    def alone(self, connection: Connection, backfill: Backfill) -> Iterator[None]:
        """Nobody else runs the backfill meanwhile. Raises CommandError where somebody does."""
        yield

    @contextmanager
    def bounded(self, connection: Connection) -> Iterator[None]:
        """A batch waits for locks, and works where the server can see to it, for a bounded time."""
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

    def of_this_transaction(self) -> Sequence[sa.ColumnElement[bool]]:
        """What keeps to rows that this transaction has written, where it would see others' that came meanwhile."""
        return ()

    def written(self, connection: Connection) -> int | None:
        """Rows of the table that this session has written so far, as the server counts; None where it does not."""
        return None

    def unusable(self, connection: Connection, columns: Sequence[str]) -> str | None:
        """Why these columns cannot be gone by on this kind of server, in words."""
        return None

    def primary_key(self, connection: Connection) -> Sequence[str]:
        """Its columns, in the key's order; none where there is none."""
        return sa.inspect(connection).get_pk_constraint(self._table.name, self._table.schema)["constrained_columns"]

    def is_unique(self, connection: Connection, columns: Sequence[str]) -> bool:
        """Whether a unique index that orders as its columns do begins as these, and has no others."""
        inspector, table = sa.inspect(connection), self._table
        found = [one["column_names"] for one in inspector.get_unique_constraints(table.name, schema=table.schema)]
        found += [
            [str(column) for column in one["column_names"]]
            for one in inspector.get_indexes(table.name, schema=table.schema)
            if one["unique"]
        ]
        return any(list(columns)[: len(unique)] == unique for unique in found)

    def has_heirs(self, connection: Connection) -> bool:
        """Whether other tables inherit from it, whose rows are its rows and need not keep to its keys."""
        return False

    def hides_rows(self, connection: Connection) -> bool:
        """Whether there may be rows that this role does not see."""
        return False

    def narrowed(self, connection: Connection) -> Narrowed:
        """What the session cannot read of the table's texts as it is."""
        return Narrowed()

    def numbers(self, connection: Connection) -> dict[str, Any]:
        """See `touched.numbers`; nothing where there are none."""
        return {}

    def without_transactions(self, connection: Connection, statement: str) -> str | None:
        """Which table that the statement names is not committed together with the rest of its transaction, in words and
        with what to do; or which of the tables that inherit from this one."""
        return None


# The table with its partitions and the tables that inherit from it.
_FAMILY = (
    "WITH RECURSIVE family(oid) AS (SELECT CAST(CAST(:t AS regclass) AS oid) UNION"
    " SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN family ON i.inhparent = family.oid) "
)
_PRIMARY = """SELECT a.attname::text FROM pg_catalog.pg_index i
    CROSS JOIN pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS k(number, place)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
    WHERE i.indrelid = CAST(:t AS regclass) AND i.indisprimary AND k.place <= i.indnkeyatts ORDER BY k.place"""
# What `SHOW` tells of a duration reads as an interval: `0`, `1500ms`, `5min`.
_LIMITS = """SELECT pg_catalog.current_setting('lock_timeout'), pg_catalog.current_setting('statement_timeout'),
    CAST(1000 * EXTRACT(EPOCH FROM CAST(pg_catalog.current_setting('statement_timeout') AS interval)) AS bigint)"""
_LIMIT = """SELECT pg_catalog.set_config('lock_timeout', :lock, false),
    pg_catalog.set_config('statement_timeout', :statement, false)"""
# One with another collation than its column orders otherwise, and may tell apart what the column takes for the same.
_UNIQUE = """SELECT EXISTS (SELECT FROM pg_catalog.pg_index i
    WHERE i.indrelid = CAST(:t AS regclass) AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
    AND i.indexprs IS NULL AND ARRAY(SELECT a.attname::text
        FROM pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS k(number, place)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
        WHERE k.place <= i.indnkeyatts ORDER BY k.place) = (CAST(:columns AS text[]))[1:i.indnkeyatts]
    AND NOT EXISTS (SELECT FROM ROWS FROM (pg_catalog.unnest(i.indkey::int2[]),
            pg_catalog.unnest(i.indcollation::oid[])) WITH ORDINALITY AS k(number, collated, place)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
        WHERE k.place <= i.indnkeyatts AND a.attcollation <> k.collated))"""
_HIDDEN = """SELECT c.relname::text FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relrowsecurity AND c.relname::text = ANY(:names)
    AND (pg_catalog.pg_table_is_visible(c.oid) OR n.nspname::text = ANY(:names))
    AND pg_catalog.row_security_active(c.oid) ORDER BY 1 LIMIT 1"""
_FOREIGN = (
    _FAMILY
    + """SELECT c.relname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'f' AND (c.oid IN (SELECT oid FROM family) OR c.relname::text = ANY(:names)
        AND (pg_catalog.pg_table_is_visible(c.oid) OR n.nspname::text = ANY(:names))) ORDER BY 1 LIMIT 1"""
)
_WRITTEN_HERE = "xmin::text = (pg_catalog.txid_current() % 4294967296)::text"


# Of a domain, what it is made of. The type "char" (with quotes) is ordered by bytes, and compared as text.
_ODD = """WITH RECURSIVE made(name, type) AS (SELECT a.attname::text, a.atttypid FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = CAST(:t AS regclass) AND a.attname::text = ANY(:columns)
    UNION ALL SELECT made.name, t.typbasetype FROM made JOIN pg_catalog.pg_type t ON t.oid = made.type
        WHERE t.typtype = 'd')
    SELECT name FROM made WHERE type = CAST('pg_catalog."char"' AS regtype) ORDER BY 1 LIMIT 1"""


class PostgreSQL(Server):
    writes_and_asks = True

    def __init__(self, table: sa.Table, quoted: str) -> None:
        super().__init__(table)
        self._quoted = quoted

    @contextmanager
    def alone(self, connection: Connection, backfill: Backfill) -> Iterator[None]:
        with connection.begin():
            oid = connection.execute(sa.text("SELECT CAST(CAST(:t AS regclass) AS oid)"), {"t": self._quoted}).scalar()
            lock = {"space": LOCK_NAMESPACE, "key": _number(f"{oid} {backfill.revision} {backfill.direction}")}
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
            lock, statement, longest = connection.execute(sa.text(_LIMITS)).one()
            ours = {
                "lock": f"{LOCK_SECONDS}s" if lock == "0" else lock,
                "statement": f"{min(int(longest) or BATCH_SECONDS * 1000, BATCH_SECONDS * 1000)}ms",
            }
            connection.execute(sa.text(_LIMIT), ours)
        try:
            yield
        finally:
            if not connection.invalidated and not connection.closed:
                _quietly(connection, _LIMIT, {"lock": lock, "statement": statement})

    def estimate(self, connection: Connection) -> int | None:
        """What the planner makes of statistics by the table's size as it is now: alone, they may be old, or not there
        yet. Of a table of a few pages without any it knows nothing."""
        asked = (
            _FAMILY + "SELECT sum(c.reltuples) FILTER (WHERE c.reltuples > 0)::bigint,"
            " sum(pg_catalog.pg_relation_size(c.oid))::bigint FROM pg_catalog.pg_class c JOIN family USING (oid)"
        )
        known, size = connection.execute(sa.text(asked), {"t": self._quoted}).one()
        if (size or 0) < FEW_PAGES * PAGE:
            return None if not known else int(known)
        table = connection.dialect.identifier_preparer.format_table(self._table)
        plan: Any = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) SELECT FROM {table}").scalar_one()
        [told] = json.loads(plan) if isinstance(plan, str) else plan
        return int(told["Plan"]["Plan Rows"])

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
                    _FAMILY + "SELECT l.virtualtransaction, l.pid, a.application_name FROM pg_catalog.pg_locks l"
                    " LEFT JOIN LATERAL pg_catalog.pg_stat_get_activity(l.pid) a ON a.pid = l.pid"
                    " WHERE l.locktype = 'relation' AND l.granted"
                    " AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()"
                    " AND l.database = (SELECT oid FROM pg_catalog.pg_database"
                    "  WHERE datname = pg_catalog.current_database())"
                    " AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock',"
                    "  'AccessExclusiveLock')"
                    " AND l.relation IN (SELECT oid FROM family)"
                ),
                {"t": self._quoted},
            ).all()
        names = sorted({_session(pid, name) for _, pid, name in rows})
        return Writers(tuple(sorted({row[0] for row in rows})), ", ".join(names[:3]))

    def vacuum(self, connection: Connection) -> tuple[int | None, bool | None]:
        row = connection.execute(
            sa.text(
                _FAMILY + "SELECT sum(pg_catalog.pg_stat_get_dead_tuples(oid)), EXISTS ("
                "SELECT FROM pg_catalog.pg_stat_progress_vacuum v WHERE v.relid IN (SELECT oid FROM family)"
                " AND v.datname = pg_catalog.current_database()) FROM family"
            ),
            {"t": self._quoted},
        ).one()
        return int(row[0] or 0), bool(row[1])

    def of_this_transaction(self) -> Sequence[sa.ColumnElement[bool]]:
        return (sa.literal_column(_WRITTEN_HERE, sa.Boolean()),)

    def written(self, connection: Connection) -> int | None:
        """One that goes to another partition counts as inserted. Foreign tables are not counted."""
        found = connection.execute(
            sa.text(
                _FAMILY + "SELECT sum(pg_catalog.pg_stat_get_xact_tuples_updated(oid)"
                " + pg_catalog.pg_stat_get_xact_tuples_inserted(oid)) FROM family JOIN pg_catalog.pg_class USING (oid)"
                " HAVING bool_and(relkind <> 'f') AND CAST(pg_catalog.current_setting('track_counts') AS boolean)"
            ),
            {"t": self._quoted},
        ).scalar()
        return None if found is None else int(found)

    def unusable(self, connection: Connection, columns: Sequence[str]) -> str | None:
        asked = sa.text(_ODD).bindparams(sa.bindparam("columns", list(columns), sa.ARRAY(sa.Text())))
        found = connection.execute(asked, {"t": self._quoted}).scalar()
        return None if found is None else f'{found} is a "char", which is ordered by bytes and compared as text'

    def primary_key(self, connection: Connection) -> Sequence[str]:
        """SQLAlchemy's question for it takes the server and us many times as long."""
        return [str(name) for (name,) in connection.execute(sa.text(_PRIMARY), {"t": self._quoted})]

    def is_unique(self, connection: Connection, columns: Sequence[str]) -> bool:
        """An index that could not be built concurrently is invalid, and says nothing."""
        asked = sa.text(_UNIQUE).bindparams(sa.bindparam("columns", list(columns), sa.ARRAY(sa.Text())))
        return bool(connection.execute(asked, {"t": self._quoted}).scalar())

    def has_heirs(self, connection: Connection) -> bool:
        asked = (
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhparent"
            " WHERE i.inhparent = CAST(:t AS regclass) AND c.relkind = 'r')"
        )
        return bool(connection.execute(sa.text(asked), {"t": self._quoted}).scalar())

    def without_transactions(self, connection: Connection, statement: str) -> str | None:
        """A foreign table, whose server commits before this one does."""
        names = sa.bindparam("names", sorted(scanner.names(statement, "postgresql")), sa.ARRAY(sa.Text()))
        found = connection.execute(sa.text(_FOREIGN).bindparams(names), {"t": self._quoted}).scalar()
        if found is None:
            return None
        return (
            f"{str(found)!r} is a foreign table, whose server commits before this one does: what a batch that is cut "
            "off does there may stay, and be done again. Name tables of this database only"
        )

    def numbers(self, connection: Connection) -> dict[str, Any]:
        return touched.numbers(connection, self._quoted)

    def hides_rows(self, connection: Connection) -> bool:
        asked = sa.text("SELECT pg_catalog.row_security_active(CAST(CAST(:t AS regclass) AS oid))")
        return bool(connection.execute(asked, {"t": self._quoted}).scalar())


# Character sets with more than `utf8mb3` has, which ends with the Basic Multilingual Plane.
_BEYOND = frozenset({"utf8mb4", "utf16", "utf16le", "utf32", "gb18030"})


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
        """For locks, a bounded time. MySQL itself, other than MariaDB, bounds no statement that writes."""
        with connection.begin():
            names = ["innodb_lock_wait_timeout", "lock_wait_timeout"]
            names += ["max_statement_time"] if self._is_mariadb(connection) else []
            was: dict[str, Any] = {
                name: connection.execute(sa.text(f"SELECT @@SESSION.{name}")).scalar() for name in names
            }
            ours = {"max_statement_time": BATCH_SECONDS}
            for name in names:
                most = ours.get(name, LOCK_SECONDS)
                value = min(was[name] or most, most)
                connection.exec_driver_sql(f"SET SESSION {name} = {value}")
        try:
            yield
        finally:
            if not connection.invalidated and not connection.closed:
                for name, value in was.items():
                    _quietly(connection, f"SET SESSION {name} = {value}", {})

    def unusable(self, connection: Connection, columns: Sequence[str]) -> str | None:
        asked = sa.text(
            "SELECT column_name, data_type, extra FROM information_schema.columns"
            " WHERE table_schema = COALESCE(:schema, DATABASE()) AND table_name = :name"
        )
        rows = connection.execute(asked, {"schema": self._table.schema, "name": self._table.name})
        for name, kind, extra in rows:
            if name not in columns:
                continue
            if str(kind).lower() in ("enum", "set"):
                return f"{name} is an {str(kind).upper()}, which is ordered by number and compared as text"
            if str(kind).lower() == "timestamp":
                return f"{name} is a TIMESTAMP, whose values depend on the session's time zone"
            if str(kind).lower() == "time":
                return f"{name} is a TIME, which may be below zero or longer than a day"
            if "on update" in str(extra).lower():
                return f"{name} changes by itself when its row does (ON UPDATE)"
        return None

    def narrowed(self, connection: Connection) -> Narrowed:
        session = _charset(connection.execute(sa.text("SELECT @@SESSION.character_set_results")).scalar())
        asked = sa.text(
            "SELECT column_name, character_set_name FROM information_schema.columns"
            " WHERE table_schema = COALESCE(:schema, DATABASE()) AND table_name = :name"
            " AND character_set_name IS NOT NULL"
        )
        rows = connection.execute(asked, {"schema": self._table.schema, "name": self._table.name})
        return Narrowed(frozenset(str(name) for name, kind in rows if not _holds(session, _charset(kind))), session)

    def without_transactions(self, connection: Connection, statement: str) -> str | None:
        asked = sa.text(
            "SELECT table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE'"
            " AND LOWER(engine) <> 'innodb' AND table_schema NOT IN ('mysql', 'information_schema',"
            " 'performance_schema', 'sys')"
        )
        names = [str(name) for (name,) in connection.execute(asked)]
        found = next((name for name in names if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", statement)), None)
        if found is None:
            return None
        return (
            f"{found!r} is kept without transactions: what it does there could not be taken back with a batch. Convert "
            "that table to InnoDB first"
        )

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


def _charset(name: Any) -> str:
    """As it is called since MySQL 8.0.30 and MariaDB 10.6."""
    return "utf8mb3" if name == "utf8" else str(name)


def _holds(session: str, column: str) -> bool:
    """Whether the one character set has what the other has."""
    return session in ("utf8mb4", column) or column == "ascii" or (session == "utf8mb3" and column not in _BEYOND)


class SQLite(Server):
    def begin(self, connection: Connection) -> None:
        """Whoever reads first and writes later may find that somebody wrote in between."""
        raw: Any = connection.connection.dbapi_connection
        if not getattr(raw, "in_transaction", False):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    def estimate(self, connection: Connection) -> int | None:
        return int(connection.execute(sa.select(sa.func.count()).select_from(self._table)).scalar_one())

    def unusable(self, connection: Connection, columns: Sequence[str]) -> str | None:
        indexes = sqlite_indexes.unique(connection, self._table)
        if any(one.of_primary_key and one.columns == list(columns) and not one.in_order for one in indexes):
            return f"{', '.join(columns)} has another collation in the primary key than in the table"
        return None

    def is_unique(self, connection: Connection, columns: Sequence[str]) -> bool:
        indexes = [one.columns for one in sqlite_indexes.unique(connection, self._table) if one.in_order]
        return any(list(columns)[: len(unique)] == unique for unique in indexes)


def of(connection: Connection, table: sa.Table) -> Server:
    match connection.dialect.name:
        case "postgresql":
            quoted = connection.dialect.identifier_preparer.format_table(table)
            # Doubled for drivers that take % for parameters in a statement; this one goes as a value.
            doubled = connection.dialect.identifier_preparer._double_percents
            return PostgreSQL(table, quoted.replace("%%", "%") if doubled else quoted)
        case "mysql" | "mariadb":
            return MySQL(table)
        case "sqlite":
            return SQLite(table)
        case other:
            raise CommandError(f"backfills know PostgreSQL, MySQL, MariaDB and SQLite, not {other}")


def hidden(connection: Connection, sql: str) -> str | None:
    """A table that the SQL names, and of which row level security may hide rows from this role. Told by its name: what
    a view or a function reads is not looked at."""
    if connection.dialect.name != "postgresql":
        return None
    names = sa.bindparam("names", sorted(scanner.names(sql, "postgresql")), sa.ARRAY(sa.Text()))
    found = connection.execute(sa.text(_HIDDEN).bindparams(names)).scalar()
    return None if found is None else str(found)


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
