"""Compiled segments as the statements that are sent one by one, where a server takes no script.

Each statement of a revision is sent as it was rendered, never split and never ended with anything. What is around them
is ours: a transaction for each script, the heads before and after, and the version table.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import lru_cache

from orchestrator.backfill.naming import checkpoints_of
from orchestrator.databases import questions, refusals, telling
from orchestrator.databases.base import REPLAY_REFUSED
from orchestrator.databases.version_sql import VersionTable
from orchestrator.errors import MigrationFailedError
from orchestrator.events import Statement
from orchestrator.plan import sanitise
from orchestrator.plan.compiled import Begun, Compiled, Move, Online, Script, stretches
from orchestrator.registry.model import Heads

Ask = Callable[[str, float], Awaitable[Sequence[tuple[object, ...]]]]
CHECKPOINT_SECONDS = 10.0
_LOOK = "look at what the revision, or a trigger, does to the version table"


class Role(StrEnum):
    """What a statement is for: `create` makes the version table, `heads` reads it, `move` changes it."""

    SESSION = "session"
    BEGIN = "begin"
    CREATE = "create"
    HEADS = "heads"
    REVISION = "revision"
    MOVE = "move"
    COMMIT = "commit"


@dataclass(frozen=True, slots=True)
class Sent:
    """One statement. `revision`: whose it is. `heads`: what the version table must be found to hold, or holds when it
    was moved. `revisions`: those that are completed when this COMMIT has succeeded."""

    text: str
    role: Role
    revision: str | None = None
    heads: Heads = ()
    revisions: tuple[str, ...] = ()


async def has_checkpoints(table: VersionTable, ask: Ask) -> bool:
    """Whether backfills have left theirs beside it, or may have; `ask` as `databases.base.Guard.ask`."""
    beside = replace(table, name=checkpoints_of(table.name))
    question = f"SELECT count(*) FROM {beside.qualified}"
    try:
        return bool(await questions.counted(lambda: ask(question, CHECKPOINT_SECONDS)))
    except MigrationFailedError:
        return True


def texts(compiled: Compiled, table: VersionTable) -> tuple[str | Online, ...]:
    """See `databases.base.Database.script`."""
    found: list[str | Online] = []
    for stretch in stretches(compiled.segments):
        if isinstance(stretch, Online):
            found.append(stretch)
        else:
            found += [sent.text for sent in statements(stretch, table, compiled.create_version)]
    return tuple(found)


@lru_cache(maxsize=8)  # plans that are under way: their texts may be megabytes
def statements(scripts: tuple[Script, ...], table: VersionTable, create_version: str | None) -> tuple[Sent, ...]:
    """All that is sent for a stretch of scripts, in order. Targets with the same version table share it."""
    found = [Sent(text, Role.SESSION) for text in table.spelling.opening]
    for script in scripts:
        found += _statements(script, table, create_version)
    return tuple(found)


def _statements(script: Script, table: VersionTable, create_version: str | None) -> Iterator[Sent]:
    if table.spelling.begin is not None:
        yield Sent(table.spelling.begin, Role.BEGIN)
    if script.creates_version and create_version is not None:
        yield Sent(table.created(create_version), Role.CREATE)  # it fails where there is one by now
    else:
        yield Sent(table.heads, Role.HEADS, heads=script.before)
    revision, completed = script.continues, iter(script.revisions)
    for item in script.items:
        if isinstance(item, Begun):
            revision = item.revision
        elif isinstance(item, Move):
            revision = next(completed, revision)
            for text in table.moved(item):
                yield Sent(text, Role.MOVE, revision, item.after)
        else:
            yield Sent(item, Role.REVISION, revision)
    if script.after != script.before:
        yield Sent(table.heads, Role.HEADS, revision, script.after)
    yield Sent("COMMIT", Role.COMMIT, revision, revisions=script.revisions)


def prove_heads(one: Sent, rows: Sequence[Sequence[object]]) -> None:
    """Raises HeadsChangedError, retriable, when the version table holds other heads than those from which a revision
    was planned; MigrationFailedError where it does after one."""
    found = tuple(sorted(str(row[0]) for row in rows))
    if found == tuple(sorted(one.heads)):
        return
    now, wanted = (", ".join(heads) or "nothing" for heads in (found, one.heads))
    if one.revision is None:
        raise refusals.heads_changed(f"it holds {now}, not {wanted}")
    raise MigrationFailedError(
        f"revision {one.revision}: the version table holds {now} after it, not {wanted}",
        kind=REPLAY_REFUSED,
        revision=one.revision,
        remedy=_LOOK,
    )


def not_moved(one: Sent, changed: int) -> MigrationFailedError:
    """What Alembic says as well where the version table is not changed as it must be."""
    return MigrationFailedError(
        f"revision {one.revision}: one row of the version table was to be changed, and {changed} were",
        kind=REPLAY_REFUSED,
        revision=one.revision,
        remedy=_LOOK,
    )


def told(one: Sent, dialect: str, on_sent: Callable[[Statement], None] | None) -> AbstractContextManager[None]:
    """Tell of a revision's statement that is sent within, also of one that fails."""
    if on_sent is None or one.role is not Role.REVISION:
        return nullcontext()

    def statement(began_at: datetime, seconds: float) -> Statement:
        text = sanitise.shown(one.text, dialect)
        return Statement(sanitise.operation(text), text, began_at, seconds, revision=one.revision)

    return telling.told(on_sent, statement)
