"""What a migrating session must be told and must prove, as a value: made by whoever knows the database
(`databases`), applied where the project's code connects (`history`), possibly in another process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """PostgreSQL's limits of a migrating session, as the server takes them: for a lock that a statement waits for, for
    a statement, and for one that builds an index."""

    lock: str
    statement: str
    build: str

    def lifted(self, *, concurrently: bool, local: bool = False) -> str:
        """SQL before a statement that builds an index. One that does so `concurrently` waits for everybody else's
        transactions and keeps nobody waiting: it has no limit for locks. `local` to a transaction. A limit that the
        revision has set itself stays."""
        lock = f"{_changed('lock_timeout', self.lock, _WITHOUT_LIMIT, local)}; " if concurrently else ""
        return f"{lock}{_changed('statement_timeout', self.statement, self.build, local)}"

    def restored(self, *, concurrently: bool, local: bool = False) -> str:
        """SQL after it."""
        lock = f"{_changed('lock_timeout', _WITHOUT_LIMIT, self.lock, local)}; " if concurrently else ""
        return f"{lock}{_changed('statement_timeout', self.build, self.statement, local)}"


# Three weeks, the longest that the server knows: told from the 0 that a revision may have set itself.
_WITHOUT_LIMIT = "2147483647ms"


def _changed(name: str, before: str, after: str, local: bool) -> str:
    return (
        f"SELECT pg_catalog.set_config('{name}', '{after}', {str(local).lower()}) "
        f"WHERE pg_catalog.current_setting('{name}')::interval = interval '{before}'"
    )


@dataclass(frozen=True, slots=True)
class SessionRules:
    """Settings and proof of identity of a migrating session.

    `setup` and then `query` are executed on every new connection. `query` returns one row: its first columns must
    equal `expected`, its last one is the backend's id (0 where there is none). `place` names the target's database
    in messages. `fence` is the index of the column that tells that the guard session still holds the target's lock.
    `schema` names the tenant's schema: the last column before the fence tells that it is there. `current_schema` asks
    where a session would make a table: that must be `works_in`. `timeouts` are eased for what builds an index. `state`
    asks for what else makes two sessions behave alike or not: rows of a name and a value.
    """

    dialect: str
    query: str
    expected: tuple[object, ...]
    place: str
    setup: tuple[str, ...] = ()
    fence: int | None = None
    state: str | None = None
    schema: str | None = None
    works_in: str | None = None
    current_schema: str | None = None
    timeouts: Timeouts | None = None

    def is_for(self, dialect: str) -> bool:
        """Whether SQLAlchemy's name of a dialect means this kind of database: its URLs say `mysql` or `mariadb` for
        either server.

        >>> SessionRules("mysql", "…", (), "acme").is_for("mariadb")
        True
        """
        return dialect == self.dialect or {dialect, self.dialect} == {"mysql", "mariadb"}

    def mismatch(self, row: Sequence[object]) -> str | None:
        """What a connection turned out to lead to, in words; None when it is the target's database.

        >>> rules = SessionRules("sqlite", "…", ("/t/acme.db",), "acme.db")
        >>> rules.mismatch(("/t/globex.db", 0))
        "database '/t/globex.db'"
        """
        seen = tuple(row[: len(self.expected)])
        if seen == self.expected:
            return None
        if self.fence is not None and seen[: self.fence] == self.expected[: self.fence]:
            return f"database {seen[0]!r}, whose migration lock is no longer held"
        if self.schema is not None and self.fence and seen[: self.fence - 1] == self.expected[: self.fence - 1]:
            return f"database {seen[0]!r}, where schema {self.schema!r} is gone or not ours to use"
        return f"database {seen[0]!r}" if seen[0] != self.expected[0] else f"database {seen[0]!r} of another server"
