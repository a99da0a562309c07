"""Who has the connections of a server, at one moment: what a shard's head-room is counted from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.errors import TargetError


@dataclass(frozen=True, slots=True)
class Filling:
    """Connections to one database: all of them, those that look like a migration's of ours, and how many may be."""

    used: int
    ours: int
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Occupancy:
    """`most`: connections that the server gives to whoever comes, so without those that it reserves. `used`: those that
    are taken. `account_…`: the same for the user that we connect as, where that has a limit of its own. The connection
    over which this was asked is not counted."""

    most: int
    used: int
    account_most: int | None = None
    account_used: int = 0
    databases: Mapping[str, Filling] = field(default_factory=dict)


# SQLSTATEs and error numbers by which a server says that it, a database or an account has no connection left:
# https://www.postgresql.org/docs/current/errcodes-appendix.html, https://mariadb.com/kb/en/mariadb-error-codes/
_FULL = frozenset({"53300", "1040", "1203", "1226"})


def is_full(exc: TargetError) -> bool:
    """Whether a connection was refused because there are too many.

    >>> is_full(TargetError("sorry, too many clients already", code="53300"))
    True
    """
    return exc.code in _FULL
