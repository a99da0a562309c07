"""Indexes that were to be built beside everybody's work and are not whole. Pure.

PostgreSQL leaves an invalid index behind when `CREATE INDEX CONCURRENTLY` fails or is ended: it costs every write, and
serves no reader. A second attempt fails at its name, or, with IF NOT EXISTS, takes it for done.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.errors import HALF_APPLIED, MigrationFailedError, TargetError, TargetLockedError
from orchestrator.plan.statements import builds_concurrently

INVALID_INDEX = "invalid_index"
# What a failure's remedy says as long as nobody has looked.
LOOK = "look for an invalid index that the statement left behind (pg_index.indisvalid), and drop it"
SHOWN = 5

_NAME = r'(?:"(?:[^"]|"")+"|[\w$]+)'
_SKIP = r"(?:\s|--[^\n]*\n|/\*.*?\*/)"
_CREATES = re.compile(
    rf"\bindex{_SKIP}+concurrently{_SKIP}+(?:if{_SKIP}+not{_SKIP}+exists{_SKIP}+)?(?P<name>{_NAME}){_SKIP}+"
    rf"on{_SKIP}+(?:only{_SKIP}+)?(?P<table>{_NAME}(?:\s*\.\s*{_NAME})?)",
    re.IGNORECASE | re.DOTALL,
)
_DROPS = re.compile(rf"{_SKIP}*drop\b", re.IGNORECASE | re.DOTALL)
# Not those of a build that is at work: who builds is known by the lock on the table, since others' progress is hidden.
# A partitioned table's index is invalid until those of all partitions are attached, which is how it should be.
_INVALID = """SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS name,
    (SELECT p.pid FROM pg_catalog.pg_stat_progress_create_index p JOIN pg_catalog.pg_locks l ON l.pid = p.pid
        WHERE l.locktype = 'relation' AND l.relation = i.indrelid AND l.database = p.datid
        AND p.datname = pg_catalog.current_database() LIMIT 1) AS builder
    FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE NOT i.indisvalid AND c.relkind = 'i'"""


@dataclass(frozen=True, slots=True)
class Built:
    """What a statement builds: the index's name as the server has it, and the table as the statement has it."""

    name: str
    table: str


def built(sql: str) -> Built | None:
    """The index that a statement builds concurrently; None where it does not, or leaves the name to the server.

    >>> built('CREATE INDEX CONCURRENTLY IF NOT EXISTS Ix ON "My".t (a)')
    Built(name='ix', table='"My".t')
    >>> built("CREATE INDEX ix ON t (a)")
    """
    found = _CREATES.search(sql) if builds_concurrently(sql) else None
    return Built(_unquoted(found["name"]), found["table"]) if found else None


def question(index: Built) -> str:
    """Asks whether there is such an index, and it is not valid: at most one row, of `name` and `builder`."""
    table, name = _literal(index.table), _literal(index.name)
    return f"""{_INVALID} AND c.relname = {name} AND c.relnamespace =
    (SELECT relnamespace FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass({table})) LIMIT 1"""


def all_in(schema: str | None) -> str:
    """Asks for the invalid indexes of a schema, or of the whole database, as `question` does."""
    where = "" if schema is None else f" AND n.nspname = {_literal(schema)}"
    return f"{_INVALID}{where} ORDER BY 1 LIMIT {SHOWN}"


def refusal(name: str, builder: int | None) -> TargetError:
    """Why the statement that builds this index is not sent."""
    if builder is not None:
        return TargetLockedError(
            f"backend {builder} is building index {name} at this moment",
            remedy="let it finish, then retry",
            retriable=True,
        )
    return MigrationFailedError(
        f"index {name} is there, but invalid: an earlier attempt to build it concurrently did not come to its end",
        kind=INVALID_INDEX,
        remedy=f"{_drop([name])}; then retry",
    )


def complete(exc: MigrationFailedError, names: Sequence[str]) -> None:
    """Name in the failure of a concurrent statement what it left behind."""
    if not names or exc.kind == INVALID_INDEX:
        return
    exc.message += f"\nInvalid in the database now: {', '.join(names)}"
    exc.kind, exc.retriable = HALF_APPLIED, False
    if _DROPS.match(exc.statement or ""):
        exc.remedy = "correct the cause and retry: the statement goes on where it was"
    elif LOOK in (exc.remedy or ""):
        exc.remedy = (exc.remedy or "").replace(LOOK, _drop(names))
    else:
        exc.remedy = f"{_drop(names)}; then {exc.remedy or 'correct the cause and retry'}"


def may_leave_one(statement: str | None, code: str | None) -> bool:
    """Whether a statement that failed so may have left an invalid index: what the server cannot make sense of (class
    42 of its errors: there is such an index already, no such column) it does not begin.

    >>> may_leave_one("CREATE INDEX CONCURRENTLY i ON t (a)", "23505")
    True
    >>> may_leave_one("CREATE INDEX CONCURRENTLY i ON t (a)", "42P07")
    False
    """
    return statement is not None and builds_concurrently(statement) and not (code or "").startswith("42")


def remedy_for(names: Sequence[str]) -> str:
    """What to do about indexes that nothing is to build again."""
    return f"{_drop(names)}; then build what is still wanted"


def _drop(names: Sequence[str]) -> str:
    return "; ".join(f"DROP INDEX CONCURRENTLY {name}" for name in names)


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
