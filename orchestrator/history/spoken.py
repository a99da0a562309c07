"""Statements in both of their forms: as text with the values in it, to be sent in env.py's place, and as digests of
what env.py's driver is handed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Dialect

from orchestrator.history import handed
from orchestrator.history.literals import Literals
from orchestrator.history.rehearsal import Rehearsal


@dataclass(frozen=True, slots=True)
class Spoken:
    """`texts` do what the calls of a cursor do that `wire` stands for."""

    texts: tuple[str, ...]
    wire: tuple[str, ...]


class Speaker:
    """`literals` makes the text; `rehearsed` is a dialect as env.py's connection has it."""

    def __init__(self, literals: Literals, rehearsed: Dialect) -> None:
        self._literals, self._rehearsal = literals, Rehearsal(rehearsed)
        self._gathered: list[list[str]] | None = None

    def one(self, construct: Any, parameters: Mapping[str, Any]) -> Spoken | None:
        """A statement. None while statements are gathered.

        Raises UnfaithfulError where its text does not mean what the driver is handed, and what SQLAlchemy raises.
        """
        pieces = self._literals.pieces(construct, parameters)
        if self._gathered is not None:
            self._gathered.append(pieces)
            return None
        return self.together([pieces], construct, parameters)

    @contextmanager
    def gathering(self) -> Iterator[list[list[str]]]:
        """Within it, texts are kept, for `together`."""
        gathered: list[list[str]] = []
        self._gathered = gathered
        try:
            yield gathered
        finally:
            self._gathered = None

    def pieces(self, construct: Any, parameters: Mapping[str, Any]) -> list[str]:
        """As `Literals.pieces`."""
        return self._literals.pieces(construct, parameters)

    def together(self, texts: Sequence[list[str]], construct: Any, parameters: Any) -> Spoken:
        """These texts, for a statement that is given parameters: one set of them, or many at once."""
        dialect, sent = self._rehearsal.dialect, self._rehearsal.of(construct, parameters)
        handed.prove(texts, sent, dialect, in_columns=self._literals.in_columns)
        written = handed.written(texts, sent, dialect)
        return Spoken(written, tuple(handed.digest(one, dialect) for one in sent))
