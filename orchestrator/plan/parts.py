"""A plan's SQL to be looked at: its statements, each with its revision, as they share transactions. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from orchestrator.plan.compiled import Begun, Move, Script, Segment
from orchestrator.plan.tokens import Table


class Statement(NamedTuple):
    """One text as a revision sends it."""

    revision: str
    text: str


class Part(NamedTuple):
    """Statements of one transaction, or such as are sent each for itself."""

    transactional: bool
    statements: tuple[Statement, ...]


def parts(segments: Iterable[Segment]) -> tuple[Part, ...]:
    """What the scripts among the segments send of revisions; nothing of version tables."""
    found = (Part(one.transactional, tuple(_statements(one))) for one in segments if isinstance(one, Script))
    return tuple(part for part in found if part.statements)


def _statements(script: Script) -> Iterator[Statement]:
    revision = script.continues or ""
    for item in script.items:
        if isinstance(item, Begun):
            revision = item.revision
        elif not isinstance(item, Move):
            yield Statement(revision, item)


class Size(NamedTuple):
    """A table at one tenant, by the catalog's statistics. `types` of some columns; `filled`: those that have no NULL,
    as a constraint says."""

    tenant: str
    rows: float
    bytes: float
    types: Mapping[str, str] = {}
    filled: frozenset[str] = frozenset()


class Sized(NamedTuple):
    """What the session to one database has read. `version`: the server's major one, None where nobody needs it."""

    version: int | None
    tables: Sequence[tuple[Table, Size]]
