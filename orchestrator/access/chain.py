"""The audit's chain: each entry's hash covers the entry and the hash before it. Pure.

An entry is written as canonical JSON (sorted keys, no blanks, ASCII), and that text is what is hashed and kept. So
nothing of it lies outside of its hash, and no database can change it by keeping times or numbers in its own way.

What verification finds: an entry that was edited, deleted, put in or moved, and entries cut off at the end while the
store's note of the last one stayed. What it cannot find by itself: that somebody who can write the store has made the
chain anew from some entry on, or has cut the end off together with that note. For that it needs an *anchor* from
elsewhere: number and hash of an entry, as the log, an export or an earlier verification tell them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

GENESIS = "0" * 64
_ANCHOR = re.compile(r"([0-9]{1,18}):([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Anchor:
    """An entry's number and hash; number 0: the chain before its first entry."""

    sequence: int
    hash: str

    def __str__(self) -> str:
        return f"{self.sequence}:{self.hash}"


START = Anchor(0, GENESIS)


def anchor(text: str) -> Anchor:
    """Raises ValueError.

    >>> str(anchor("0:" + "0" * 64)) == str(START)
    True
    """
    match = _ANCHOR.fullmatch(text.strip())
    if match is None:
        raise ValueError("an anchor is an entry's number and hash, like 42:9f86d0…, as `audit verify` prints it")
    return Anchor(int(match[1]), match[2])


@dataclass(frozen=True, slots=True)
class Row:
    """An entry as the store has it; `text` is its canonical JSON."""

    sequence: int
    text: str
    hash: str

    @property
    def values(self) -> dict[str, Any]:
        """The entry with its hash, as it is shown and exported."""
        return {**_values(self.text), "sequence": self.sequence, "hash": self.hash}


def canonical(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def linked(before: Anchor, values: Mapping[str, Any]) -> Row:
    """The entry that follows `before`."""
    sequence = before.sequence + 1
    text = canonical({**values, "sequence": sequence, "previous": before.hash})
    return Row(sequence, text, hashed(text))


def exported(values: Mapping[str, Any]) -> Row:
    """The row that an exported line stands for. Raises ValueError."""
    rest = {name: value for name, value in values.items() if name != "hash"}
    sequence, given = values.get("sequence"), values.get("hash")
    if type(sequence) is not int or not isinstance(given, str):
        raise ValueError("this is not an entry of an audit: it has no sequence and hash")
    return Row(sequence, canonical(rest), given)


def before(row: Row) -> Anchor:
    """The entry that a row says it follows: where an export begins."""
    previous = _values(row.text).get("previous")
    return Anchor(row.sequence - 1, previous if isinstance(previous, str) else "") if row.sequence > 1 else START


@dataclass(frozen=True, slots=True)
class Break:
    """Where the chain does not hold, and how."""

    sequence: int
    problem: str


@dataclass
class Verification:
    """Follows the chain from `last` on: `read` takes the rows in the order of their numbers, `end` says what was found.

    `anchors` are entries that are known from elsewhere; `began` and `last` are the chain as far as it was read.
    """

    anchors: Sequence[Anchor] = ()
    last: Anchor = START
    entries: int = 0
    breaks: list[Break] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.began = self.last

    def read(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._follow(row)
            for known in self.anchors:
                if known.sequence == row.sequence and known.hash != row.hash:
                    self._break(row.sequence, f"its hash is {row.hash}, and the anchor says {known.hash}")
            self.last = Anchor(row.sequence, row.hash)
            self.entries += 1

    def end(self, before: Anchor | None = None, after: Anchor | None = None) -> Sequence[Break]:
        """`before` and `after`: the store's note of the last entry, read before and after the rows."""
        last = self.last
        if before is not None and before.sequence > last.sequence:
            self._break(last.sequence + 1, f"cut off: the store has noted {before.sequence} entries")
        if after is not None and after.sequence < last.sequence:
            self._break(after.sequence + 1, f"put in: the store has noted {after.sequence} entries")
        if before is not None and before.sequence == last.sequence and before.hash != last.hash:
            self._break(last.sequence, f"its hash is {last.hash}, and the store has noted {before.hash}")
        for known in self.anchors:
            if known.sequence > last.sequence:
                self._break(last.sequence + 1, f"cut off: the anchor is entry {known.sequence}")
            elif known.sequence == self.began.sequence and known.hash != self.began.hash:
                self._break(known.sequence, f"its hash is {self.began.hash}, and the anchor says {known.hash}")
        return self.breaks

    def end_of_store(self, before: Anchor | None, after: Anchor | None) -> Sequence[Break]:
        """As `end`, for a whole store, which always has a note of the last entry: None where that is gone."""
        self.end(before, after)
        if before is None:
            self._break(self.last.sequence, "the store's note of the last entry is gone")
        return self.breaks

    def _follow(self, row: Row) -> None:
        expected = self.last.sequence + 1
        if row.sequence > expected:
            gap = f"{expected}" if row.sequence == expected + 1 else f"{expected} to {row.sequence - 1}"
            self._break(expected, f"missing: {gap}")
        if row.hash != hashed(row.text):
            self._break(row.sequence, "edited: it has another hash than the one that was written")
        values = _values(row.text)
        if values.get("sequence") != row.sequence:
            self._break(row.sequence, f"moved: it was written as entry {values.get('sequence')}")
        elif row.sequence == expected and values.get("previous") != self.last.hash:
            self._break(row.sequence, f"it does not follow entry {self.last.sequence} as that is now")

    def _break(self, sequence: int, problem: str) -> None:
        self.breaks.append(Break(sequence, problem))


def _values(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
