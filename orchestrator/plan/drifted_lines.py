"""What one schema has and another has not, line by line, within bounds. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal, NamedTuple

from orchestrator.observe import redact_sql
from orchestrator.observe.plain import escaped
from orchestrator.plan.catalog import Line

LONGEST = 300
# Characters that are shown before two texts part.
_BEFORE = 60
# Characters around the place where they part that secrets are looked for in: a function's text may have millions.
_LOOKED_BEFORE, _LOOKED_AFTER = 64_000, 16_000


class Changed(NamedTuple):
    """`-`: only the reference has it; `+`: only the target."""

    sign: Literal["-", "+"]
    text: str

    def __str__(self) -> str:
        return f"{self.sign} {self.text}"


class Difference(NamedTuple):
    """The first of the lines that differ, and how many these are."""

    lines: tuple[Changed, ...]
    total: int


def difference(reference: Iterable[Line], target: Iterable[Line], most: int) -> Difference:
    """Lines about the same thing stand together. What may be a secret in them is masked, what does not print is written
    as Python writes it, and long ones are cut.

    >>> old, new = Line("column | note | text", "t", "note"), Line("column | note | int", "t", "note")
    >>> print(*difference([old], [new], 9).lines, sep="\\n")
    - column | note | text
    + column | note | int
    """
    theirs, ours = Counter(reference), Counter(target)
    gone, new = list((theirs - ours).elements()), list((ours - theirs).elements())
    changed = [(_order(line), 0, line) for line in gone] + [(_order(line), 1, line) for line in new]
    partners = ({_order(line): line for line in new}, {_order(line): line for line in gone})
    first = sorted(changed)[:most]
    shown = [_shown(number, line, partners[number].get(order)) for order, number, line in first]
    return Difference(tuple(shown), len(changed))


def _order(line: Line) -> tuple[str, ...]:
    kind = line.text.partition(" | ")[0]
    return line.space, line.relation, kind, line.part


def _shown(number: int, line: Line, other: Line | None) -> Changed:
    parting = _common(line.text, other.text) if other is not None else 0
    text = _written(line, parting)
    if len(text) > LONGEST:
        start = _common(text, _written(other, parting)) if other is not None else 0
        text = _cut(text, max(0, start - _BEFORE))
    return Changed("+" if number else "-", text)


def _near(text: str, place: int) -> str:
    """The text's beginning, which says what it is, and what is near to a place in it."""
    start, end = place - _LOOKED_BEFORE, place + _LOOKED_AFTER
    return text[:end] if start <= LONGEST else f"{text[:LONGEST]} … {text[start:end]}"


def _written(line: Line, parting: int) -> str:
    """On one line; it is masked before, since the end of a line ends a comment."""
    column = line.part if line.text.startswith("column |") else None
    return escaped(" ".join(redact_sql.text(_near(line.text, parting), column).split()))


def _common(one: str, other: str) -> int:
    """How many characters two texts have in common before they part.

    >>> _common("abcd", "abxd"), _common("ab", "abc"), _common("a", "b")
    (2, 2, 0)
    """
    same, most = 0, min(len(one), len(other))
    while same < most:
        middle = (same + most + 1) // 2
        if one[same:middle] == other[same:middle]:
            same = middle
        else:
            most = middle - 1
    return same


def _cut(text: str, start: int) -> str:
    """
    >>> _cut("function | f | " + "a" * 400 + "bc", 395)[:30], len(_cut("x" * 1000, 500))
    ('function | f | … aaaaaaaaaaaaa', 300)
    """
    head = text[: text.find(" | ", text.find(" | ") + 3) + 3] if start else ""
    head = f"{head[:_BEFORE]}… " if start > len(head) else ""
    rest = text[start:] if head else text
    room = LONGEST - len(head)
    return head + (rest if len(rest) <= room else f"{rest[: room - 2]} …")
