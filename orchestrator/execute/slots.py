"""Concurrency limits: over all, of each rollout, each shard and each database of it. Shared fairly.

One slow shard never holds up the others, and a database at its limit never the others of its shard.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import anyio

IsFree = Callable[[str], bool]
Key = TypeVar("Key")


class Wanted(Hashable, Protocol):
    """The databases of one shard for which somebody waits."""

    def first(self, is_free: IsFree) -> str | None:
        """The first database that is free, in the order in which they should come; None when none is."""
        ...


@dataclass(frozen=True, slots=True)
class Only:
    """One database, and no other will do."""

    database: str

    def first(self, is_free: IsFree) -> str | None:
        return self.database if is_free(self.database) else None


@dataclass(frozen=True, slots=True)
class Limits:
    """So many slots of a shard at once (0: none at present), and of each of its databases where that is fewer:
    `per_database` of any, `databases` of those that bear less."""

    shard: int
    per_database: int | None = None
    databases: Mapping[str, int] = field(default_factory=dict)

    def of(self, database: str) -> int:
        """
        >>> limits = Limits(8, 2, {"small": 1})
        >>> limits.of("any"), limits.of("small")
        (2, 1)
        """
        most = self.shard if self.per_database is None else min(self.shard, self.per_database)
        return min(most, self.databases.get(database, most))


@dataclass(eq=False, slots=True)
class Part:
    """One rollout's part of all slots: at most `most` of them at once, None: as many as there are."""

    most: int | None = None


@dataclass(eq=False, slots=True)
class Claim:
    """Somebody waits for a slot; `number` tells who came first."""

    part: Part
    shard: str
    wanted: Wanted
    number: int = 0
    granted: str | None = None
    event: anyio.Event = field(default_factory=anyio.Event)


@dataclass(slots=True)
class Use:
    """The slots in use, counted in each way that has a limit. What is not used is not in the counters."""

    total: int = 0
    parts: Counter[Part] = field(default_factory=Counter)
    shards: Counter[str] = field(default_factory=Counter)
    parts_of_shards: Counter[tuple[Part, str]] = field(default_factory=Counter)
    databases: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, part: Part, shard: str, database: str, number: int = 1) -> None:
        """Count a slot that was taken, or with -1 one that was given back."""
        self.total += number
        _count(self.parts, part, number)
        _count(self.shards, shard, number)
        _count(self.parts_of_shards, (part, shard), number)
        _count(self.databases, (shard, database), number)


def next_claim(claims: Iterable[Claim], use: Use, total: int, limits: Mapping[str, Limits]) -> tuple[Claim, str] | None:
    """Which claim gets the next slot, and for which database; None when none may have one.

    It is that of the rollout and shard that use fewest, then of the shard that uses fewest, then the one that came
    first.
    """
    if use.total >= total:
        return None
    best: tuple[Claim, str] | None = None
    best_rank: tuple[int, int, int] | None = None
    for claim in claims:
        rank = use.parts_of_shards[claim.part, claim.shard], use.shards[claim.shard], claim.number
        if best_rank is not None and rank >= best_rank:
            continue
        database = _open(claim, use, limits[claim.shard])
        if database is not None:
            best, best_rank = (claim, database), rank
    return best


def _open(claim: Claim, use: Use, limits: Limits) -> str | None:
    most, shard = claim.part.most, claim.shard
    if use.shards[shard] >= limits.shard or (most is not None and use.parts[claim.part] >= most):
        return None
    return claim.wanted.first(lambda database: use.databases[shard, database] < limits.of(database))


def _count(counter: Counter[Key], key: Key, number: int) -> None:
    counter[key] += number
    if not counter[key]:
        del counter[key]


# Equal claims: of these, only the oldest need be looked at.
_Lane = tuple[Part, str, Wanted]


class Slots:
    """`total` slots in all, given to claims as `next_claim` says. What changes a limit counts at once for whoever waits
    and comes; what runs goes on, also where it is more than a new limit allows."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.use = Use()
        self._all = Part()
        self._limits: dict[str, Limits] = {}
        self._waiting: dict[_Lane, deque[Claim]] = {}
        self._claims = 0

    def resize(self, total: int) -> None:
        self.total = total
        self._grant()

    def allow(self, part: Part, most: int | None) -> None:
        """Let a rollout have `most` slots at once from now on."""
        part.most = most
        self._grant()

    def limit(self, shard: str, limits: Limits) -> None:
        """The newest ones given count."""
        if self._limits.get(shard) != limits:
            self._limits[shard] = limits
            self._grant()

    def look_again(self) -> None:
        """Whoever waits may want what it did not want before: its hours have come, say."""
        self._grant()

    def running(self, shard: str) -> Mapping[str, int]:
        """The shard's slots in use, by database."""
        return {database: number for (name, database), number in self.use.databases.items() if name == shard}

    async def acquire(self, part: Part, shard: str, wanted: Wanted) -> str:
        """Wait for a slot; returns the database that it is for. The shard must have been given its limits."""
        self._claims += 1
        claim = Claim(part, shard, wanted, self._claims)
        self._waiting.setdefault((part, shard, wanted), deque()).append(claim)
        self._grant()
        try:
            await claim.event.wait()
        except BaseException:
            if claim.granted is not None:
                self.release(part, shard, claim.granted)
            else:
                self._forget(claim)
            raise
        assert claim.granted is not None
        return claim.granted

    def release(self, part: Part, shard: str, database: str) -> None:
        self.use.add(part, shard, database, -1)
        self._grant()

    @asynccontextmanager
    async def slot(self, shard: str, limit: int, database: str = "") -> AsyncIterator[None]:
        """A slot outside of any rollout; `limit` is the shard's."""
        self.limit(shard, Limits(limit))
        await self.acquire(self._all, shard, Only(database))
        try:
            yield
        finally:
            self.release(self._all, shard, database)

    def _grant(self) -> None:
        while True:
            first = (lane[0] for lane in self._waiting.values())
            if (found := next_claim(first, self.use, self.total, self._limits)) is None:
                return
            claim, database = found
            self._forget(claim)
            self.use.add(claim.part, claim.shard, database)
            claim.granted = database
            claim.event.set()

    def _forget(self, claim: Claim) -> None:
        lane = claim.part, claim.shard, claim.wanted
        self._waiting[lane].remove(claim)
        if not self._waiting[lane]:
            del self._waiting[lane]
