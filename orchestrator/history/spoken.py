"""Statements in both of their forms: as text with the values in it, to be sent in env.py's place, and as digests of
what env.py's driver is handed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Dialect

from orchestrator.history import handed
from orchestrator.history.literals import Literals, Pieces
from orchestrator.history.rehearsal import Rehearsal


@dataclass(frozen=True, slots=True)
class Spoken:
    """One statement: `texts` is the SQL that replay sends, `wire` the digests of what env.py's driver is handed."""

    texts: tuple[str, ...]
    wire: tuple[str, ...]


class Speaker:
    """`literals` makes the text; `rehearsed` is a dialect as env.py's connection has it."""

    def __init__(self, literals: Literals, rehearsed: Dialect) -> None:
        self._literals, self._rehearsal = literals, Rehearsal(rehearsed)

    def pieces(self, construct: Any, parameters: Mapping[str, Any]) -> Pieces:
        """As `Literals.pieces`."""
        return self._literals.pieces(construct, parameters)

    def spoken(self, texts: Sequence[Pieces], construct: Any, parameters: Any) -> Spoken:
        """A statement that is given parameters, one set of them or many at once, with its text for each set.

        Raises UnfaithfulError where a text does not mean what the driver is handed, and what SQLAlchemy raises.
        """
        dialect, sent = self._rehearsal.dialect, self._rehearsal.of(construct, parameters)
        handed.prove(texts, sent, dialect)
        written = handed.written(texts, sent, dialect)
        return Spoken(written, tuple(handed.digest(one, dialect) for one in sent))
