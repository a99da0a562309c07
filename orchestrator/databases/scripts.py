"""Compiled segments as the text that PostgreSQL is sent. Pure: alike for targets with the same version table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from orchestrator.databases import version_sql
from orchestrator.databases.quoting import literal, quoted
from orchestrator.events import Statement
from orchestrator.plan import outside, sanitise
from orchestrator.plan.compiled import Begun, Move, Script
from orchestrator.plan.statements import builds_concurrently, builds_index, terminated
from orchestrator.plan.steps import Heads
from orchestrator.registry.model import Target
from orchestrator.sessions import Timeouts

# How a check fails: by making a number of this and the heads, which needs no procedural language.
HEADS_CHANGED = "the version table holds:"


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent in one go, and the revisions that are completed when it has succeeded.

    `alone`: a statement outside of transactions, with its revision; or the rest of a revision (no statement) that has
    committed something before. `follows`: something of the revision has been committed, and stays when this fails.
    `lasting`: the revision of which something stays after this, before it is completed. `statements`: those of
    revisions in it, as they were compiled.
    """

    text: str
    revisions: tuple[str, ...] = ()
    alone: tuple[str, str] | None = None
    follows: bool = False
    lasting: str | None = None
    statements: tuple[str, ...] = ()

    def sent(self, began_at: datetime, seconds: float, *, failed: bool, code: str | None) -> Statement:
        """What is told of it when it was sent. `code`: what the server said, if it has failed for that."""
        if len(self.statements) == 1:
            text = sanitise.shown(self.statements[0], "postgresql")
            operation, batch = sanitise.operation(text), None
        else:
            operation, text = sanitise.together(self.statements, "postgresql")
            batch = len(self.statements)
        return Statement(
            operation=operation,
            text=text,
            began_at=began_at,
            seconds=seconds,
            revision=self.alone[0] if self.alone else self.revisions[0] if len(self.revisions) == 1 else None,
            batch=batch,
            failed=failed,
            code=code,
        )


@dataclass(frozen=True, slots=True)
class VersionTable:
    """Where a target's heads are kept; names as they are, not quoted."""

    name: str
    schema: str | None = None

    @classmethod
    def of(cls, target: Target) -> VersionTable:
        return cls(target.version_table, target.version_table_schema or target.schema)

    @property
    def qualified(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.name)}" if self.schema else quoted(self.name)

    def created(self, template: str) -> str:
        """The statement that makes it, from the one that Alembic made for `VERSION_TABLE`."""
        return version_sql.created(template, self.name, self.schema, quoted)

    def check(self, heads: Heads) -> str:
        """Fails unless the table holds exactly these heads; keeps everybody else from changing them until the end of
        the transaction."""
        rows = f"SELECT version_num FROM {self.qualified} FOR UPDATE"
        found = "coalesce(pg_catalog.string_agg(version_num, ',' ORDER BY version_num COLLATE \"C\"), '')"
        return (
            f"SELECT CASE WHEN heads = {literal(','.join(heads))} THEN 0 ELSE ({literal(HEADS_CHANGED + ' ')} || heads)"
            f"::int END FROM (SELECT {found} AS heads FROM ({rows}) AS version_rows) AS version_heads;"
        )

    def moved(self, move: Move) -> Iterator[str]:
        """The statements that Alembic runs: a head is replaced, taken out, or added."""
        return (f"{text};" for text in version_sql.moved(move, self.qualified, literal))


@lru_cache(maxsize=64)
def messages(
    scripts: tuple[Script, ...], table: VersionTable, create_version: str | None, timeouts: Timeouts
) -> tuple[Message, ...]:
    """A transaction is one message, so that `now()` differs from one to the next as it does online; a statement outside
    of transactions is one, because several in one message are a transaction to the server."""
    found: list[Message] = []
    for script in scripts:
        if script.transactional:
            rest = (script.continues, "") if script.continues is not None else None
            text = _transaction(script, table, create_version, timeouts)
            own = tuple(item for item in script.items if isinstance(item, str))
            found.append(Message(text, script.revisions, rest, rest is not None, _left_open(script), own))
        else:
            found += _alone(script, table, create_version, timeouts)
    return tuple(found)


def _transaction(script: Script, table: VersionTable, create_version: str | None, timeouts: Timeouts) -> str:
    lines = ["BEGIN;", _opening(script, table, create_version)]
    for item in script.items:
        if isinstance(item, Begun):
            lines.append(_said(item))
        else:
            lines += table.moved(item) if isinstance(item, Move) else _within(item, timeouts)
    if script.after != script.before:
        lines.append(table.check(script.after))
    return "\n".join([*lines, "COMMIT;"])


def _left_open(script: Script) -> str | None:
    """The revision of which the transaction commits a part."""
    revision, changes = None, False
    for item in script.items:
        if isinstance(item, Begun):
            revision, changes = item.revision, False
        elif isinstance(item, Move):
            revision = None
        else:
            changes = changes or outside.changes(item) or outside.may_leave(item)
    return revision if changes else None


def _said(begun: Begun) -> str:
    return f"-- revision {' '.join(begun.revision.split())}"


def _within(item: str, timeouts: Timeouts) -> list[str]:
    """A statement in a transaction."""
    if not builds_index(item):
        return [terminated(item)]
    lifted = timeouts.lifted(concurrently=False, local=True)
    return [f"{lifted};", terminated(item), f"{timeouts.restored(concurrently=False, local=True)};"]


def _alone(script: Script, table: VersionTable, create_version: str | None, timeouts: Timeouts) -> Iterator[Message]:
    yield Message(_opening(script, table, create_version))
    revision, follows = "", False
    for item in script.items:
        if isinstance(item, Begun):
            revision, follows = item.revision, item.revision == script.continues
            continue
        if isinstance(item, Move):
            yield Message("\n".join(["BEGIN;", *table.moved(item), table.check(item.after), "COMMIT;"]))
            continue
        eased, concurrently = builds_index(item) or builds_concurrently(item), builds_concurrently(item)
        if eased:
            yield Message(f"{timeouts.lifted(concurrently=concurrently)};")
        lasting = revision if outside.may_leave(item) else None
        yield Message(terminated(item), alone=(revision, item), follows=follows, lasting=lasting, statements=(item,))
        if eased:
            yield Message(f"{timeouts.restored(concurrently=concurrently)};")
        follows = True
    if script.revisions:
        yield Message(table.check(script.after), script.revisions)


def _opening(script: Script, table: VersionTable, create_version: str | None) -> str:
    if script.creates_version and create_version is not None:
        return terminated(table.created(create_version))  # it fails where there is one by now
    return table.check(script.before)
