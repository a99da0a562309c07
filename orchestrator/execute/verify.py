"""What must hold on a target after its migration. The judgements are pure; questions go through the guard's session."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from orchestrator.databases.base import Guard
from orchestrator.databases.questions import VERIFY
from orchestrator.errors import MigrationFailedError, TargetError, TargetLockedError
from orchestrator.execute import answers
from orchestrator.history.revisions import History
from orchestrator.plan.steps import Direction
from orchestrator.registry.model import Heads
from orchestrator.registry.precautions import Assertion, RowGuard, Verification, shortened

# A table's rows by its name as the guard writes it; None: there is no such table.
Counts = Mapping[str, int | None]
FAILURES_SHOWN = 3
_UNKNOWN = "its rows were not counted before the first change, so that nobody knows what they may be now"


def chosen(history: History, steps: Sequence[str], direction: Direction) -> tuple[Verification, ...]:
    """What is verified of these steps: what the track says, and after an upgrade what their revisions say.

    SQL is not asked after a downgrade: what a newer schema promises need not hold any more. Rows still count.
    """
    if direction == "stamp" or not steps:
        return ()
    declared = [*history.track.verify, *(one for step in steps for one in history.verify(step))]
    found = (one for one in declared if one.revision is None or one.revision in steps)
    return tuple(one for one in found if direction == "upgrade" or isinstance(one, RowGuard))


def is_owed(history: History, since: Heads | None, heads: Heads | None) -> bool:
    """Whether a rollout has brought a target to `heads` that has still to be verified: it was cut short before."""
    if since is None or since == (heads or ()):
        return False
    return bool(history.track.verify) or any(file.verify for file in history.snapshot.files)


async def count(guard: Guard, wanted: Sequence[Verification]) -> dict[str, int | None]:
    """The rows of the tables that are guarded. Raises TargetError; nothing was run by then."""
    found: dict[str, int | None] = {}
    for one in wanted:
        if isinstance(one, RowGuard) and one.table not in found:
            try:
                found[one.table] = await guard.count(one.table, one.timeout_seconds)
            except MigrationFailedError as exc:
                exc.message = f"{one.title} could not be counted: {exc.message}; the target was not touched"
                raise
    return found


@dataclass(frozen=True, slots=True)
class Wrong:
    """One thing that does not hold, or could not be asked."""

    of: Verification
    message: str
    code: str | None = None
    retriable: bool = False
    remedy: str | None = None


async def verify(guard: Guard, wanted: Sequence[Verification], before: Counts | None, heads: Heads) -> None:
    """Raises MigrationFailedError of kind `verify` that names what does not hold, and TargetUnreachableError.

    `before`: what `count` found before the first change; None: that is not known any more.
    """
    wrong = [failure for one in wanted if (failure := await _wrong(guard, one, before)) is not None]
    if wrong:
        raise failed(wrong, heads)


def failed(wrong: Sequence[Wrong], heads: Heads) -> MigrationFailedError:
    """The failure in words. It is final if but one thing is really wrong."""
    final = [one for one in wrong if not one.retriable]
    first = (final or wrong)[0]
    shown = [f"{shortened(one.of.title)!r} {one.message}" for one in (final or wrong)[:FAILURES_SHOWN]]
    more = len(final or wrong) - len(shown)
    rest = f", and {more} more" if more else ""
    return MigrationFailedError(
        f"verification failed: {'; '.join(shown)}{rest}. The revisions stay applied: the target is at "
        f"{', '.join(heads) or 'base'}",
        kind=VERIFY,
        revision=first.of.revision,
        statement=first.of.sql if isinstance(first.of, Assertion) else first.of.title,
        remedy=first.remedy
        or "look at the target; correct it or what is asked, then retry: nothing is run, only asked again",
        retriable=not final,
    )


async def _wrong(guard: Guard, one: Verification, before: Counts | None) -> Wrong | None:
    try:
        if isinstance(one, Assertion):
            rows = await guard.ask(one.sql, one.timeout_seconds)
            message = judged(one, rows, booleans=guard.rules.dialect == "postgresql")
        elif before is None or one.table not in before:
            remedy = "compare the table with a backup yourself: no retry can tell any more"
            return Wrong(one, _UNKNOWN, remedy=remedy)
        else:
            message = judged_rows(one, before[one.table], await guard.count(one.table, one.timeout_seconds))
    except TargetLockedError as exc:
        return Wrong(one, exc.message, retriable=True, remedy=exc.remedy)
    except TargetError as exc:
        if exc.kind != VERIFY:
            raise
        return Wrong(one, exc.message, exc.code, remedy=exc.remedy)
    return Wrong(one, message) if message is not None else None


def judged(assertion: Assertion, rows: Sequence[tuple[object, ...]], *, booleans: bool = True) -> str | None:
    """What is wrong with an answer; None when the assertion holds. `booleans` as in `answers`.

    >>> judged(Assertion("SELECT count(*) FROM plans", expect="3"), [(3,)])
    >>> judged(Assertion("SELECT count(*) FROM plans", expect="3"), [(4,)])
    'gave 4, not 3'
    >>> judged(Assertion("SELECT count(*) FROM plans"), [(1,)])
    'gave 1, not true, which no number is here: give `expect`'
    >>> judged(Assertion("SELECT true"), [])
    'gave no row'
    """
    if not rows:
        return "gave no row"
    if len(rows) > 1:
        return "gave more than one row"
    value = rows[0][0] if rows[0] else None
    if assertion.expect is not None:
        wanted, holds = shortened(assertion.expect), answers.equals(value, assertion.expect, booleans=booleans)
    else:
        hint = ", which no number is here: give `expect`" if booleans and answers.is_number(value) else ""
        wanted, holds = f"true{hint}", answers.is_true(value, booleans=booleans)
    return None if holds else f"gave {answers.shown(value)}, not {wanted}"


def judged_rows(guard: RowGuard, before: int | None, after: int | None) -> str | None:
    """What is wrong with a table's rows; None when all is well.

    >>> judged_rows(RowGuard("orders", may="grow", within_percent=1), 1000, 990)
    >>> judged_rows(RowGuard("orders", may="grow", within_percent=1), 1000, 989)
    'has 989 rows of 1000 before; it may lose 10 at most'
    """
    if after is None:
        return "is not there" if before is None else f"had {before} rows, and is not there any more"
    if before is None:
        return None  # it was made just now
    free = _tolerance(guard, before)
    if guard.may != "shrink" and after < before - free:
        return f"has {after} rows of {before} before; it may lose {free} at most"
    if guard.may != "grow" and after > before + free:
        return f"has {after} rows, and had {before} before; it may gain {free} at most"
    return None


def _tolerance(guard: RowGuard, before: int) -> int:
    if guard.within_percent is not None:
        return int(Decimal(str(guard.within_percent)) * before / 100)
    return guard.within_count or 0


def guards(wanted: Sequence[Verification]) -> Iterator[RowGuard]:
    """Those that are counted before."""
    yield from (one for one in wanted if isinstance(one, RowGuard))
