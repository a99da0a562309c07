"""A share's migrations that have not started yet, in order, by the database they are for."""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from itertools import count

from orchestrator.execute.slots import IsFree
from orchestrator.rollout.state import Migration


class Pending:
    """Implements `slots.Wanted`: one whose database is at its limit is passed over, and keeps its place."""

    def __init__(self, migrations: Iterable[tuple[Migration, str]], numbers: Iterable[int] | None = None) -> None:
        """The migrations in order, each with its database; `numbers`: their places where others are among them."""
        self._waiting: dict[str, deque[tuple[int, Migration]]] = defaultdict(deque)
        for number, (migration, database) in zip(count() if numbers is None else numbers, migrations, strict=False):
            self._waiting[database].append((number, migration))
        self._heads = [(lane[0][0], database) for database, lane in self._waiting.items()]
        heapq.heapify(self._heads)

    def __bool__(self) -> bool:
        return bool(self._heads)

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def __iter__(self) -> Iterator[tuple[int, Migration, str]]:
        """Those that wait, in no order, with place and database."""
        return ((number, one, database) for database, lane in self._waiting.items() for number, one in lane)

    def first(self, is_free: IsFree) -> str | None:
        """The database of the first migration that may start."""
        head = self.head(is_free)
        return None if head is None else head[1]

    def head(self, is_free: IsFree) -> tuple[int, str] | None:
        """The same with its place."""
        passed = []
        found = None
        while self._heads and found is None:
            head = heapq.heappop(self._heads)
            passed.append(head)
            if is_free(head[1]):
                found = head
        for head in passed:  # as many as there are databases at their limit
            heapq.heappush(self._heads, head)
        return found

    def place(self, database: str) -> int | None:
        """The place of the first migration of that database."""
        lane = self._waiting.get(database)
        return lane[0][0] if lane else None

    def take(self, database: str) -> Migration:
        """The first migration of that database, which no longer waits. Raises KeyError when there is none."""
        lane = self._waiting[database]
        if not lane:
            raise KeyError(database)
        head = (lane[0][0], database)
        passed = []
        while (one := heapq.heappop(self._heads)) != head:
            passed.append(one)
        _, migration = lane.popleft()
        if lane:
            passed.append((lane[0][0], database))
        else:
            del self._waiting[database]
        for one in passed:
            heapq.heappush(self._heads, one)
        return migration
