"""What a backfill that did not come to its end has left on a target that a rollback has taken back."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL

from orchestrator.databases.base import Guard, Place
from orchestrator.databases.questions import NO_TABLE, ROWS, VERIFY
from orchestrator.errors import TargetError
from orchestrator.history import checkpoints
from orchestrator.plan.steps import Direction
from orchestrator.rollout.state import BACKFILL_LEFT, Failure

SECONDS = 10.0
_REMEDY = (
    "start the rollout again: {goes_on}; where revisions before it were taken back, it stops first and has two "
    "statements, for rows that still are so and for rows that are not. To have the rows as they were, let it come to "
    "its end and then downgrade, where its downgrade undoes them, or undo them by SQL"
)


@dataclass(frozen=True, slots=True)
class Left:
    """Rows of one table that one backfill has changed. `state`: of its checkpoint; `schema`: None for the target's."""

    revision: str
    state: str
    name: str
    table: str
    schema: str | None
    rows: int


async def left(
    place: Place, guard: Guard, revisions: Collection[str], direction: Direction, *, moved: bool
) -> Failure | None:
    """Rows that backfills of these revisions have changed though the revisions were never applied, so that no way back
    undoes them; None: none are known. `moved`: others were taken back, and may have taken the rows with them.

    Asks the database itself: what a daemon remembers may be a batch old. Raises TargetError where it does not answer.
    """
    version_table, schema = place.target.version_table, place.target.version_table_schema or place.target.schema
    found = await _unfinished(place, guard, checkpoints.table_of(version_table, schema), revisions, direction)
    there = {(one.schema, one.table) for one in found}
    there = {it for it in sorted(there, key=str) if await _is_there(place, guard, *it)}
    told = [one for one in found if (one.schema, one.table) in there]
    return _failure(told, moved) if told else None


def _failure(told: Sequence[Left], moved: bool) -> Failure:
    """
    >>> print(_failure([Left("c3d5", "running", "tickets", "tickets", None, 1200)], False).message.partition(":")[0])
    1,200 rows of tickets stay as the backfill of revision c3d5 has changed them
    """
    tables = Counter[str]()
    for one in told:
        tables[one.name] += one.rows
    revisions = list(dict.fromkeys(one.revision for one in told))
    rows = _listed([f"{n:,} {'row' if n == 1 else 'rows'} of {table}" for table, n in tables.items()])
    stay, them = ("stays", "it") if tables.total() == 1 else ("stay", "them")
    of = f"revision {revisions[0]}" if len(revisions) == 1 else f"revisions {_listed(revisions)}"
    unless = ", unless what was taken back has removed what it had filled" if moved else ""
    states = {one.state for one in told}
    came_to_its_end = states == {"finished"}
    stopped = "it was stopped before its end" if "running" in states else "it was stopped, before its end or right then"
    message = (
        f"{rows} {stay} as the backfill of {of} has changed {them}: "
        f"{'it came to its end' if came_to_its_end else stopped}, and what was never applied has no downgrade to be "
        f"run{unless}"
    )
    goes_on = "what is done is not done again" if came_to_its_end else "it goes on behind the last row that was changed"
    return Failure(BACKFILL_LEFT, message, _REMEDY.format(goes_on=goes_on), revision=revisions[0])


def _listed(parts: Sequence[str]) -> str:
    """
    >>> _listed(["a"]), _listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last


async def _unfinished(
    place: Place, guard: Guard, table: sa.Table, revisions: Collection[str], direction: Direction
) -> Sequence[Left]:
    """Asked in pieces, since an answer has few rows. Nobody else writes there meanwhile: the target is ours."""
    it = table.c
    asked = (
        sa.select(it.revision, it.state, it.table_name, it.touched, it.rows_changed)
        .where(it.revision.in_(sorted(revisions)), it.direction == direction, it.applied.is_(sa.false()))
        .where(it.rows_changed > 0)
        .order_by(it.revision, it.ordinal)
        .limit(ROWS)
    )
    found: list[Left] = []
    while answer := await answers(place, guard, asked.offset(len(found))):
        found += [_left(row) for row in answer]
        if len(answer) < ROWS:
            break
    return found


async def crossed(place: Place, guard: Guard, direction: Direction) -> bool:
    """Whether backfills that went the other way were begun and not brought to their end. Of these more is to be seen to
    than SQL that was compiled for all targets can tell: see `history.lives`. Raises TargetError."""
    table = checkpoints.table_of(place.target.version_table, place.target.version_table_schema or place.target.schema)
    theirs = table.c.direction != direction, table.c.applied.is_(sa.false())
    return bool(await answers(place, guard, sa.select(table.c.revision).where(*theirs)))


def _left(row: Sequence[object]) -> Left:
    revision, state, name, touched, rows = map(str, row)
    what = json.loads(touched)
    return Left(revision, state, name, what["table"], what["schema"], int(rows))


async def _is_there(place: Place, guard: Guard, schema: str | None, table: str) -> bool:
    """Whether the table is: the way back may have removed it."""
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
