"""What the loop that changes rows and whoever throttles it say to each other. All of it is pickled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Kind = Literal["set", "rows", "sql"]
Direction = Literal["upgrade", "downgrade"]
# Why the server would not have a batch; what it did is rolled back.
Refusal = Literal["lock_timeout", "statement_timeout", "deadlock"]


@dataclass(frozen=True, slots=True)
class Backfill:
    """One backfill of a revision; `ordinal` counts those of the revision from 1. `batch_size` is what the revision
    asks for to begin with, in rows. `table` is as messages name it, with its schema where the revision gives one."""

    revision: str
    direction: Direction
    ordinal: int
    kind: Kind
    table: str
    key: tuple[str, ...]
    batch_size: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a backfill has come on one target, as its checkpoint says.

    `seen`: rows that its batches have passed; `changed`: those that they changed. `estimated`: how many rows it will
    have passed in the end; None where nobody knows. `sweep`: 0 for the first pass, then the number of the sweep for
    rows that came later. `last_key`: the last row's key, as JSON. `dead_rows`: rows of the table that wait for vacuum,
    and `vacuuming`: whether one is at work on it; None where the database does not tell.
    """

    finished: bool = False
    seen: int = 0
    changed: int = 0
    estimated: int | None = None
    sweep: int = 0
    last_key: str | None = None
    dead_rows: int | None = None
    vacuuming: bool | None = None


@dataclass(frozen=True, slots=True)
class Ran:
    """A batch that was committed: rows that it was made for, passed and changed; seconds from its first statement to
    its commit. `size` may be more than `seen` in the last batch."""

    size: int
    seen: int
    changed: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Refused:
    """A batch that was rolled back; `seconds` as for one that ran."""

    size: int
    reason: Refusal
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """What the loop says before a batch and after the last one: where it is, and what came of the batch before; `last`
    is None before the first batch, and where the loop was told to wait. `unasked`: the batches between the one that was
    asked for and `last`, see `Go`. `waits`: why the loop itself does not go on, in words; then a `Go` only means that
    nobody else has anything against it."""

    backfill: Backfill
    progress: Progress
    last: Ran | Refused | None = None
    waits: str | None = None
    unasked: tuple[Ran, ...] = ()


@dataclass(frozen=True, slots=True)
class Go:
    """The next batch may go, for so many rows at most. For `seconds` from then on, more of the same size may follow
    without a question, until one is refused."""

    size: int
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Wait:
    """Not yet: ask again in so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop before the next batch; the checkpoint stays, and the next run goes on from it.

    `kind`: `stopped` where somebody or something wants it to go on later, `aborted` where a person ended it, `too_slow`
    where the smallest batch is still refused. `reason` in words.
    """

    kind: Literal["stopped", "aborted", "too_slow"]
    reason: str


Answer = Go | Wait | Stop


class Pacer(Protocol):
    """Decides when the next batch goes, and how large it is."""

    def ask(self, report: Report) -> Answer:
        """Called from the thread that migrates, before each batch that no `Go` has let pass, and after the last
        (`finished`), before what comes after it. May block for a second or so; what takes longer is a `Wait`."""
        ...
