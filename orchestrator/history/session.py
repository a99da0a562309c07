"""What every connection that env.py opens is told and asked before anything runs on it.

env.py builds its own engine, which nobody hands to us; so the listeners sit on SQLAlchemy's classes and look up the
running migration in a `ContextVar`. Connections outside a migration (our own store's, an application's) are left
alone. The rules themselves are values, made by whoever knows the database, and travel to worker processes.
"""

from __future__ import annotations

import logging.config
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from sqlalchemy import event
from sqlalchemy.engine import Connection, Dialect, Engine
from sqlalchemy.pool import ConnectionPoolEntry, Pool

from orchestrator.errors import WrongDatabaseError
from orchestrator.history import connections, easing
from orchestrator.sessions import SessionRules


class Follower(Protocol):
    """Told what is sent on a migration's connections, which are told apart by a number."""

    def begins(self, connection: int, sql: str, alone: bool, written: Callable[[], bool]) -> None:
        """A statement is about to be sent, `alone` if in no transaction; `written` asks the server (PostgreSQL) whether
        the connection's transaction has changed anything."""
        ...

    def executed(self, connection: int, sql: str, alone: bool) -> None:
        """It was executed; no transaction is open on the connection now, if `alone`."""
        ...

    def commits(self, connection: int, written: Callable[[], bool]) -> None:
        """The connection's transaction is about to be committed."""
        ...

    def rolled_back(self, connection: int) -> None:
        """The connection's transaction is about to be rolled back."""
        ...


@dataclass(slots=True)
class Session:
    """One migration's connections: the rules (None: there must be no connection), who is told what is sent on them,
    and the backends seen so far."""

    rules: SessionRules | None
    on_backend: Callable[[int], None] = lambda backend: None
    follower: Follower | None = None
    backends: list[int] = field(default_factory=list)


_current: ContextVar[Session | None] = ContextVar("migration_session", default=None)
_lock = threading.Lock()
_MARK = "orchestrator_session"


@contextmanager
def applied(session: Session) -> Iterator[None]:
    """Within this context, every SQLAlchemy connection follows the session's rules."""
    token = _current.set(session)
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def resumable() -> Iterator[None]:
    """Within this context, nobody follows what is sent: what is committed here goes on where it stopped, however it
    ends, so nothing of it is half applied."""
    session = _current.get()
    if session is None:
        yield
        return
    follower, session.follower = session.follower, None
    try:
        yield
    finally:
        session.follower = follower


@contextmanager
def refused() -> Iterator[None]:
    """Within this context, SQLAlchemy opens no connection, and hands out none that is open: WrongDatabaseError."""
    with applied(Session(None)):
        yield


def install() -> None:
    """Put the listeners in place, once per process; `logging.config` is silenced inside migrations.

    Whoever returns from here finds them in place, however many threads call at once.
    """
    with _lock:
        if event.contains(Pool, "connect", _on_connect):
            return
        event.listen(Engine, "do_connect", _refuse_other_dialects)
        event.listen(Pool, "checkout", _on_checkout)
        event.listen(Engine, "before_cursor_execute", _on_execute)
        event.listen(Engine, "after_cursor_execute", _on_executed)
        event.listen(Engine, "commit", _on_commit)
        event.listen(Engine, "rollback", _on_rollback)
        # Older templates call fileConfig unguarded: it would fail for want of a file, or replace our logging.
        logging.config.fileConfig = _silenced(logging.config.fileConfig)
        logging.config.dictConfig = _silenced(logging.config.dictConfig)
        event.listen(Pool, "connect", _on_connect)


def is_proved(connection: Connection) -> bool:
    """Whether this connection was found to lead to the database of the migration that asks."""
    session = _current.get()
    return session is not None and connection.info.get(_MARK) is session


def is_overheard(connection: Connection) -> bool:
    """Whether somebody besides us is told by SQLAlchemy of a connection's statements and transactions, or sends
    statements in its place."""
    ours = event.contains(Engine, "before_cursor_execute", _on_execute)
    told: dict[str, int] = dict.fromkeys(("before_execute", "after_execute", "begin"), 0)
    told |= dict.fromkeys(("before_cursor_execute", "after_cursor_execute", "commit", "rollback"), ours)
    if any(len(getattr(connection.dispatch, name)) > count for name, count in told.items()):
        return True
    instead = ("do_execute", "do_execute_no_params")
    return any(len(getattr(connection.dialect.dispatch, name)) for name in instead)


def prove_schema(rules: SessionRules, connection: Connection, after: str | None = None) -> None:
    """Refuse a connection on which env.py, or the revision `after` which this is asked, has set a search path of its
    own: what is not named by schema would go to another tenant's. Raises WrongDatabaseError.

    Past SQLAlchemy, for which a transaction would begin here that env.py has not begun.
    """
    if rules.current_schema is None:
        return
    raw = connection.connection
    cursor = raw.cursor()
    try:
        cursor.execute(rules.current_schema)
        (found,) = cursor.fetchone() or (None,)
    finally:
        cursor.close()
    if not connection.in_transaction():
        raw.rollback()
    what, moved = ("schema", "the search path") if rules.dialect == "postgresql" else ("database", "`USE`")
    if found != rules.works_in and after is not None:
        raise WrongDatabaseError(
            f"revision {after} leaves its session in {what} {found!r}; this target's is {rules.works_in!r}",
            revision=after,
            remedy=f"let the revision name {what}s, or set back what it was before it ends ({moved})",
        )
    if found != rules.works_in:
        raise WrongDatabaseError(
            f"env.py works in {what} {found!r}; this target's is {rules.works_in!r}. Nothing was run in it",
            remedy=f"let env.py leave {moved} alone: its connections lead to the right place",
        )


def lines(connection: Connection, question: str) -> tuple[str, ...] | None:
    """The first column of what PostgreSQL answers, names written as of nobody's search path; None where it cannot be
    asked. Past SQLAlchemy, and without anything being left of it."""
    raw = connection.connection
    cursor = raw.cursor()
    try:
        cursor.execute("SAVEPOINT orchestrator_lines")
        try:
            cursor.execute("SET LOCAL search_path = pg_catalog")
            cursor.execute("RESET ROLE")
            cursor.execute(question)
            return tuple(row[0] for row in cursor.fetchall())
        finally:
            cursor.execute("ROLLBACK TO SAVEPOINT orchestrator_lines")
            cursor.execute("RELEASE SAVEPOINT orchestrator_lines")
    except Exception:  # whatever the driver raises
        return None
    finally:
        cursor.close()
        if not connection.in_transaction():
            raw.rollback()


def _silenced(function: Callable[..., Any]) -> Callable[..., Any]:
    def outside_migrations(*args: Any, **kwargs: Any) -> Any:
        return None if _current.get() is not None else function(*args, **kwargs)

    return outside_migrations


def _refuse_other_dialects(dialect: Dialect, record: object, args: object, parameters: object) -> None:
    session = _current.get()
    if session is None:
        return
    if session.rules is None:
        raise _unwanted()
    if not session.rules.is_for(dialect.name):
        raise _wrong(session.rules, f"a {dialect.name} database")


def _on_execute(connection: Any, cursor: Any, statement: str, *_: object) -> None:
    session = _current.get()
    if session is None:
        return
    if session.follower is not None:
        alone, written = connections.commits_each(connection), partial(connections.has_written, connection)
        session.follower.begins(id(connection), statement, alone, written)
    if session.rules is not None and session.rules.timeouts is not None:
        easing.before(session.rules.timeouts, connection, statement)


def _on_executed(connection: Any, cursor: Any, statement: str, *_: object) -> None:
    session = _current.get()
    if session is None:
        return
    if session.follower is not None:
        session.follower.executed(id(connection), statement, connections.is_alone(connection))
    if session.rules is not None and session.rules.timeouts is not None:
        easing.restore(session.rules.timeouts, connection)


def _on_commit(connection: Any) -> None:
    session = _current.get()
    if session is not None and session.follower is not None:
        session.follower.commits(id(connection), partial(connections.has_written, connection))


def _on_rollback(connection: Any) -> None:
    session = _current.get()
    if session is not None and session.follower is not None:
        session.follower.rolled_back(id(connection))


def _on_connect(connection: Any, record: ConnectionPoolEntry) -> None:
    session = _current.get()
    if session is not None:
        _prove(session, connection, record)


def _on_checkout(connection: Any, record: ConnectionPoolEntry, proxy: object) -> None:
    # An engine that an application keeps at module level may hand this tenant a connection of the one before.
    session = _current.get()
    if session is not None and record.info.get(_MARK) is not session:
        _prove(session, connection, record)


def _prove(session: Session, connection: Any, record: ConnectionPoolEntry) -> None:
    if session.rules is None:
        raise _unwanted()
    row = _ask(session.rules, connection)
    told = connections.backend_of(connection) if session.rules.dialect == "postgresql" else None
    problem = session.rules.mismatch(row)
    if problem or told not in (None, int(row[-1])):
        with suppress(Exception):
            connection.rollback()  # what was set goes to nobody who is given a pooler's session next
        with suppress(Exception):
            connection.close()
        raise _wrong(session.rules, problem) if problem else _pooled(session.rules)
    connection.commit()  # a setting made in a transaction that rolls back would be undone
    record.info[_MARK] = session
    backend = int(row[-1])
    session.backends.append(backend)
    session.on_backend(backend)


def _ask(rules: SessionRules, connection: Any) -> tuple[Any, ...]:
    cursor = connection.cursor()
    try:
        for statement in rules.setup:
            cursor.execute(statement)
        cursor.execute(rules.query)
        row = cursor.fetchone()
    finally:
        cursor.close()
    return tuple(row)


def _unwanted() -> WrongDatabaseError:
    return WrongDatabaseError("a connection was asked for while revisions are only compiled")


def _pooled(rules: SessionRules) -> WrongDatabaseError:
    return WrongDatabaseError(
        f"env.py opened a connection to {rules.place} through a connection pooler (PgBouncer or the like), which "
        "shares its sessions with others: neither locks nor settings would hold. Nothing was run on it",
        kind="pooler",
        remedy="let env.py take its URL from `sqlalchemy.url`, which leads to the server itself where the shard's "
        "`direct_url` does; where it reads environment variables, set the track's `isolation: process` and "
        "`environment:`",
    )


def _wrong(rules: SessionRules, found: str) -> WrongDatabaseError:
    return WrongDatabaseError(
        f"env.py opened a connection to {found}; this target's database is {rules.place}. Nothing was run on it",
        remedy="let env.py take its URL from `sqlalchemy.url`; where it reads environment variables, set the track's "
        "`isolation: process` and `environment:`",
    )
