"""What a run of env.py has sent to its server, held against what was compiled. Pure.

Neither holds a statement or a value: each statement is a digest of its text and of its values, as a driver is handed
them, and stands in a transaction, or in none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from orchestrator.plan.compiled import Mark, Rendering

# In the place of the digest: the version table was brought along.
MOVE = "version table"
# Of a server that commits DDL by itself: replay has transactions of its own there.
UNCOUNTED = -1
_ELSEWHERE = "the transaction around it begins or ends elsewhere"


class Line(NamedTuple):
    """One statement of a revision, or its move of the version table. `transaction` tells it from others by a number;
    None: it was in none."""

    revision: str
    what: str
    transaction: int | None


Lines = tuple[Line, ...]


def objection(rendering: Rendering, lines: Sequence[Lines]) -> str | None:
    """Why what targets were sent online is not what would be replayed; None where it is."""
    if not lines:
        return None
    counted = not any(line.transaction == UNCOUNTED for one in lines for line in one)
    first, *others, ours = (line if counted else _apart(line) for line in (*lines, expected(rendering)))
    compared = rendered(rendering)
    for other in others:
        if (where := difference(other, first, compared)) is not None:
            return f"targets that were migrated online were not sent the same ({where})"
    where = difference(first, ours, compared)
    return None if where is None else f"what env.py sent is not what was compiled ({where})"


def continued(before: Lines, after: Lines) -> Lines:
    """The lines of one run of env.py and of another after it, each of which has numbered its transactions by itself.

    >>> [line.transaction for line in continued((Line("a", "1f", 0),), (Line("b", "1f", 0), Line("b", "2e", None)))]
    [0, 1, None]
    """
    first = 1 + max((line.transaction for line in before if line.transaction is not None), default=UNCOUNTED)
    numbered = (
        line if line.transaction in (None, UNCOUNTED) else line._replace(transaction=first + line.transaction)
        for line in after
    )
    return (*before, *numbered)


def _apart(lines: Lines) -> Lines:
    return tuple(line._replace(transaction=None) for line in lines)


def rendered(rendering: Rendering) -> frozenset[str]:
    """The revisions that would be sent as they were rendered."""
    return frozenset(step.revision for step in rendering.steps if step.reason is None and step.wire is not None)


def expected(rendering: Rendering) -> Lines:
    """What a run of env.py sends for those."""
    return tuple(_Walk().over(rendering))


def difference(theirs: Sequence[Line], ours: Sequence[Line], revisions: Collection[str]) -> str | None:
    """The first place where these revisions' statements, or the transactions around them, are not the same, in words;
    None where all are.

    >>> one, two = Line("a", "1f", 1), Line("a", "2e", 1)
    >>> difference([one, two], [one._replace(transaction=7), two._replace(transaction=7)], {"a"})
    >>> difference([one, two], [one], {"a"})
    'revision a, statement 2'
    """
    first, second = (_numbered(line for line in lines if line.revision in revisions) for lines in (theirs, ours))
    for place in range(max(len(first), len(second))):
        one, other = (lines[place] if place < len(lines) else None for lines in (first, second))
        if one == other:
            continue
        line = other or one
        assert line is not None
        told = _place(line.revision, first[:place])
        alike = one is not None and other is not None and one[:2] == other[:2]
        return f"{told}: {_ELSEWHERE}" if alike else told
    return None


def _place(revision: str, before: Iterable[Line]) -> str:
    number = 1 + sum(line.revision == revision and line.what != MOVE for line in before)
    return f"revision {revision}, statement {number}"


def _numbered(lines: Iterable[Line]) -> list[Line]:
    """Transactions by their order; the version table is moved once, in however many statements."""
    numbers: dict[int, int] = {}
    found: list[Line] = []
    for line in lines:
        if line.transaction is not None:
            line = line._replace(transaction=numbers.setdefault(line.transaction, len(numbers)))
        if line.what != MOVE or not found or found[-1] != line:
            found.append(line)
    return found


class _Walk:
    def __init__(self) -> None:
        self._number, self._within = 0, False

    def over(self, rendering: Rendering) -> Iterator[Line]:
        self._follow(rendering.before)
        for step in rendering.steps:
            if step.wire is None:
                continue
            body = list(step.wire)
            ending = []
            while body and body[-1] is Mark.COMMIT:  # the version table is written before
                ending.append(body.pop())
            for item in body:
                if isinstance(item, Mark):
                    self._follow([item])
                else:
                    yield self._line(step.revision, item)
            if step.reason is None:
                yield self._line(step.revision, MOVE)
            self._follow(ending)

    def _follow(self, marks: Iterable[str | Mark]) -> None:
        for mark in marks:
            self._number += 1
            self._within = mark is Mark.BEGIN

    def _line(self, revision: str, what: str) -> Line:
        return Line(revision, what, self._number if self._within else None)
