"""Concurrency limits over all shards and per shard, shared fairly: one slow shard never holds up the others."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

import anyio


def next_shard(waiting: Iterable[str], in_use: Mapping[str, int], limits: Mapping[str, int], total: int) -> str | None:
    """Which waiting shard gets the next slot: the one that uses fewest, first come first served among equals.

    >>> next_shard(["slow", "fast"], {"slow": 7, "fast": 0}, {"slow": 8, "fast": 8}, 16)
    'fast'
    """
    if sum(in_use.values()) >= total:
        return None
    free = [shard for shard in waiting if in_use.get(shard, 0) < limits[shard]]
    return min(free, key=lambda shard: in_use.get(shard, 0), default=None)


class Slots:
    """`total` slots over all shards; each shard has its own limit within them."""

    def __init__(self, total: int) -> None:
        self.total = self._first = total
        self.in_use: Counter[str] = Counter()
        self._limits: dict[str, int] = {}
        self._waiting: dict[str, deque[anyio.Event]] = {}

    async def acquire(self, shard: str, limit: int) -> None:
        """Wait for a slot; `limit` is the shard's own, the newest one given counts."""
        self._limits[shard] = limit
        event = anyio.Event()
        self._waiting.setdefault(shard, deque()).append(event)
        self._grant()
        try:
            await event.wait()
        except BaseException:
            if event.is_set():
                self.release(shard)
            else:
                self._forget(shard, event)
            raise

    def resize(self, total: int | None) -> None:
        """Allow so many at once from now on; None: as many as at first."""
        self.total = total or self._first
        self._grant()

    def release(self, shard: str) -> None:
        self.in_use[shard] -= 1
        if not self.in_use[shard]:
            del self.in_use[shard]
        self._grant()

    @asynccontextmanager
    async def slot(self, shard: str, limit: int) -> AsyncIterator[None]:
        await self.acquire(shard, limit)
        try:
            yield
        finally:
            self.release(shard)

    def _grant(self) -> None:
        while (shard := next_shard(self._waiting, self.in_use, self._limits, self.total)) is not None:
            self.in_use[shard] += 1
            event = self._waiting[shard].popleft()
            if not self._waiting[shard]:
                del self._waiting[shard]
            event.set()

    def _forget(self, shard: str, event: anyio.Event) -> None:
        self._waiting[shard].remove(event)
        if not self._waiting[shard]:
            del self._waiting[shard]
