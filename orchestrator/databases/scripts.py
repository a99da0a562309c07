"""Compiled segments as the text that PostgreSQL is sent. Pure: alike for targets with the same version table."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import datetime
from functools import lru_cache

from orchestrator.databases import version_sql
from orchestrator.databases.postgresql_questions import LOCK_HELD, LOCK_NAMESPACE
from orchestrator.databases.quoting import literal, quoted
from orchestrator.databases.version_sql import Spelling
from orchestrator.events import Statement
from orchestrator.plan import outside, sanitise
from orchestrator.plan.compiled import Begun, Move, Script
from orchestrator.plan.statements import builds_concurrently, builds_index, terminated
from orchestrator.registry.model import Heads, Target
from orchestrator.sessions import Timeouts

SPELLING = Spelling(quoted, literal, locking=" FOR UPDATE")
# How a check fails: by making a number of this and the heads, which needs no procedural language.
HEADS_CHANGED = "the version table holds:"
LOCK_GONE = "the lock of the target is not held by"


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent in one go, and the revisions that are completed when it has succeeded.

    `alone`: a statement outside of transactions, with its revision; or the rest of a revision (no statement) that has
    committed something before. `follows`: something of the revision has been committed, and stays when this fails.
    `lasting`: the revision of which something stays after this, before it is completed. `statements`: those of
    revisions in it, as they were compiled. `heads`: what the version table holds afterwards, where it is brought along;
    `leaves`: what is committed then of a revision that has not come to its end.
    """

    text: str
    _: KW_ONLY
    revisions: tuple[str, ...] = ()
    alone: tuple[str, str] | None = None
    follows: bool = False
    lasting: str | None = None
    heads: Heads | None = None
    leaves: tuple[str, ...] = ()
    statements: tuple[str, ...] = ()

    def sent(self, began_at: datetime, seconds: float) -> Statement:
        """What is told of it when it was sent."""
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
        )


@dataclass(frozen=True, slots=True)
class VersionTable(version_sql.VersionTable):
    """With proofs that are sent in scripts, and the key of the target's lock."""

    spelling: Spelling = SPELLING

    @classmethod
    def of(cls, target: Target) -> VersionTable:
        return cls(target.version_table, target.version_table_schema or target.schema)

    @property
    def lock_key(self) -> int:
        """Second key of the target's advisory lock, unsigned 32 bits: schema and version table within the database."""
        return int.from_bytes(hashlib.sha256(f"{self.schema or 'public'}\0{self.name}".encode()).digest()[:4], "big")

    def check(self, heads: Heads) -> str:
        """Fails unless the table holds exactly these heads; keeps everybody else from changing them until the end of
        the transaction."""
        found = "coalesce(pg_catalog.string_agg(version_num, ',' ORDER BY version_num COLLATE \"C\"), '')"
        return (
            f"SELECT CASE WHEN heads = {literal(','.join(heads))} THEN 0 ELSE ({literal(HEADS_CHANGED + ' ')} || heads)"
            f"::int END FROM (SELECT {found} AS heads FROM ({self.heads}) AS version_rows) AS version_heads;"
        )

    def held(self) -> str:
        """Fails unless this session holds the target's lock still: a function may have let go of it."""
        held = LOCK_HELD.format(pid="pg_catalog.pg_backend_pid()", first=LOCK_NAMESPACE, second=self.lock_key)
        return (
            f"SELECT CASE WHEN {held} THEN 0 ELSE ({literal(LOCK_GONE + ' ')} || pg_catalog.pg_backend_pid())::int END;"
        )


@lru_cache(maxsize=8)  # plans that are under way: their texts may be megabytes
def messages(
    scripts: tuple[Script, ...], table: VersionTable, create_version: str | None, timeouts: Timeouts
) -> tuple[Message, ...]:
    """A transaction is one message, so that `now()` differs from one to the next as it does online; a statement outside
    of transactions is one, because several in one message are a transaction to the server."""
    found: list[Message] = []
    for script in scripts:
        if script.transactional:
            message = Message(
                _transaction(script, table, create_version, timeouts),
                revisions=script.revisions,
                alone=(script.continues, "") if script.continues is not None else None,
                follows=script.continues is not None,
                lasting=_left_open(script),
                heads=script.after if script.after != script.before else None,
                leaves=_leaves(script.items),
                statements=tuple(item for item in script.items if isinstance(item, str)),
            )
            found.append(message)
        else:
            found += _alone(script, table, create_version, timeouts)
    return tuple(found)


def _transaction(script: Script, table: VersionTable, create_version: str | None, timeouts: Timeouts) -> str:
    lines = ["BEGIN;", _opening(script, table, create_version)]
    for item in script.items:
        if isinstance(item, Begun):
            lines.append(_said(item))
        else:
            lines += _moved(table, item) if isinstance(item, Move) else _within(item, timeouts)
    if script.after != script.before:
        lines.append(table.check(script.after))
    return "\n".join([*lines, table.held(), "COMMIT;"])


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


def _leaves(items: Sequence[str | Begun | Move]) -> tuple[str, ...]:
    """What may stay of the revision that the last of them belong to."""
    last = max((place for place, item in enumerate(items) if isinstance(item, Move)), default=-1)
    own = (item for item in items[last + 1 :] if isinstance(item, str))
    return tuple(item for item in own if outside.changes(item) or outside.may_leave(item))


def _said(begun: Begun) -> str:
    return f"-- revision {' '.join(begun.revision.split())}"


def _moved(table: VersionTable, move: Move) -> list[str]:
    return [f"{text};" for text in table.moved(move)]


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
            moved = "\n".join(["BEGIN;", *_moved(table, item), table.check(item.after), table.held(), "COMMIT;"])
            yield Message(moved, alone=(revision, "") if follows else None, follows=follows, heads=item.after)
            continue
        eased, concurrently = builds_index(item) or builds_concurrently(item), builds_concurrently(item)
        if eased:
            yield Message(f"{timeouts.lifted(concurrently=concurrently)};")
        yield Message(
            terminated(item),
            alone=(revision, item),
            follows=follows,
            lasting=revision if outside.may_leave(item) else None,
            leaves=_leaves([item]),
            statements=(item,),
        )
        if eased:
            yield Message(f"{timeouts.restored(concurrently=concurrently)};")
        follows = True
    if script.revisions:
        yield Message(f"{table.check(script.after)}\n{table.held()}", revisions=script.revisions)


def _opening(script: Script, table: VersionTable, create_version: str | None) -> str:
    if script.creates_version and create_version is not None:
        return terminated(table.created(create_version))  # it fails where there is one by now
    return table.check(script.before)
