"""What a backfill that did not come to its end has left on a target that a rollback has taken back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL

from orchestrator.databases.base import Guard, Place
from orchestrator.databases.questions import NO_TABLE, VERIFY
from orchestrator.errors import TargetError
from orchestrator.history import checkpoints
from orchestrator.plan.steps import Direction
from orchestrator.rollout.state import BACKFILL_LEFT, Failure

SECONDS = 10.0
_REMEDY = (
    "start the rollout again: it goes on behind the last row that was changed; where revisions before it were taken "
    "back, it stops first and has two statements, for rows that still are so and for rows that are not. To have the "
    "rows as they were, let it come to its end and then downgrade, where its downgrade undoes them, or undo them by SQL"
)


async def left(
    place: Place, guard: Guard, revisions: Collection[str], direction: Direction, *, moved: bool
) -> Failure | None:
    """Rows that backfills of these revisions have changed though the revisions were never applied, so that no way back
    undoes them; None: none are known. `moved`: others were taken back, and may have taken the rows with them.

    Asks the database itself: what a daemon remembers may be a batch old. Raises TargetError where it does not answer.
    """
    version_table, schema = place.target.version_table, place.target.version_table_schema or place.target.schema
    found = await answers(place, guard, _unfinished(version_table, schema, revisions, direction))
    told = [
        (str(revision), str(table), int(str(rows)))
        for revision, table, rows in found
        if await _is_there(place, guard, str(table))
    ]
    return _failure(told, moved) if told else None


def _failure(told: Sequence[tuple[str, str, int]], moved: bool) -> Failure:
    """
    >>> print(_failure([("c3d5", "tickets", 1200)], False).message.partition(":")[0])
    1,200 rows of tickets stay as the backfill of revision c3d5 has changed them
    """
    rows = " and ".join(f"{n:,} {'row' if n == 1 else 'rows'} of {table}" for _, table, n in told)
    revision = told[0][0]
    stay, them = ("stays", "it") if sum(n for *_, n in told) == 1 else ("stay", "them")
    unless = ", unless what was taken back has removed what it had filled" if moved else ""
    message = (
        f"{rows} {stay} as the backfill of revision {revision} has changed {them}: it was stopped before its end, and "
        f"what was never applied has no downgrade to be run{unless}"
    )
    return Failure(BACKFILL_LEFT, message, _REMEDY, revision=revision)


def _unfinished(
    version_table: str, schema: str | None, revisions: Collection[str], direction: Direction
) -> sa.Select[Any]:
    table = checkpoints.table_of(version_table, schema)
    it = table.c
    ours = it.revision.in_(sorted(revisions)), it.direction == direction, it.applied.is_(sa.false())
    grouped = sa.select(it.revision, it.table_name, sa.func.sum(it.rows_changed)).where(*ours, it.rows_changed > 0)
    return grouped.group_by(it.revision, it.table_name).order_by(it.revision, it.table_name)


async def crossed(place: Place, guard: Guard, direction: Direction) -> bool:
    """Whether backfills that went the other way were begun and not brought to their end. Of these more is to be seen to
    than SQL that was compiled for all targets can tell: see `history.lives`. Raises TargetError."""
    table = checkpoints.table_of(place.target.version_table, place.target.version_table_schema or place.target.schema)
    theirs = table.c.direction != direction, table.c.applied.is_(sa.false())
    return bool(await answers(place, guard, sa.select(table.c.revision).where(*theirs)))


async def _is_there(place: Place, guard: Guard, name: str) -> bool:
    """Whether the table is: the way back may have removed it."""
    schema, _, table = name.rpartition(".")
    known = sa.table(table, schema=schema or place.target.schema)
    return bool(await answers(place, guard, sa.select(sa.exists(sa.select(sa.literal(1)).select_from(known)))))


async def answers(place: Place, guard: Guard, question: sa.Select[Any]) -> Sequence[tuple[object, ...]]:
    """The first two rows; none where there is no such table. Raises TargetError."""
    # Named parameters, so that a percent sign in a name stays as it is.
    made: Callable[..., sa.Dialect] = URL.create(place.url.get_backend_name()).get_dialect()
    dialect = made(paramstyle="named")
    text = str(question.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
    try:
        return await guard.ask(text, SECONDS)
    except TargetError as exc:
        if exc.kind == VERIFY and exc.code in NO_TABLE:
            return ()
        raise
