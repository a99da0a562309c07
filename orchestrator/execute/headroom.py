"""How many migrations a server has connections for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.databases.occupancy import Filling, Occupancy
from orchestrator.execute.slots import Limits
from orchestrator.registry.model import Shard

# A migration's own: the guard's and env.py's. One that is replayed needs the first only.
SESSIONS = 2
NAMES = 3


@dataclass(frozen=True, slots=True)
class Room:
    """So many migrations at once (None: as many as the registry allows), and of those `databases` that have limits of
    their own. `cause` is `connections`, `account`, `database` or `full`, and `reason` tells it in words."""

    migrations: int | None = None
    databases: Mapping[str, int] = field(default_factory=dict)
    cause: str = ""
    reason: str = ""

    def limits(self, shard: Shard) -> Limits:
        most = shard.max_concurrent if self.migrations is None else min(self.migrations, shard.max_concurrent)
        return Limits(most, shard.max_per_database, self.databases)


# Until the server has been asked: one can do no harm.
ASKING = Room(1)
UNKNOWN = Room()


def refused(message: str) -> Room:
    """What is known of a server that had no connection even for the question."""
    return Room(0, cause="full", reason=message)


def room(occupancy: Occupancy, reserve: int, running: Mapping[str, int]) -> Room:
    """What a server bears, `reserve` connections left to applications; `running`: our migrations there, by database.

    One may always go on, though it takes what is reserved, unless the server would refuse it.

    >>> room(Occupancy(27, 14), 5, {}).migrations
    4
    >>> room(Occupancy(27, 24), 5, {}).migrations, room(Occupancy(27, 26), 5, {}).migrations
    (1, 0)
    >>> room(Occupancy(27, 14, account_most=1), 5, {}).migrations  # it may be replayed, with one session
    1
    """
    held = {name: _held(name, one, running) for name, one in occupancy.databases.items()}
    ours = sum(held.values())
    others = occupancy.used - ours
    databases = {
        name: _bears(one.most - one.used + held[name], reserve, one.most)
        for name, one in occupancy.databases.items()
        if one.most is not None
    }
    said = f"others use {others} of the server's {occupancy.most} connections, and {reserve} are left to applications"
    found = Room(_bears(occupancy.most - others, reserve, occupancy.most), databases, "connections", said)
    if occupancy.account_most is None:
        return found
    theirs = max(0, occupancy.account_used - ours)
    account = _bears(occupancy.account_most - theirs, 0, occupancy.account_most)
    if found.migrations is not None and found.migrations <= account:
        return found
    said = f"the account may have {occupancy.account_most} connections, and others use {theirs} of them"
    return Room(account, databases, "account", said)


def throttled(found: Room, shard: Shard) -> tuple[str, str]:
    """Cause and reason why fewer run at once than the registry says; empty where that is not so."""
    if found.migrations is not None and found.migrations < shard.max_concurrent:
        return found.cause, found.reason
    full = sorted(name for name, most in found.databases.items() if not most)
    if not full:
        return "", ""
    more = f" and {len(full) - NAMES} more" if len(full) > NAMES else ""
    return "database", f"no connection is left of those that are allowed to database {', '.join(full[:NAMES])}{more}"


def _bears(free: int, reserve: int, most: int) -> int:
    """How many migrations fit into so many connections. One is always left for the next question: were all ours, it
    would be refused, and look as if there was no room at all. Where there are never enough for two sessions, one
    migration may go on when there are as many as can be: it can be replayed with one, and else says what it lacks.
    """
    return 0 if free < max(1, min(SESSIONS, most)) else max(1, (free - max(reserve, 1)) // SESSIONS)


def _held(name: str, filling: Filling, running: Mapping[str, int]) -> int:
    """How many of the connections are those of our running migrations. Others' may look like them, and one that has
    just begun may have none yet."""
    return min(filling.ours, SESSIONS * running.get(name, 0))
