"""Send compiled SQL to a SQLite file, in a session like that of env.py: a transaction for each script."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
from anyio import from_thread
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from orchestrator.databases import catalogs, refusals, singly, sqlite_catalog, sqlite_errors, sqlite_opening
from orchestrator.databases.base import Place
from orchestrator.databases.quoting import plain_literal, quoted
from orchestrator.databases.singly import Role, Sent
from orchestrator.databases.threads import interruptible
from orchestrator.databases.version_sql import Spelling, VersionTable
from orchestrator.errors import TargetError
from orchestrator.events import Statement
from orchestrator.plan.compiled import Script

# The write lock is taken at once: a transaction that reads first may find that it cannot write any more.
SPELLING = Spelling(quoted, plain_literal, begin="BEGIN IMMEDIATE")
_INSTRUCTIONS = 10_000

# What makes a statement mean one thing in one session and another in the next; the last ones by what they do.
_PRAGMAS = [
    "foreign_keys",
    "defer_foreign_keys",
    "ignore_check_constraints",
    "legacy_alter_table",
    "recursive_triggers",
    "reverse_unordered_selects",
    "trusted_schema",
    "writable_schema",
    "read_uncommitted",
    "query_only",
    "auto_vacuum",
    "journal_mode",
]
_READS = [f"SELECT '{name}', CAST({name} AS TEXT) FROM pragma_{name}" for name in _PRAGMAS]
_READS += [
    "SELECT 'case_sensitive_like', CAST('a' LIKE 'A' AS TEXT)",
    "SELECT 'collations', (SELECT group_concat(name) FROM (SELECT name FROM pragma_collation_list ORDER BY 1))",
    "SELECT 'attached databases', (SELECT group_concat(name || ' ' || file) FROM pragma_database_list WHERE "
    "name NOT IN ('main', 'temp'))",
]
if sqlite3.sqlite_version_info >= (3, 30):
    _READS.append(
        "SELECT 'functions', (SELECT group_concat(name) FROM (SELECT DISTINCT name || '/' || narg AS name "
        "FROM pragma_function_list WHERE NOT builtin ORDER BY 1))"
    )
STATE = " UNION ALL ".join(_READS)
# What env.py's sessions may make of a file, for good.
_KEPT = ("journal_mode", "auto_vacuum", "page_size", "user_version", "application_id")


def table_of(place: Place) -> VersionTable:
    return VersionTable(place.target.version_table, None, SPELLING)


class SQLiteReplayer:
    """`databases.base.Replayer`. `file`: the database's, as SQLite named it to the guard."""

    def __init__(self, place: Place, file: str, ask: singly.Ask) -> None:
        self._place, self._file, self._ask = place, file, ask

    @property
    def server(self) -> str:
        return sqlite3.sqlite_version

    async def is_for_env_py(self) -> bool:
        return await singly.has_checkpoints(table_of(self._place), self._ask)

    async def replay(
        self,
        scripts: tuple[Script, ...],
        create_version: str | None,
        on_done: Callable[[tuple[str, ...], float], None],
        on_lasting: Callable[[str], Awaitable[None]],
        on_sent: Callable[[Statement], None] | None = None,
    ) -> None:
        """As `Replayer.replay`. All of a script's transaction is taken back when it fails, also when its process dies,
        so nothing ever stays of a revision that has not come to its end."""
        statements = singly.statements(scripts, table_of(self._place), create_version)

        def done(revisions: tuple[str, ...], seconds: float) -> None:
            from_thread.run_sync(on_done, revisions, seconds)

        # A thread of its own: statements may take long, and the shards' limits bound how many there are.
        own = anyio.CapacityLimiter(1)
        await interruptible(partial(self._send_all, statements, done, on_sent), own)

    async def state(self) -> Mapping[str, str]:
        return await anyio.to_thread.run_sync(self._state)

    async def fingerprint(self) -> tuple[str, ...]:
        return await anyio.to_thread.run_sync(self._fingerprint)

    def _send_all(
        self,
        statements: Sequence[Sent],
        on_done: Callable[[tuple[str, ...], float], None],
        on_sent: Callable[[Statement], None] | None,
        gone: threading.Event,
    ) -> None:
        """Blocks, until `gone` is set at the latest; what is not committed then is taken back as the file is closed."""
        with self._session() as connection:
            connection.set_progress_handler(gone.is_set, _INSTRUCTIONS)
            began = time.monotonic()
            for one in statements:
                if gone.is_set():
                    return
                with singly.told(one, "sqlite", on_sent):
                    _send(connection, one)
                if one.role is Role.COMMIT:
                    on_done(one.revisions, time.monotonic() - began)
                    began = time.monotonic()

    @contextmanager
    def _session(self) -> Iterator[sqlite3.Connection]:
        """Proved, and set up as SQLAlchemy sets up env.py's, with its functions."""
        with sqlite_opening.opened(self._place) as connection:
            connection.isolation_level = None  # the driver begins no transaction by itself
            ((found, _),) = connection.execute(sqlite_opening.WHERE).fetchall()
            if found != self._file:
                raise refusals.elsewhere(self._place, str(found))
            driven: Any = connection
            if (set_up := SQLiteDialect_pysqlite(dbapi=sqlite3).on_connect()) is not None:
                set_up(driven)
            yield connection

    def _state(self) -> Mapping[str, str]:
        with self._session() as connection:
            return dict(connection.execute(STATE).fetchall())

    def _fingerprint(self) -> tuple[str, ...]:
        tables = catalogs.tables_of(self._place, ())
        with self._session() as connection:
            kept = [f"file | {name} | {connection.execute(f'PRAGMA {name}').fetchone()[0]}" for name in _KEPT]
            connection.execute("BEGIN")
            return (*kept, *sqlite_catalog.exactly(connection, tables))


def _send(connection: sqlite3.Connection, one: Sent) -> None:
    try:
        cursor = connection.execute(one.text)
        try:
            rows = cursor.fetchall() if one.role is Role.HEADS else ()
            changed = cursor.rowcount
        finally:
            cursor.close()
    # Warning: several statements at once, before Python 3.12; ValueError: a text that cannot be sent.
    except (sqlite3.Error, sqlite3.Warning, ValueError) as exc:
        raise _explained(one, exc) from exc
    if one.role is Role.HEADS:
        singly.prove_heads(one, rows)
    elif one.role is Role.MOVE and changed != 1:
        raise singly.not_moved(one, changed)


def _explained(one: Sent, exc: Exception) -> TargetError:
    said = str(exc)
    if (one.role is Role.HEADS and sqlite_errors.has_no_table(exc)) or (
        one.role is Role.CREATE and "already exists" in said
    ):
        return refusals.heads_changed(said)
    where = f"revision {one.revision}: " if one.revision else ""
    return refusals.replay_refused(
        f"{where}{said}",
        code=None,
        holder="the process that keeps the file locked" if sqlite_errors.is_busy(exc) else None,
        revision=one.revision,
        statement=one.text if one.role is Role.REVISION else None,
    )
