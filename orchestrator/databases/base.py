"""The small protocol behind which the kinds of databases stand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

import anyio
from sqlalchemy.engine import URL

from orchestrator.databases.dumper import Dumper
from orchestrator.databases.occupancy import Occupancy
from orchestrator.errors import TargetError, TargetUnreachableError
from orchestrator.events import Statement
from orchestrator.plan.catalog import Catalog
from orchestrator.plan.compiled import Compiled, Online, Script
from orchestrator.registry.model import Heads, Target
from orchestrator.sessions import SessionRules

# Told what a target's version table holds (None: there is none), or why it cannot be read.
Found = Callable[[Target, Heads | None, TargetError | None], None]
# So many tables are named at most, to say that a place is not empty.
NAMES = 6


@dataclass(frozen=True, slots=True)
class Limits:
    """Durations of a migrating session, in seconds; `build_timeout` is that of statements that build an index."""

    connect: float = 10.0
    lock_wait: float = 10.0
    lock_timeout: float = 2.0
    statement_timeout: float = 3600.0
    build_timeout: float = 86_400.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a migration may wait for locks in a transaction, in seconds, while others wait behind it. `pause` is
    that between two looks.

    >>> Patience(2.0).pause, Patience(2.0).enough, Patience(60.0).pause
    (0.25, 1.625, 1.0)
    """

    seconds: float

    @property
    def pause(self) -> float:
        return min(1.0, self.seconds / 8)

    @property
    def enough(self) -> float:
        """Who has waited for so long would have waited too long at the next look but one."""
        return self.seconds - 1.5 * self.pause


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Of other targets: their version tables in the same place, and the schemas of the database that are tenants'."""

    version_tables: frozenset[str] = frozenset()
    schemas: tuple[str, ...] = ()

    def leave(self, names: Sequence[str]) -> tuple[str, ...]:
        """A few of the names of tables that are there; none where one is a neighbour's version table: they may be its.

        >>> Neighbours(frozenset({"theirs"})).leave(["orders", "theirs"])
        ()
        """
        return () if self.version_tables.intersection(names) else tuple(names[:NAMES])


@dataclass(frozen=True, slots=True)
class Place:
    """A target with the URL that leads to it. `url` holds the secret; its repr hides the password.

    `neighbours` tells who else is known to live there; it is asked where it has no version table.
    """

    target: Target
    url: URL
    limits: Limits
    neighbours: Callable[[], Neighbours] = Neighbours

    @property
    def name(self) -> str:
        """Host, port and database for messages: no user, no password."""
        host = f"{self.url.host}:{self.url.port}" if self.url.port else self.url.host
        return f"{self.url.database!r} on {host}" if host else repr(self.url.database)


class Replayer(Protocol):
    """Sends compiled SQL under the guard's lock, and tells of the schema that came out."""

    @property
    def server(self) -> str:
        """The server's version, as far as two of them may tell of one schema differently, or take other SQL."""
        ...

    async def is_for_env_py(self) -> bool:
        """Whether env.py has to run on this target, whatever is compiled: there are checkpoints of backfills, which no
        step may pass unseen where the database does not tell that it did (`history.lives`).

        Raises TargetUnreachableError, and TargetLockedError, retriable.
        """
        ...

    async def replay(
        self,
        scripts: tuple[Script, ...],
        create_version: str | None,
        on_done: Callable[[tuple[str, ...], float], None],
        on_lasting: Callable[[str], Awaitable[None]],
        on_sent: Callable[[Statement], None] | None = None,
    ) -> None:
        """Send the scripts in order; `on_done` is told which revisions are complete, and the seconds since the last;
        `on_lasting` is awaited before the first message after which something of a revision stays whatever becomes of
        the rest; `on_sent` is told of each message that holds statements of revisions, also of one that fails.

        Raises HeadsChangedError, retriable, when the version table does not hold what the scripts begin with;
        TargetUnreachableError when the session is lost; MigrationFailedError for what the server refused: of kind
        `REPLAY_REFUSED` when that left nothing behind, since its transaction was rolled back, and otherwise with the
        revision and the statement. When this is cancelled, the session is ended on the server.
        """
        ...

    async def state(self) -> Mapping[str, str]:
        """What `SessionRules.state` tells of the session that replays. Raises TargetUnreachableError."""
        ...

    async def fingerprint(self) -> tuple[str, ...]:
        """The schema as lines, equal for targets whose schemas are equal. Raises TargetUnreachableError."""
        ...


# The kind of the error when the server refused a transaction of compiled SQL, which env.py may try in its turn.
REPLAY_REFUSED = "replay_refused"


class Guard(Protocol):
    """The session that proves where the target is and holds its lock for the whole migration.

    `lost` is set when the session has ended against our will, or, by who watches it, when it answers no more: then
    the lock is gone as well, or goes with the connection.
    """

    lost: anyio.Event

    @property
    def replayer(self) -> Replayer | None:
        """What sends compiled SQL on this session; None where that cannot be done."""
        ...

    @property
    def rules(self) -> SessionRules:
        """What every other connection to the target must fulfil while this guard holds the lock."""
        ...

    @property
    def dumper(self) -> Dumper:
        """What backs the target up by the database's own means."""
        ...

    async def ask(self, question: str, seconds: float) -> Sequence[tuple[object, ...]]:
        """The first rows of a question, two at most, in a transaction that reads only and ends at once.

        Raises MigrationFailedError of kind `verify` for what the server refuses, or what takes longer than `seconds`,
        with a message that shows none of the target's data; TargetLockedError, retriable, when a table is locked; and
        TargetUnreachableError.
        """
        ...

    async def count(self, table: str, seconds: float) -> int | None:
        """The number of rows of `table`, or `schema.table`, as it is written; None: there is none. Raises as `ask`."""
        ...

    async def heads(self) -> Heads | None:
        """What the version table holds; None when there is no version table.

        Raises TargetUnreachableError (at once when the guard is lost), and TargetLockedError, retriable, when another
        session keeps the version table locked.
        """
        ...

    async def tables(self) -> tuple[str, ...]:
        """A few names of tables and views that are there besides version tables, whose targets are not known.

        Asked where there is no version table. Raises TargetUnreachableError.
        """
        ...

    async def make_schema(self) -> None:
        """Make the tenant's schema within its database, where it has one and it is missing.

        Raises TargetUnreachableError when it is not to be made (`Target.create_schema`), or may not be.
        """
        ...

    async def blockers(self, backends: Sequence[int]) -> str | None:
        """Who keeps the given backends waiting, in words; None when nobody does. Also proves that we live.

        Raises TargetUnreachableError when the guard is lost or gives no answer in time.
        """
        ...

    @property
    def patience(self) -> Patience | None:
        """How long it may wait for locks while others wait behind it; None where that is not looked after."""
        ...

    async def give_way(self, backends: Sequence[int], note: Callable[[str | None], None]) -> None:
        """Cancel what one of the backends waits for where they have waited for longer than `patience`, and somebody
        waits behind them; nothing where there is no `patience`. To be asked again and again, from the beginning of a
        migration.

        `note` is told why, in words, before that is done, and None where it was not. Raises TargetUnreachableError.
        """
        ...

    async def invalid_indexes(self) -> tuple[str, ...]:
        """The first few indexes that were to be built concurrently and are not whole, as SQL names them; without those
        that somebody is building. Raises TargetUnreachableError.
        """
        ...

    async def end_backends(self, backends: Sequence[int]) -> None:
        """End other sessions of this migration and wait until they are gone, at most some seconds.

        Works without the guard's own connection, and never raises: it is called when things are already wrong.
        """
        ...


class Database(Protocol):
    """One kind of database."""

    def script(self, place: Place, compiled: Compiled) -> tuple[str | Online, ...]:
        """What would be sent to the target, message by message and byte for byte, and what env.py runs in between."""
        ...

    async def server(self, place: Place) -> str:
        """What `Replayer.server` tells of the target's server, asked only where SQL hangs on it. Raises
        TargetUnreachableError; and MigrationFailedError, with the reason, where nothing is replayed."""
        ...

    async def read_heads(self, place: Place) -> Heads | None:
        """What the target's version table holds, in a short session of its own; None: no version table.

        Raises TargetUnreachableError, WrongDatabaseError, and TargetLockedError as `Guard.heads`.
        """
        ...

    async def read_many(self, places: Sequence[Place], found: Found) -> None:
        """As `read_heads`, for targets that live in one database, in one session; `found` is called for each.

        Raises TargetError when the rest of them cannot be read.
        """
        ...

    async def catalog(self, place: Place, beside: Sequence[Place]) -> Catalog:
        """The target's schema as lines, with the heads that it claims to be at, in a short session that reads only.
        `beside`: the targets of other tracks in the same place.

        Raises TargetLockedError while it is being migrated, and as `read_heads`.
        """
        ...

    async def occupancy(self, place: Place) -> Occupancy | None:
        """Who has the server's connections, asked in a short session; None where there is no server.

        Raises TargetUnreachableError: when it has none left, one that `occupancy.is_full`.
        """
        ...

    def looking(self, place: Place) -> SessionRules:
        """What a session that only looks at the target must fulfil, with or without a guard."""
        ...

    def guard(self, place: Place) -> AbstractAsyncContextManager[Guard]:
        """Connect, prove identity, take the target's lock, and end what an earlier, killed run left behind.

        Raises TargetUnreachableError, WrongDatabaseError, and TargetLockedError: naming the holder when the lock was
        not to be had within `limits.lock_wait`, or, retriable, naming what was left behind and does not end.
        """
        ...


def heads_of(place: Place, found: Iterable[object]) -> Heads:
    """What a version table was found to hold. Raises TargetUnreachableError for a row without a revision."""
    heads = sorted("" if head is None else str(head) for head in found)
    if any(not head.strip() for head in heads):
        raise TargetUnreachableError(
            f"the version table of {place.target.key} in database {place.name} has a row without a revision",
            kind="unusable",
            remedy="Alembic writes no such row: see what the table should hold, and delete it",
        )
    return tuple(heads)


async def one_by_one(database: Database, places: Sequence[Place], found: Found) -> None:
    """`Database.read_many` where a session is not worth sharing."""
    for place in places:
        try:
            heads = await database.read_heads(place)
        except TargetError as exc:
            found(place.target, None, exc)
        else:
            found(place.target, heads, None)
